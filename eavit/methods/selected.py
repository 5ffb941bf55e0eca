"""The bake-off of selectors: one family, trained alike to the bit whatever selects from it; and the truth about what
they chose, each submodel trained alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
from torch import nn

from eavit.methods.card import Card
from eavit.methods.choosing import Choosing, choose_on, choosing, reserve_of
from eavit.methods.phases import PROBED
from eavit.methods.recipe import Elastic, Recipe, Retrained, digest_of, fit_on, retrain_on, train_on
from eavit.methods.selection_stage import NESTINGS
from eavit.methods.stage1 import PAPER, Adapting, sampler_of, space_of, wanted
from eavit.model import cost
from eavit.model.importance import METRICS
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed
from eavit.selection import selectors
from eavit.selection.router import Policy, Router, Routing, cost_of_route, imitate, route_frozen
from eavit.selection.search import Front
from eavit.selection.selectors import EVALUATIONS, SELECTORS, Selection, given
from eavit.space.product import ProductSpace
from eavit.space.space import Space
from eavit.training.coverage import coverage
from eavit.training.prepare import prepare
from eavit.training.samplers import Sampler
from eavit.training.spending import Portion, batch_of, budget_left, steps_for, steps_of
from eavit.training.steps import as_plan, cost_of_steps
from eavit.training.task import Split, Task
from eavit.training.train import Span, accuracy

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
        "router steps": (0.2, "ours"),
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
    tying: str = "stratified",
    curriculum: str = "growing",
    min_depth: float = 0.5,
    router_steps: float = 0.2,
) -> Recipe:
    """A selector on the weights of EA-ViT's stage 1, trained with all the steps: for a bake-off on equal weights.

    ``selector`` is one of ``SELECTORS``, or router: started from NSGA-II with as many ``evaluations``, then
    trained on the frozen weights for ``router_steps`` of the schedule's steps.
    """
    adapting = Adapting(importance, tying, curriculum, min_depth)
    allowed("selector", selector, CONTESTANTS)
    allowed("nesting", nesting, NESTINGS)
    if not 0 < router_steps <= 1:
        raise ValueError(f"option router_steps={router_steps}: a fraction of the schedule's steps, 0 excluded")
    search = choosing("nsga2" if selector == "router" else selector, "free", evaluations, selectors.uniform())
    choose = replace(search, nesting=nesting)
    routed = router_steps if selector == "router" else 0.0
    recipe = _Selected(search if routed else choose, nesting, adapting, routed)
    return Recipe("selected", recipe.run, CARD)


@dataclass(frozen=True, slots=True)
class _Selected:
    choose: Choosing  # of a router: of what it starts from
    nesting: str
    adapting: Adapting
    routed: float  # steps of the router, of all the schedule's; 0: no router

    def run(self, task: Task) -> Elastic:
        stage1 = self.adapting
        vit = prepare(task, stage1.importance)
        space = space_of(vit.backbone, stage1.min_depth)
        sampler = sampler_of(space, stage1.tying, stage1.curriculum, min(task.budgets), steps_of(task))
        steps = train_on(task, vit, sampler, "stage1", portion=self._portion(task, vit.backbone, sampler))
        digest = digest_of(vit)
        selection = choose_on(task, vit, space, self.choose)
        if self.routed:
            selection = self._route(task, vit, space, selection)
        findings = {
            "weights": digest,
            "coverage": coverage([(sampler, steps)], vit.backbone, task.seed),
            **selection.findings,
            "evaluations": selection.evaluations,
            "choices": {str(b): _looked_at(task, vit, selection.policy(b)) for b in task.budgets},
        }
        return Elastic(vit, selection.policy, findings)

    def _portion(self, task: Task, backbone: Backbone, sampler: Sampler) -> Portion:
        """All of the training; of equal MACs what selection and router leave, so that there the weights differ."""
        if budget_left(task) is None:
            return Portion()
        reserve = reserve_of(task, sampler.space, self.choose)
        reserve += self._nesting_cost(task, sampler.space)
        own = cost_of_steps(as_plan(sampler), backbone, batch_of(task), task.seed, PROBED)
        other = self.routed * cost_of_route(backbone, batch_of(task), PROBED, 0)
        return Portion(own / (own + other), 0.0, reserve)

    def _route(self, task: Task, vit: NestedViT, space: ProductSpace, found: Selection) -> Selection:
        """A router that starts from what a search found and learns on frozen weights."""
        floor = max(min(task.budgets), cost.share(vit.backbone, space.smallest))
        start = Front.of(found.measured, found.evaluations).cover
        router = Router(space, generator=torch.Generator().manual_seed(task.seed))
        steps = self._router_steps(task, space, vit.backbone)
        run = replace(fit_on(task, "router", steps), span=Span(0, steps))
        with task.ledger.phase("route"):
            imitate(router, start)
            route_frozen(vit, router, wanted(start, min(task.budgets)), Routing(targets=(floor, 1.0)), run)
        policy = Policy.of(router)
        choose = Choosing(given(policy.choose, {"emitted": policy.emitted}), self.nesting)
        chosen = choose_on(task, vit, space, choose)  # the same weights, so what the search measured still holds
        findings = {**found.findings, **chosen.findings, "router_steps": steps}
        return replace(chosen, findings=findings, evaluations=found.evaluations + chosen.evaluations)

    def _router_steps(self, task: Task, space: ProductSpace, backbone: Backbone) -> int:
        if budget_left(task) is None:
            return max(1, round(self.routed * steps_of(task)))
        last = Portion(reserve=self._nesting_cost(task, space))
        return steps_for(task, last, lambda n: cost_of_route(backbone, batch_of(task), n, 0))

    def _nesting_cost(self, task: Task, space: Space) -> float:
        """Of a router's choices; of other selectors it is a part of theirs."""
        choose = Choosing(selectors.uniform(), self.nesting)
        return reserve_of(task, space, choose) if self.routed else 0.0


def _looked_at(task: Task, vit: NestedViT, choice: Submodel | None) -> dict[str, Any] | None:
    """A choice with its accuracy in the shared weights on both folds."""
    if choice is None:
        return None
    folds = {"fold_a": task.select_a, "fold_b": task.select_b}
    return {"key": str(choice)} | {name: round(accuracy(vit, choice, fold), 6) for name, fold in folds.items()}


def trained_alone(importance: str = "taylor", cap: int = 16) -> Recipe:
    """Every distinct submodel that the methods before it chose, trained alone with the full schedule.

    A budget gets the best of them on fold B. What supernet accuracies are held against.
    """
    allowed("importance", importance, METRICS)
    if cap < 1:
        raise ValueError(f"option cap={cap}: must be at least 1")

    def run(task: Task) -> Retrained[Submodel]:
        if not any(task.given.values()):
            raise ValueError("trained_alone comes after at least one method that chose something; `after` gives none")
        vit = prepare(task, importance)
        b, given_keys = vit.backbone, _chosen(task.given)
        kept = [Submodel.parse(key) for key in spread(given_keys, cap)]
        reserve = sum(cost.macs(b, s) for s in kept) * len(task.select_b)
        alone = retrain_on(task, vit, {float(i): s for i, s in enumerate(kept)}, reserve)
        with task.ledger.phase("search"):
            looks = {s: _looks(alone.modules[s], task) for s in kept}
            task.ledger.add(forward_macs=float(reserve), images=len(kept) * len(task.select_b))
        shares = {s: cost.share(b, s) for s in kept}

        def best(budget: float) -> Submodel | None:
            fitting = (s for s in kept if shares[s] <= budget)
            return max(fitting, key=lambda s: (looks[s]["fold_b"], -shares[s]), default=None)

        distinct = {key for keys in given_keys.values() for key in keys}
        table = {str(s): {"share": round(shares[s], 6), **looks[s], "by": _who(task.given, str(s))} for s in kept}
        shapes = {budget: best(budget) for budget in task.budgets}
        return Retrained(shapes, alone.modules, {"alone": table, "left_out": len(distinct) - len(kept)})

    return Recipe("trained_alone", run, ALONE)


def _chosen(methods: Mapping[str, Mapping[float, str]]) -> dict[float, list[str]]:
    """For each budget the distinct keys, those first that most methods chose."""
    budgets = sorted({budget for chosen in methods.values() for budget in chosen})
    found: dict[float, list[str]] = {}
    for budget in budgets:
        keys = [chosen[budget] for chosen in methods.values() if budget in chosen]
        found[budget] = sorted(set(keys), key=lambda key: (-keys.count(key), key))
    return found


def spread(chosen: Mapping[float, list[str]], cap: int) -> list[str]:
    """Up to ``cap`` distinct keys, one of each budget in turn."""

    def in_turn() -> Iterator[str]:
        for layer in zip_longest(*chosen.values()):
            yield from (key for key in layer if key is not None)

    return list(dict.fromkeys(in_turn()))[:cap]


def _who(methods: Mapping[str, Mapping[float, str]], key: str) -> dict[str, list[float]]:
    """Which methods chose a submodel, and for which budgets."""
    found = {name: [b for b, other in sorted(chosen.items()) if other == key] for name, chosen in methods.items()}
    return {name: budgets for name, budgets in found.items() if budgets}


def _looks(module: nn.Module, task: Task) -> dict[str, float]:
    """Accuracy on both folds. Fold A is told only, and not charged: nothing is chosen by it."""
    folds = {"fold_a": task.select_a, "fold_b": task.select_b}
    return {name: round(_accuracy(module, fold), 6) for name, fold in folds.items()}


@torch.inference_mode()
def _accuracy(module: nn.Module, split: Split, batch: int = 512) -> float:
    device = next(module.parameters()).device
    pairs = ((module(images.to(device)).argmax(-1), labels.to(device)) for images, labels in split.batches(batch))
    return sum(int((guess == labels).sum()) for guess, labels in pairs) / len(split)
