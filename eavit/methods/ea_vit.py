"""EA-ViT: curriculum elastic adaptation, NSGA-II, then router and backbone together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from eavit.importance import METRICS
from eavit.options import allowed
from eavit.prepare import prepare
from eavit.recipe import Elastic, Recipe, Search, fit_on, front_policy, front_report, search_on, steps_of, train_on
from eavit.router import Policy, Router, Routing, imitate, route
from eavit.samplers import TYINGS, Curriculum, Random, Sampler, stratified
from eavit.search import Front, Point
from eavit.space import Space
from eavit.submodel import Submodel
from eavit.task import Task
from eavit.train import accuracy
from eavit.vit import NestedViT


def ea_vit(
    importance: str = "taylor",
    tying: str = "stratified",
    curriculum: bool = True,
    selector: str = "router",
    min_depth: float = 0.5,
    route: float = 0.4,
    population: int = 40,
    generations: int = 12,
    router_warmup: float = 0.1,
    budget_weight: float = 20.0,
    imitation_weight: float = 20.0,
) -> Recipe:
    """EA-ViT: curriculum elastic adaptation, NSGA-II, then router and backbone together.

    ``tying`` is shared, per_layer or stratified; ``selector`` is router, or search for stage 1 and the front alone;
    ``route`` is the fraction of all steps that stage 2 gets; ``min_depth`` the fraction of branches always kept.
    """
    allowed("importance", importance, METRICS)
    allowed("tying", tying, TYINGS)
    allowed("selector", selector, ("router", "search"))
    if not 0 < route < 1:
        raise ValueError(f"option route={route}: the fraction of steps for stage 2 must lie between 0 and 1")
    recipe = _EaVit(
        importance,
        tying,
        curriculum,
        selector,
        min_depth,
        route,
        Search(population, generations),
        Routing(router_warmup, budget_weight, imitation_weight),
    )
    return Recipe("ea_vit", recipe.run)


@dataclass(frozen=True, slots=True)
class _EaVit:
    importance: str
    tying: str
    curriculum: bool
    selector: str
    min_depth: float
    share: float
    search: Search
    routing: Routing

    def run(self, task: Task) -> Elastic:
        vit = prepare(task, self.importance)
        space = Space.eavit(vit.backbone, self.min_depth)
        second = round(steps_of(task) * self.share) if self.selector == "router" else 0
        draw = TYINGS[self.tying]
        if draw is stratified:
            draw = partial(stratified, floor=min(task.budgets))
        sampler: Sampler = Curriculum(space, draw) if self.curriculum else Random(space, draw)
        train_on(task, vit, sampler, "stage1", steps_of(task) - second)
        front, optimism = search_on(task, vit, space, self.search)
        findings = front_report(front, optimism)
        if self.selector == "search":
            return Elastic(vit, front_policy(front), findings)
        policy = self._route(task, vit, space, front, second)
        findings |= {"emitted": policy.emitted, "on_fold_b": _compare(task, vit, policy, front)}
        return Elastic(vit, policy.choose, findings)

    def _route(self, task: Task, vit: NestedViT, space: Space, front: Front, steps: int) -> Policy:
        router = Router(space, generator=torch.Generator().manual_seed(task.seed))
        first = round(steps * self.routing.warmup)
        warm, joint = fit_on(task, "warm", first), fit_on(task, "joint", steps - first, steps_of(task) - steps + first)
        with task.ledger.phase("route"):
            imitate(router, front.cover)
            route(vit, router, _wanted(front, min(task.budgets)), self.routing, warm, joint)
        return Policy.of(router)


def _wanted(front: Front, floor: float) -> tuple[Point, ...]:
    """References from the dearest one at or under the smallest budget on: targets below it serve nobody."""
    below = [p for p in front.cover if p.share <= floor]
    return (*below[-1:], *(p for p in front.cover if p.share > floor))


def _compare(task: Task, vit: NestedViT, policy: Policy, front: Front) -> dict[str, Any]:
    """Router against plain search on the same final weights, on fold B, for each budget. A finding, not part of the
    method: nothing is chosen by it, and it is not charged.
    """

    def score(submodel: Submodel | None) -> float | None:
        return None if submodel is None else round(accuracy(vit, submodel, task.select_b), 6)

    searched = front_policy(front)
    return {str(b): {"router": score(policy.choose(b)), "search": score(searched(b))} for b in task.budgets}
