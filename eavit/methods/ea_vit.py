"""EA-ViT: curriculum elastic adaptation, NSGA-II, then router and backbone together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from eavit.methods.card import Card
from eavit.methods.choosing import Asked, answer_on, reserve_of
from eavit.methods.defects import Defects
from eavit.methods.phases import PROBED
from eavit.methods.recipe import (
    Elastic,
    Recipe,
    Search,
    digest_of,
    fit_on,
    front_policy,
    search_cost,
    search_on,
    train_on,
)
from eavit.methods.stage1 import DIMENSIONS, PAPER, Adapting, sampler_of, space_of, uniform_points, wanted
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed
from eavit.selection.router import Policy, Router, Routing, cost_of_route, imitate, route
from eavit.selection.search import Front, Point
from eavit.selection.selectors import EVALUATIONS, given, uniform
from eavit.selection.selectors import Policy as Chosen
from eavit.space.product import ProductSpace
from eavit.training.coverage import coverage
from eavit.training.prepare import prepare
from eavit.training.samplers import Sampler
from eavit.training.spending import Portion, batch_of, budget_left, steps_for, steps_of
from eavit.training.steps import as_plan, cost_of_steps
from eavit.training.task import Task
from eavit.training.train import Span, accuracy

STARTS = ("nsga2", "none", "uniform")
QUOTAS = ("scaled", "paper")

CARD = Card(
    title="EA-ViT",
    paper=PAPER,
    code="zcxcf/EA-ViT",
    elastic="embedding width; for each layer head count, hidden width, and a depth gate of either branch",
    step="1 random submodel of a growing space (about .56); in stage 2 a masked pass of full width (1)",
    distillation="none",
    selection="router: budget to gates by a two-layer MLP, trained jointly with the backbone",
    parameters={
        "hidden": ((0.125, 0.25, 0.5, 0.75, 1.0), "paper"),
        "heads and channels": ((0.5, 1.0), "paper"),
        "stages begin at": ((0.10, 0.15, 0.20, 0.25, 0.30, 0.35), "code"),
        "submodels a step": (1, "code"),
        "crossover": (0.95, "code"),
        "mutation": (0.3, "code"),
        "bins": (20, "code"),
        "l1": (20.0, "code"),
        "l2, annealed to 0": (20.0, "code"),
        "tau": (1.0, "code"),
        "router lr": ((1e-2, 1e-4), "code"),
        "min_depth": (0.5, "ours"),
        "route": (0.4, "ours"),
        "population": (40, "ours"),
        "generations": (12, "ours"),
        "router_warmup": (0.1, "ours"),
        "importance": ("taylor", "ours"),
        "tying": ("stratified", "ours"),
    },
    ours=(
        "hidden widths are absolute, not ratios of the drawn channels: the code has both meanings",
        "half of the branches of either kind always stay",
        "submodels of stage 1 uniform in log MACs, with layers that differ, none below the smallest budget",
        "fitness on fold A of the select split, without augmentation; the front estimated again on fold B",
        "one cycle of the learning rate over both stages",
        "a projection keeps every choice within its budget",
        "of equal MACs each stage gets as many steps, in proportion, as of equal steps",
    ),
    deviations=(
        "stage 2 takes .4 of the steps (code: 1000 steps and 100 epochs after 100 epochs): equal steps for all methods",
        "population 40, 12 generations (code: 5 with quotas for 100, 301): what the schedules here can pay",
        "none of the defects of the code, each of which an option brings back (eavit.methods.defects)",
    ),
)


def ea_vit(
    importance: str = "taylor",
    tying: str = "stratified",
    curriculum: str | bool = "growing",
    selector: str = "router",
    min_depth: float = 0.5,
    route: float = 0.4,
    population: int = 40,
    generations: int = 12,
    router_warmup: float = 0.1,
    budget_weight: float = 20.0,
    imitation_weight: float = 20.0,
    elastic: Sequence[str] = DIMENSIONS,
    start: str = "nsga2",
    select: str = "native",
    evaluations: int = EVALUATIONS,
    nesting: str = "free",
    norm_over: str = "kept",
    skipped_bias: bool = False,
    norm_eps: float | None = None,
    fresh_norms: bool = False,
    fitness: str = "select",
    quotas: str = "scaled",
    targets: Sequence[float] | None = None,
    warmup: str = "noisy",
    searched: str = "trained",
    epoch_batches: int | None = None,
) -> Recipe:
    """EA-ViT: curriculum elastic adaptation, NSGA-II, then router and backbone together.

    ``tying`` is shared, per_layer or stratified; ``curriculum`` growing, none, reversed, stages, triggered (by the
    loss; equal steps only) or published; ``elastic`` the dimensions that vary (mlp, heads, embed, depth); ``selector``
    router, or search for stage 1 and the front alone; ``route`` the fraction of all steps that stage 2 gets;
    ``min_depth`` the fraction of branches always kept; ``start`` whence the router starts and what it imitates: nsga2,
    uniform shapes, or none. ``select`` other than native: a common selector, with so many ``evaluations``, in the place
    of the trained router. ``nesting`` is free or nested. The rest brings back one defect each of the published code
    (:class:`eavit.methods.defects.Defects`; ``quotas="paper"`` with ``population=5``).
    """
    adapting = Adapting(importance, tying, _named(curriculum), min_depth, tuple(elastic))
    second = _Second(selector, start, route, Routing(router_warmup, budget_weight, imitation_weight))
    search = _search(population, generations, quotas)
    asked = Asked(select, nesting, evaluations)
    defects = Defects(norm_over, skipped_bias, norm_eps, fresh_norms, fitness, targets, warmup, searched, epoch_batches)
    return Recipe("ea_vit", _EaVit(adapting, second, search, asked, defects).run, CARD)


def _named(curriculum: str | bool) -> str:
    return {True: "growing", False: "none"}[curriculum] if isinstance(curriculum, bool) else curriculum


def _search(population: int, generations: int, quotas: str) -> Search:
    if population < 2 or generations < 0:
        raise ValueError(f"options population={population}, generations={generations}: at least 2 and 0")
    return Search(population, generations, "paper" if allowed("quotas", quotas, QUOTAS) == "paper" else None)


@dataclass(frozen=True, slots=True)
class _Second:
    """Options of stage 2; ``route``: its part of all steps, if there is a router."""

    selector: str
    start: str
    route: float
    routing: Routing

    def __post_init__(self) -> None:
        allowed("selector", self.selector, ("router", "search"))
        allowed("start", self.start, STARTS)
        if not 0 < self.route < 1:
            raise ValueError(f"option route={self.route}: the fraction of steps for stage 2 must lie between 0 and 1")
        warmup = self.routing.warmup
        if not 0 <= warmup < 1:
            raise ValueError(f"option router_warmup={warmup}: the fraction of stage 2 must lie in 0..1, 1 excluded")

    @property
    def routed(self) -> bool:
        return self.selector == "router"

    @property
    def share(self) -> float:
        return self.route if self.routed else 0.0


@dataclass(frozen=True, slots=True)
class _EaVit:
    adapting: Adapting
    second: _Second
    search: Search
    asked: Asked
    defects: Defects

    def __post_init__(self) -> None:
        start, select = self.second.start, self.asked.select
        if not self.second.routed and (start, select) != ("nsga2", "native"):
            raise ValueError(
                f"option selector='search' has no router: start={start!r} and select={select!r} mean nothing"
            )

    def run(self, task: Task) -> Elastic:
        stage1, second = self.adapting, self.second
        if stage1.curriculum == "triggered" and budget_left(task) is not None:
            raise ValueError(
                "option curriculum='triggered': what it will spend cannot be known beforehand; regime equal_steps only"
            )
        vit = self.defects.started(prepare(self.defects.before(task), stage1.importance))
        own = self.defects.training(task)
        space = space_of(vit.backbone, stage1.min_depth, stage1.elastic)
        whole = steps_of(own)
        first = whole - round(whole * second.share)
        tying = self.defects.tying(stage1.tying)
        sampler = sampler_of(space, tying, stage1.curriculum, min(task.budgets), first)
        parts = self._portions(own, vit.backbone, sampler)
        fixed = budget_left(own) is None
        steps = train_on(own, vit, sampler, "stage1", first if fixed else None, portion=parts[0])
        findings: dict[str, Any] = {"coverage": coverage([(sampler, steps)], vit.backbone, task.seed), "evaluations": 0}
        if not second.routed:
            front, told = self._searched(own, vit, space)
            return self._answer(own, vit, space, front_policy(front), findings | told)
        found, told = self._searched(own, vit, space) if second.start == "nsga2" else (None, {})
        span = Span(first, whole) if fixed else None
        policy = self._route(own, vit, space, found, parts[-1], span)
        told |= {"emitted": policy.emitted, "on_fold_b": _compare(task, vit, policy, found)}
        return self._answer(own, vit, space, policy.choose, findings | told)

    def _searched(self, task: Task, vit: NestedViT, space: ProductSpace) -> tuple[Front, dict[str, Any]]:
        front, optimism = search_on(task, vit, space, self.search, seen=self.defects.seen(task))
        return front, front.report(optimism)

    def _portions(self, task: Task, backbone: Backbone, sampler: Sampler) -> tuple[Portion, ...]:
        """Stage 1 and, with a router, stage 2. Of equal MACs each gets what its part of the steps costs."""
        if budget_left(task) is None:
            return (Portion(),)
        after = reserve_of(task, sampler.space, self.asked.choosing(uniform()))
        searching = self.second.start == "nsga2"
        before = search_cost(task, sampler.space, self.search, self.defects.seen(task)) if searching else 0.0
        one = cost_of_steps(as_plan(sampler), backbone, batch_of(task), task.seed, PROBED) * (1 - self.second.share)
        two = self._price(task, backbone, PROBED) * self.second.share
        stage1 = Portion(one / (one + two), 0.0, before + after)
        return (stage1, Portion(two / (one + two), stage1.share, after)) if self.second.routed else (stage1,)

    def _price(self, task: Task, backbone: Backbone, steps: int) -> float:
        warm = round(steps * self.second.routing.warmup)
        silent = self.defects.warmup == "silent"
        return cost_of_route(backbone, batch_of(task), 0 if silent else warm, steps - warm)

    def _route(
        self, task: Task, vit: NestedViT, space: ProductSpace, front: Front | None, part: Portion, span: Span | None
    ) -> Policy:
        """Stage 2. ``span``: its steps within all, where they are known; else its portion of the MACs tells them."""
        if span is None:
            steps = steps_for(task, part, partial(self._price, task, vit.backbone))
            span = part.span(steps, steps_of(task))
        else:
            steps = span.whole - span.before
        router = Router(space, generator=torch.Generator().manual_seed(task.seed))
        first = round(steps * self.second.routing.warmup)
        warm = fit_on(task, "warm", first)
        joint = replace(fit_on(task, "joint", steps - first), span=Span(span.before + first, span.whole))
        start, routing = self._start(space, front), self._routing(task, space)
        with task.ledger.phase("route"):
            if start:
                imitate(router, start)
            route(vit, router, wanted(start, min(task.budgets)), routing, warm, joint)
        return Policy.of(router)

    def _start(self, space: ProductSpace, front: Front | None) -> tuple[Point, ...]:
        """What the router is started from, and what it is held to from the smallest budget on."""
        if front is not None:
            return front.cover
        return uniform_points(space) if self.second.start == "uniform" else ()

    def _routing(self, task: Task, space: ProductSpace) -> Routing:
        targets = self.defects.span
        if targets is None and self.second.start == "none":
            targets = max(min(task.budgets), cost.share(space.backbone, space.smallest)), 1.0
        silent = self.defects.warmup == "silent"
        return replace(self.second.routing, targets=targets, silent=silent, masking=self.defects.masking)

    def _answer(
        self, task: Task, vit: NestedViT, space: ProductSpace, own: Chosen, findings: dict[str, Any]
    ) -> Elastic:
        """The method's own policy, or what the options ask for in its place, with what that adds to the findings."""
        found = findings | {"weights": digest_of(vit)}
        if self.asked.own:
            return Elastic(vit, own, found)
        return answer_on(task, vit, space, self.asked.choosing(given(own)), found, name="choice")


def _compare(task: Task, vit: NestedViT, policy: Policy, front: Front | None) -> dict[str, Any]:
    """Router against plain search on the same final weights, on fold B, for each budget. A finding, not part of the
    method: nothing is chosen by it, and it is not charged.
    """

    def score(submodel: Submodel | None) -> float | None:
        return None if submodel is None else round(accuracy(vit, submodel, task.select_b), 6)

    told: dict[str, Any] = {str(b): {"router": score(policy.choose(b))} for b in task.budgets}
    if front is not None:
        searched = front_policy(front)
        told = {str(b): told[str(b)] | {"search": score(searched(b))} for b in task.budgets}
    return told
