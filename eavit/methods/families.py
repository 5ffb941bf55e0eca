"""Families: one set of weights for all budgets, trained in one or several fits; then a selector chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from eavit.methods.answers import Elastic
from eavit.methods.choosing import Choosing
from eavit.methods.fitting import train, trained_diagnostics
from eavit.methods.recipe import Card, Recipe
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT
from eavit.space.space import Space
from eavit.training.allocation import FixedCost, Phase, allocate, plan_cost
from eavit.training.passes import Plan
from eavit.training.prepare import preparation_cost, prepare, resorted, scoring_cost, start
from eavit.training.task import Task


@dataclass(frozen=True, slots=True)
class PlannedFit:
    """One fit of a family: its phase (:class:`~eavit.training.allocation.Phase`) and what it trains.

    ``sorts``: units sorted by importance before it. ``teacher``: a frozen copy of the weights that this fit starts
    from, or of those that the first fit ended with. ``aside``: it trains a copy, and the family goes on from the
    weights before it.
    """

    name: str
    plan: Plan
    share: float = 1.0
    cycle: tuple[float, float] = (0.0, 1.0)
    sorts: tuple[str, ...] = ()
    teacher: Literal["start", "first"] | None = None
    aside: bool = False


class Family(NamedTuple):
    """A search space and the fits that train it, in order."""

    space: Space
    fits: Sequence[PlannedFit]


Design = Callable[[Sequence[float], Backbone], Family]  # of budgets and full widths


def family_recipe(name: str, card: Card, design: Design, choose: Choosing, importance: str) -> Recipe:
    """Method that prepares, trains a family and chooses from it."""

    def run(task: Task) -> Elastic:
        vit, space, diagnostics = train_family(task, design, choose, importance)
        return choose.answer(task, vit, space, diagnostics)

    return Recipe(name, run, card.with_values({"importance": importance}), lambda b, budgets: design(budgets, b).space)


def train_family(
    task: Task, design: Design, choose: Choosing, importance: str
) -> tuple[NestedViT, Space, dict[str, Any]]:
    """The trained weights, the space and the diagnostics of a family, before anything is chosen."""
    vit = start(task)
    space, fits = design(task.budgets, vit.backbone)
    allocation = allocate(task, *_parts(task, vit.backbone, fits, importance), partial(choose.cost, task, space))
    vit, first, runs = prepare(task, vit, importance), None, []
    for fit in fits:
        if fit.sorts:
            vit = resorted(task, vit, importance, fit.sorts)
        model = deepcopy(vit) if fit.aside else vit
        runs.append(allocation.fit(fit.name))
        train(model, fit.plan, runs[-1], deepcopy(vit) if fit.teacher == "start" else first if fit.teacher else None)
        if first is None and any(other.teacher == "first" for other in fits):
            first = model if fit.aside else deepcopy(model)
    trained = ((fit.plan, run) for fit, run in zip(fits, runs, strict=True) if not fit.aside)
    steps = {run.phase: run.total or 0 for run in runs}
    return vit, space, {"steps": steps, **trained_diagnostics(vit, *trained)}


def _parts(task: Task, backbone: Backbone, fits: Sequence[PlannedFit], importance: str) -> Iterator[Phase | FixedCost]:
    """Costs of the training, in the order in which it runs."""
    yield partial(preparation_cost, task, backbone, importance)
    for fit in fits:
        if fit.sorts:
            yield partial(scoring_cost, task, backbone, importance)
        price = plan_cost(task, backbone, fit.plan, taught=fit.teacher is not None)
        yield Phase(fit.name, price, fit.share, fit.cycle)
