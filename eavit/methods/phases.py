"""What families trained in several fits have in common: shares of a training, re-sorting between fits, reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from eavit.methods.choosing import Choosing, reserve_of
from eavit.methods.recipe import digest_of, fit_on
from eavit.model.importance import UNITS, sorted_by
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT
from eavit.space.space import Space
from eavit.training.coverage import coverage
from eavit.training.prepare import scored
from eavit.training.spending import Portion, batch_of, budget_left, steps_for
from eavit.training.steps import Plan, cost_of_steps
from eavit.training.task import Task
from eavit.training.train import Fit, Span, fit_plan

PROBED = 32  # steps that tell what a step of a phase costs
Spending = Callable[[int], float]  # steps -> MACs of a fit of so many


@dataclass(frozen=True, slots=True)
class Phase:
    """One fit: its part of the method's steps, and the part of a learning-rate cycle that it runs through."""

    name: str  # of its checkpoint, too
    share: float
    cycle: tuple[float, float] = (0.0, 1.0)

    def span(self, steps: int) -> Span:
        begin, end = self.cycle
        before, after = (round(steps * part / (end - begin)) for part in (begin, 1 - end))
        return Span(before, before + steps + after)


def spending_of(task: Task, backbone: Backbone, plan: Plan, *, taught: bool = False) -> Spending:
    """The exact MACs of so many steps of a plan; a teacher is a backbone of the same kind."""
    guide = backbone if taught else None
    return lambda steps: cost_of_steps(plan, backbone, batch_of(task), task.seed, steps, guide)


def portions(task: Task, phases: Sequence[Phase], prices: Sequence[Spending], reserve: float = 0.0) -> list[Portion]:
    """What each fit gets. The phases' shares are of steps; in the regime equal MACs each one weighs as much as its
    steps cost, so that the proportions of the steps stay.
    """
    weights = [phase.share for phase in phases]
    if budget_left(task) is not None:
        weights = [w * price(PROBED) for w, price in zip(weights, prices, strict=True)]
    ends = [min(1.0, end / sum(weights)) for end in accumulate(weights)]
    return [Portion(end - start, start, reserve) for start, end in zip([0.0, *ends[:-1]], ends, strict=True)]


def portions_of(
    task: Task, space: Space, choose: Choosing, phases: Sequence[Phase], plans: Sequence[Plan]
) -> list[Portion]:
    """:func:`portions` of plans of which the first has no teacher and all others have, before a selection."""
    prices = [spending_of(task, space.backbone, plan, taught=i > 0) for i, plan in enumerate(plans)]
    return portions(task, phases, prices, reserve_of(task, space, choose))


def fit_of(task: Task, phase: Phase, portion: Portion, price: Spending) -> Fit:
    """The fit of a phase, with as many steps as its portion pays for."""
    steps = steps_for(task, portion, price)
    return replace(fit_on(task, phase.name, steps), span=phase.span(steps))


def train_phase(
    task: Task, vit: NestedViT, plan: Plan, phase: Phase, portion: Portion, teacher: NestedViT | None = None
) -> int:
    """One fit by a step plan, in place; how many steps it took."""
    run = fit_of(task, phase, portion, spending_of(task, vit.backbone, plan, taught=teacher is not None))
    with task.ledger.phase("train"):
        fit_plan(vit, plan, run, teacher)
    return run.total or 0


def resorted(task: Task, vit: NestedViT, metric: str, units: Collection[str] = UNITS) -> NestedViT:
    """A copy with these units sorted by importance on the fit split and the same function at full width; charged."""
    return sorted_by(vit, scored(task, vit, metric, "prepare"), units)


def findings_of(task: Task, vit: NestedViT, steps: Mapping[str, int], plans: Mapping[str, Plan]) -> dict[str, Any]:
    """What the phases trained, by their names; ``plans``: of those that trained submodels."""
    fits = [(plan, steps[name]) for name, plan in plans.items()]
    return {"weights": digest_of(vit), "steps": dict(steps), "coverage": coverage(fits, vit.backbone, task.seed)}
