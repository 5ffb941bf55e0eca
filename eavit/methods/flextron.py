"""Flextron-style: full and one random submodel a step, then per-layer routers taught by a surrogate of the loss."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from eavit.methods.answers import Elastic
from eavit.methods.choosing import SelectOptions
from eavit.methods.fitting import train, trained_diagnostics
from eavit.methods.recipe import Card, Recipe
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed, number
from eavit.selection.layer_router import (
    LayerRouters,
    Surrogate,
    SurrogateSampler,
    fit_surrogate,
    layer_routers_cost,
    surrogate_cost,
    train_routers,
)
from eavit.selection.router import PolicyTable
from eavit.selection.selectors import EVALUATIONS, given
from eavit.space.product import ProductSpace
from eavit.training.allocation import Allocation, Phase, allocate, batch_of, plan_cost
from eavit.training.passes import Pass, Passes, Plan, plain
from eavit.training.prepare import IMPORTANCES, preparation_cost, prepare, start
from eavit.training.samplers import TYINGS, Draw, Random, Submodels, stratified
from eavit.training.task import Task
from eavit.training.train import Fit

TARGETS = 256  # budgets that the trained routers are asked for

CARD = Card(
    title="Flextron-style",
    paper="Flextron: Many-in-One Flexible Large Language Model, ICML 2024, arXiv 2406.10260",
    code="none public",
    elastic="heads and hidden width of each layer; embedding and depth are full",
    step="the full model and 1 random submodel; in the last phase 1 that the routers chose",
    distillation="none",
    selection="one router a layer, conditioned on the budget; ours projects into the budget",
    parameters={
        "heads": ("quarters: 3, 6, 9, 12 of 12; 2, 3, 5, 6 of 6 (rounded up)", "ours"),
        "hidden": ("quarters: 1/4, 1/2, 3/4, 1", "ours"),
        "tau": ("Gumbel-softmax from 1 to 0.1", "ours"),
        "surrogate": ("a small network from choices to loss, trained first, then it trains the routers", "paper"),
        "tying": ("per_layer", "ours"),
        "shares": ("0.6 elastic, 0.1 surrogate, 0.3 routed", "ours"),
        "budget_weight": (20.0, "ours"),
        "router": ("one hidden layer of 16 for each layer, 200 updates on 8 budgets each", "ours"),
        "surrogate_width": (32, "ours"),
    },
    ours=(
        "everything without a public source: sizes of routers and surrogate, their learning rates, the budget's weight "
        "(EA-ViT's), the fall of tau (exponential)",
        "MACs in the place of measured latency, and the squared distance of shares as the penalty",
        "the surrogate sees submodels stratified in MACs and one batch of the fit split each, forward passes alone",
        "the projection: an emission over the budget is narrowed by the smallest steps, as EA-ViT's",
    ),
    deviations=(
        "the surrogate is trained for a fixed part of the steps before the routers; the source gates them by its error",
        "routers rest in the last phase, in which the backbone is trained on what they choose; the source trains both "
        "together. So the cost of a fit is known before it",
        "static routers alone; the source also routes single tokens",
    ),
)


def flextron(
    tying: str = "per_layer",
    budget_weight: float = 20.0,
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """Flextron-style: full and one random submodel a step, then per-layer routers taught by a surrogate of the loss.

    ``tying`` draws the random submodel of the first phase; ``budget_weight`` weighs the routers' budget penalty.
    """
    allowed("importance", importance, IMPORTANCES)
    allowed("tying", tying, TYINGS)
    number("budget_weight", budget_weight, "(0, inf)")
    options = SelectOptions(select, nesting, evaluations)
    return Recipe(
        "flextron",
        _Flextron(TYINGS[tying], budget_weight, importance, options).run,
        CARD,
        lambda b, _: flextron_space(b),
    )


def flextron_space(backbone: Backbone) -> ProductSpace:
    """Heads and hidden widths in quarters, rounded up, in each layer; all else full."""
    b = backbone
    heads, mlps = (sorted({-(-full * q // 4) for q in (1, 2, 3, 4)}) for full in (b.heads, b.mlp))
    return ProductSpace(b, (b.embed,), tuple(heads), tuple(mlps), b.depth, b.depth)


def full_and_random(space: ProductSpace, draw: Draw) -> Plan:
    """The first phase: both by their own cross-entropy."""

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        return Pass(space.largest), Pass(draw(space, rng))

    return plan


@dataclass(frozen=True, slots=True)
class Routed:
    """A budget drawn uniformly, and what the policy answers: what is trained is what will be deployed."""

    space: ProductSpace
    members: Submodels  # of the policy, by ascending MACs
    shares: tuple[float, ...]
    low: float

    @classmethod
    def of(cls, policy: PolicyTable, low: float) -> Routed:
        """The sampler of a policy; ``low``: the smallest budget that is drawn."""
        shares = tuple(cost.share(policy.space.backbone, s) for s in policy.members)
        return cls(policy.space, policy.members, shares, low)

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        place = bisect_right(self.shares, float(rng.uniform(self.low, 1.0)))
        return (self.members[max(0, place - 1)],)


@dataclass(frozen=True, slots=True)
class _Flextron:
    draw: Draw
    weight: float
    importance: str
    options: SelectOptions

    def run(self, task: Task) -> Elastic:
        vit = start(task)
        space, b = flextron_space(vit.backbone), vit.backbone
        low = _lowest(task, space)
        draws = SurrogateSampler(space, partial(stratified, floor=low))
        elastic = full_and_random(space, self.draw)
        allocation = self._allocation(task, draws, elastic)
        vit, first = prepare(task, vit, self.importance), allocation.fit("elastic")
        train(vit, elastic, first)
        second = allocation.fit("surrogate")
        policy, routers = self._route(task, vit, draws, second, low)
        routed = plain(Routed.of(policy, low))
        third = allocation.fit("routed", plan_cost(task, b, routed))
        train(vit, routed, third)
        diagnostics = trained_diagnostics(vit, (elastic, first), (routed, third))
        diagnostics |= {"steps": {run.phase: run.total for run in (first, second, third)}, "router": routers}
        return self.options.choosing(given(policy.choose)).answer(task, vit, space, diagnostics)

    def _allocation(self, task: Task, draws: SurrogateSampler, elastic: Plan) -> Allocation:
        """Allocation before the routers' choices are known: random submodels and uniform shapes stand for them."""
        space = draws.space
        b = space.backbone
        random = Random(space, draws.draw)
        return allocate(
            task,
            partial(preparation_cost, task, b, self.importance),
            Phase("elastic", plan_cost(task, b, elastic), 0.6, (0.0, 2 / 3)),
            Phase("surrogate", partial(surrogate_cost, draws, batch_of(task), task.seed), 0.1, (0.0, 1.0)),
            lambda: 3 * layer_routers_cost(space),
            Phase("routed", plan_cost(task, b, random), 0.3, (2 / 3, 1.0)),
            partial(self.options.choosing(given(_uniform(space))).cost, task, space),
        )

    def _route(
        self, task: Task, vit: NestedViT, draws: SurrogateSampler, run: Fit, low: float
    ) -> tuple[PolicyTable, dict[str, Any]]:
        """Surrogate from forward passes, routers from the surrogate (no image), policy from the routers."""
        generator = torch.Generator().manual_seed(task.seed)
        surrogate, routers = Surrogate(draws.space, generator), LayerRouters(draws.space, generator)
        with task.ledger.phase("route"):
            fit_surrogate(vit, surrogate, draws, run)
            penalty = train_routers(routers, surrogate, low, generator, self.weight)
            spent = layer_routers_cost(draws.space)
            task.ledger.add(forward_macs=spent, backward_macs=2 * spent)
        emitted = [routers.choose(low + (1 - low) * i / TARGETS) for i in range(TARGETS + 1)]
        policy = PolicyTable.from_members(draws.space, emitted)
        return policy, {"emitted": policy.emitted, "penalty": round(penalty, 6)}


def _lowest(task: Task, space: ProductSpace) -> float:
    """The smallest share of the full MACs that a budget needs and the space has."""
    return max(min(task.budgets), cost.share(space.backbone, space.smallest))


def _uniform(space: ProductSpace) -> Callable[[float], Submodel | None]:
    """Stands for a policy that is not there yet, to know what a selection will cost: uniform shapes."""
    sizes = list(product(space.heads, space.mlps))
    n = space.depth
    policy = PolicyTable.from_members(
        space, [Submodel(space.embeds[0], (h,) * n, (m,) * n) for h, m in sizes], narrowed=False
    )
    return policy.choose
