"""Comparison of selectors on equal weights, and the submodels that they chose, each trained alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from math import inf
from typing import Any

import torch
from torch import nn

from eavit.methods.answers import Elastic, Retrained
from eavit.methods.choosing import NESTINGS, Choosing, SelectOptions
from eavit.methods.ea_vit import PAPER, RENAMED, Stage1, needed_references
from eavit.methods.fitting import train, trained_diagnostics
from eavit.methods.recipe import Card, Recipe
from eavit.methods.retraining import phases_alone, train_alone
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed, number, options_table, refuse, whole
from eavit.selection.front import Front
from eavit.selection.own_selectors import selector_factory
from eavit.selection.router import PolicyTable, Router, Routing, imitate, route_frozen, routing_cost
from eavit.selection.selectors import EVALUATIONS, SELECTORS, Selection, given, uniform
from eavit.space.product import ProductSpace
from eavit.training.allocation import Allocation, FixedCost, Phase, allocate, batch_of, plan_cost, steps_of
from eavit.training.execution import Execution
from eavit.training.prepare import IMPORTANCES, preparation_cost, prepare, start
from eavit.training.samplers import Sampler
from eavit.training.scores import score_of, score_on
from eavit.training.task import Task
from eavit.training.train import Fit

CONTESTANTS = (*SELECTORS, "router")

CARD = Card(
    title="A selector on the weights of EA-ViT's stage 1",
    paper=PAPER,
    code="none public",
    elastic="as EA-ViT",
    step="1 random submodel of a growing space (about .56), all steps of the schedule",
    distillation="none",
    selection="any of eavit.selection.selectors with one number of evaluations for all, or a router on frozen weights",
    parameters={
        "evaluations": (EVALUATIONS, "ours"),
        "router_steps": (0.2, "ours"),
        "router: l1, l2": ((20.0, 20.0), "code"),
    },
    ours=(
        "with equal steps the weights of a seed are the same to the bit for every selector",
        "the router starts from a search with all the evaluations and learns on, with steps of its own in the ledger",
        "what is reported about the choices on both folds is not charged: nothing is chosen by it",
    ),
    deviations=("EA-ViT's router learns together with the backbone; here the backbone stays as it is",),
)
ALONE = Card(
    title="What several methods chose, each trained alone",
    paper="none",
    code="none public",
    elastic="nothing: one fixed submodel a run",
    step="1 submodel of its own size, the full schedule each",
    distillation="none",
    selection="for each budget the best of all of them on fold B",
    parameters={"cap": (16, "ours")},
    ours=("of more distinct submodels than the cap: in turn over the budgets, those first that most methods chose",),
)


def selected(
    selector: str = "nsga2",
    evaluations: int = EVALUATIONS,
    nesting: str = "free",
    importance: str = "taylor",
    stage1: Mapping[str, Any] = {},
    router_steps: float = 0.2,
    **others: Any,
) -> Recipe:
    """A selector on the weights of EA-ViT's stage 1, trained with all the steps, to compare selectors.

    ``selector`` is one of ``SELECTORS``, ``module:name`` of one's own, or router: started from NSGA-II with as many
    ``evaluations``, then trained on the frozen weights for ``router_steps`` of the schedule's steps. ``stage1``: as in
    ``ea_vit``.
    """
    refuse(others, ("selector", "evaluations", "nesting", "importance", "stage1", "router_steps"), RENAMED)
    allowed("importance", importance, IMPORTANCES)
    if selector != "router":
        selector_factory("selector", selector, CONTESTANTS)  # refuses wrong values by the name of this option
    number("router_steps", router_steps, "(0, 1]")
    first = options_table(Stage1, "stage1", stage1)
    card = CARD.with_values({"selector": selector, "evaluations": evaluations, "router_steps": router_steps})
    if selector != "router":
        choose = SelectOptions(selector, nesting, evaluations).choosing(uniform())
        return _Selected(choose, first, importance).recipe(card)
    choose = SelectOptions("nsga2", "free", evaluations).choosing(uniform())
    router = _Router(router_steps, allowed("nesting", nesting, NESTINGS))
    return _Selected(choose, first, importance, router).recipe(card)


@dataclass(frozen=True, slots=True)
class _Router:
    """A router that starts from a search and learns on frozen weights; ``share``: of the schedule's steps."""

    share: float
    nesting: str

    def phase(self, task: Task, backbone: Backbone) -> Phase:
        batch = batch_of(task)
        return Phase("router", lambda steps: routing_cost(backbone, batch, steps, 0), self.share, (0.0, 1.0))

    def cost(self, task: Task, space: ProductSpace) -> float:
        """MACs of the nesting of its choices."""
        return Choosing(uniform(), self.nesting).cost(task, space)

    def run(self, task: Task, vit: NestedViT, space: ProductSpace, start: Selection, run: Fit) -> Selection:
        """Choices of a router that starts from those of a search."""
        floor = max(min(task.budgets), cost.share(vit.backbone, space.smallest))
        references = Front.of(start.measured, start.evaluations).cover
        router = Router(space, generator=torch.Generator().manual_seed(task.seed))
        routing = Routing(targets=(floor, 1.0))
        with task.ledger.phase("route"):
            imitate(router, references)
            route_frozen(vit, router, needed_references(references, min(task.budgets)), routing, run, fading=1.0)
        policy = PolicyTable.of(router)
        choose = Choosing(given(policy.choose, {"emitted": policy.emitted}), self.nesting)
        chosen = choose.run(task, vit, space)  # the same weights, so what the search measured still holds
        findings = {**start.findings, **chosen.findings, "router_steps": run.total}
        return replace(chosen, findings=findings, evaluations=start.evaluations + chosen.evaluations)


@dataclass(frozen=True, slots=True)
class _Selected:
    choose: Choosing  # of a router: of what it starts from
    stage1: Stage1
    importance: str
    router: _Router | None = None

    def recipe(self, card: Card) -> Recipe:
        return Recipe("selected", self.run, card, lambda b, _: self.stage1.space(b), regimes=self.stage1.regimes)

    def run(self, task: Task) -> Elastic:
        vit = start(task)
        space = self.stage1.space(vit.backbone)
        sampler = self.stage1.sampler(space, min(task.budgets), steps_of(task))
        allocation = self._allocation(task, space, sampler)
        vit, run = prepare(task, vit, self.importance), allocation.fit("stage1")
        train(vit, sampler, run)
        diagnostics = trained_diagnostics(vit, (sampler, run))
        selection = self.choose.run(task, vit, space)
        if self.router is not None:
            selection = self.router.run(task, vit, space, selection, allocation.fit("router"))
        choices = {str(b): _looked_at(task, vit, selection.policy(b)) for b in task.budgets}
        spent = {"evaluations": selection.evaluations, "choices": choices}
        return Elastic(vit, selection.policy, {**diagnostics, **selection.findings, **spent})

    def _allocation(self, task: Task, space: ProductSpace, sampler: Sampler) -> Allocation:
        """All steps of the schedule for the weights, and steps beside them for a router."""
        b = space.backbone
        parts: list[Phase | FixedCost] = [
            partial(preparation_cost, task, b, self.importance),
            Phase("stage1", plan_cost(task, b, sampler), cycle=(0.0, 1.0)),
            partial(self.choose.cost, task, space),
        ]
        if self.router is not None:
            parts += [self.router.phase(task, b), partial(self.router.cost, task, space)]
        return allocate(task, *parts)


def _looked_at(task: Task, vit: NestedViT, choice: Submodel | None) -> dict[str, Any] | None:
    """A choice with its score in the shared weights on both folds."""
    if choice is None:
        return None
    return {"key": str(choice)} | _on_both_folds(task, vit, choice)


def trained_alone(importance: str = "taylor", cap: int = 16) -> Recipe:
    """Every distinct submodel that the methods before it chose, trained alone with the full schedule.

    A budget gets the best of them on fold B. What supernet accuracies are held against.
    """
    allowed("importance", importance, IMPORTANCES)
    whole("cap", cap, 1)

    def run(task: Task) -> Retrained[Submodel]:
        if not any(task.given.values()):
            raise ValueError("trained_alone comes after at least one method that chose something; `after` gives none")
        vit = start(task)
        b, given_keys = vit.backbone, _chosen(task.given)
        submodels = [Submodel.parse(key) for key in keys_in_turn(given_keys, cap)]
        comparison = float(sum(cost.macs(b, s) for s in submodels) * len(task.select_b))
        allocation = allocate(
            task,
            partial(preparation_cost, task, b, importance),
            *phases_alone(task, [(b, s) for s in submodels]),
            lambda: comparison,
        )
        vit = prepare(task, vit, importance)
        modules = train_alone(allocation, ((s, deepcopy(vit), s) for s in submodels))
        with task.ledger.phase("search"):
            looks = {s: _on_both_folds(task, modules[s]) for s in submodels}
            task.ledger.add(forward_macs=comparison, images=len(submodels) * len(task.select_b))
        shares = {s: cost.share(b, s) for s in submodels}

        def best(budget: float) -> Submodel | None:
            fitting = (s for s in submodels if shares[s] <= budget)
            return max(fitting, key=lambda s: (looks[s]["fold_b"], -shares[s]), default=None)

        distinct = {key for keys in given_keys.values() for key in keys}
        table = {str(s): {"share": round(shares[s], 6), **looks[s], "by": _who(task.given, str(s))} for s in submodels}
        shapes = {budget: best(budget) for budget in task.budgets}
        return Retrained(shapes, modules, {"alone": table, "left_out": len(distinct) - len(submodels)})

    return Recipe("trained_alone", run, ALONE.with_values({"cap": cap}), after=(1, inf))


def _chosen(methods: Mapping[str, Mapping[float, str]]) -> dict[float, list[str]]:
    """Distinct keys for each budget, those first that most methods chose."""
    budgets = sorted({budget for chosen in methods.values() for budget in chosen})
    ordered: dict[float, list[str]] = {}
    for budget in budgets:
        keys = [chosen[budget] for chosen in methods.values() if budget in chosen]
        ordered[budget] = sorted(set(keys), key=lambda key: (-keys.count(key), key))
    return ordered


def keys_in_turn(chosen: Mapping[float, list[str]], cap: int) -> list[str]:
    """Select up to ``cap`` distinct keys, one of each budget in turn."""

    def in_turn() -> Iterator[str]:
        for layer in zip_longest(*chosen.values()):
            yield from (key for key in layer if key is not None)

    return list(dict.fromkeys(in_turn()))[:cap]


def _who(methods: Mapping[str, Mapping[float, str]], key: str) -> dict[str, list[float]]:
    """Methods that chose a submodel, and for which budgets."""
    chose = {name: [b for b, other in sorted(chosen.items()) if other == key] for name, chosen in methods.items()}
    return {name: budgets for name, budgets in chose.items() if budgets}


def _on_both_folds(task: Task, model: nn.Module, *widths: Submodel) -> dict[str, float]:
    """Score on both folds. Fold A is reported only, and not charged: nothing is chosen by it."""
    folds, execution = {"fold_a": task.select_a, "fold_b": task.select_b}, Execution.of(task.schedule)
    return {
        name: round(score_on(fold, score_of(task), model, *widths, execution=execution), 6)
        for name, fold in folds.items()
    }
