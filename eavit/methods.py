"""The table of methods: each a recipe of space, sampler and selector, named in suites by import string.

All start from the same place (:func:`eavit.prepare.prepare`). What one method gets, every other gets: probe, order,
data order, optimiser and schedule family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import torch

from eavit import cost
from eavit.importance import METRICS
from eavit.prepare import prepare
from eavit.recipe import (
    Elastic,
    Recipe,
    Retrained,
    Search,
    fit_on,
    front_policy,
    front_report,
    retrain_on,
    search_on,
    steps_of,
    train_on,
)
from eavit.router import Policy, Router, Routing, imitate, route
from eavit.samplers import TYINGS, Always, Curriculum, Random, Sampler, chain, stratified
from eavit.search import Front, Point
from eavit.space import Space, uniform_shape
from eavit.submodel import Submodel
from eavit.task import Task
from eavit.train import accuracy
from eavit.vit import NestedViT

__all__ = ["ea_vit", "fixed_same_shape", "fixed_uniform", "matformer", "slice_untrained"]


def _allowed(option: str, value: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> str:
    if value not in allowed:
        near = get_close_matches(value, list(allowed), 1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"option {option}={value!r} is unknown; allowed: {', '.join(allowed)}{hint}")
    return value


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
    _allowed("importance", importance, METRICS)
    _allowed("tying", tying, TYINGS)
    _allowed("selector", selector, ("router", "search"))
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


def matformer(importance: str = "taylor") -> Recipe:
    """MatFormer: hidden prefixes of 1, 1/2, 1/4, 1/8, all four trained at every step; Mix'n'Match selects.

    The mixes are non-decreasing over the layers. Attention, embedding and depth stay full, which sets its floor.
    """
    _allowed("importance", importance, METRICS)

    def run(task: Task) -> Elastic:
        vit = prepare(task, importance)
        widths = sorted({max(1, vit.backbone.mlp // part) for part in (1, 2, 4, 8)})
        space = Space.of_widths(vit.backbone, widths)
        train_on(task, vit, Always(space, chain(space, widths)))
        return Elastic(vit, Policy.from_members(space, _mixes(space), narrowed=False).choose)

    return Recipe("matformer", run)


def _mixes(space: Space) -> Iterator[Submodel]:
    """Mix'n'Match: for each MACs value the most uniform of the non-decreasing mixes that cost this much."""
    full, best = space.largest, dict[int, tuple[int, Submodel]]()
    for mlp in combinations_with_replacement(space.mlps, space.depth):
        submodel = Submodel(full.embed, full.heads, mlp)
        spent, spread = cost.macs(space.backbone, submodel), max(mlp) - min(mlp)
        if spent not in best or spread < best[spent][0]:
            best[spent] = (spread, submodel)
    return (submodel for _, submodel in best.values())


def slice_untrained(
    importance: str = "taylor", min_depth: float = 0.5, population: int = 40, generations: int = 12
) -> Recipe:
    """Sorted prefixes of the pretrained backbone with a probed head, no training at all; the common search selects."""
    _allowed("importance", importance, METRICS)

    def run(task: Task) -> Elastic:
        vit = prepare(task, importance)
        front, optimism = search_on(task, vit, Space.eavit(vit.backbone, min_depth), Search(population, generations))
        return Elastic(vit, front_policy(front), front_report(front, optimism))

    return Recipe("slice_untrained", run)


def fixed_same_shape(importance: str = "taylor") -> Recipe:
    """The shape another method chose (``after``), sliced from the prepared weights, trained alone: one run a budget."""
    _allowed("importance", importance, METRICS)

    def run(task: Task) -> Retrained:
        if len(task.given) != 1:
            raise ValueError(
                f"fixed_same_shape comes after exactly one method, `after` gives {sorted(task.given) or 'none'}"
            )
        chosen = next(iter(task.given.values()))
        shapes = {b: Submodel.parse(chosen[b]) if b in chosen else None for b in task.budgets}
        return retrain_on(task, prepare(task, importance), shapes)

    return Recipe("fixed_same_shape", run)


def fixed_uniform(importance: str = "taylor") -> Recipe:
    """The uniform shape of the same MACs, sliced from the prepared weights, trained alone: one run a budget.

    At budget 1 this is the plain fine-tune of the full backbone.
    """
    _allowed("importance", importance, METRICS)

    def run(task: Task) -> Retrained:
        vit = prepare(task, importance)
        return retrain_on(task, vit, {b: uniform_shape(vit.backbone, b) for b in task.budgets})

    return Recipe("fixed_uniform", run)
