"""EA-ViT: curriculum elastic adaptation, NSGA-II, then router and backbone together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from eavit.methods.answers import Elastic
from eavit.methods.choosing import SelectOptions
from eavit.methods.fitness import FrontSearch, Search, front_policy
from eavit.methods.fitting import digest_of, train
from eavit.methods.recipe import Card, Recipe
from eavit.methods.stage2 import Stage2, WarmUp, uniform_points
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed, number, options_table, refuse
from eavit.selection.front import Candidate, Front
from eavit.selection.router import PolicyTable, Router, Routing, imitate, route_jointly, routing_cost
from eavit.selection.selectors import EVALUATIONS, Policy, given, uniform
from eavit.space.product import ProductSpace
from eavit.training.allocation import Allocation, FixedCost, Phase, allocate, batch_of, fit_on, plan_cost, steps_of
from eavit.training.coverage import coverage
from eavit.training.execution import Execution
from eavit.training.prepare import IMPORTANCES, preparation_cost, prepare, start
from eavit.training.samplers import ORDERS, TYINGS, Curriculum, Random, Sampler, Triggered, stratified
from eavit.training.scores import score_of, score_on
from eavit.training.task import Task
from eavit.training.train import Fit

PAPER = "EA-ViT: Efficient Adaptation for Elastic Vision Transformer, ICCV 2025, arXiv 2507.19360"
DIMENSIONS = ("mlp", "heads", "embed", "depth")
ORDER_OF = {"growing": "largest_first", "reversed": "smallest_first", "stages": "newest_only", "published": "published"}
CURRICULA = (*ORDER_OF, "triggered", "none")
PATIENCE = 0.05  # of stage 1: how long a loss-triggered stage waits for a gain; the paper's stages are as long
KNOWN = ("importance", "stage1", "stage2", "search", "select", "nesting", "evaluations")
RENAMED = {  # earlier spellings
    **{key: f"stage1.{key}" for key in ("tying", "curriculum", "min_depth", "elastic")},
    **{key: f"stage2.{key}" for key in ("selector", "start", "budget_weight", "imitation_weight")},
    **{key: f"search.{key}" for key in ("population", "generations")},
    "route": "stage2.share",
    "router_warmup": "stage2.warmup",
}
DEFECTS = "norm_over skipped_bias norm_eps fresh_norms fitness targets warmup searched quotas epoch_batches".split()
RENAMED |= {key: f"defects.{key} of eavit.methods:ea_vit_published" for key in DEFECTS}

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
        "stage2.budget_weight": (20.0, "code"),
        "stage2.imitation_weight": (20.0, "code"),  # annealed to 0
        "tau": (1.0, "code"),
        "router lr": ((1e-2, 1e-4), "code"),
    },
    ours=(
        "hidden widths are absolute, not ratios of the drawn channels: the code has both meanings",
        "half of the branches of either kind always stay",
        "submodels of stage 1 uniform in log MACs, with layers that differ, none below the smallest budget",
        "fitness on fold A of the select split, without augmentation; the front estimated again on fold B",
        "one cycle of the learning rate over both stages, unless stage2.cycle says otherwise",
        "a projection keeps every choice within its budget",
        "of equal MACs each stage gets as many steps, in proportion, as of equal steps",
    ),
    deviations=(
        "stage 2 takes .4 of the steps (code: 1000 steps and 100 epochs after 100 epochs): equal steps for all methods",
        "population 40, 12 generations (code: 5 with quotas for 100, 301): what the schedules here can pay",
        "none of the defects of the code, each of which ea_vit_published can have alone",
    ),
)


@dataclass(frozen=True, slots=True)
class Stage1:
    """Table ``stage1``: the training of the elastic backbone.

    ``tying``: how the layers of a random submodel hang together: shared, per_layer or stratified. ``curriculum``:
    growing, reversed, stages, triggered (by the loss; equal steps only), published or none. ``min_depth``: the fraction
    of branches always kept. ``elastic``: the dimensions that vary; the others stay full.
    """

    tying: str = "stratified"
    curriculum: str = "growing"
    min_depth: float = 0.5
    elastic: Sequence[str] = DIMENSIONS

    def __post_init__(self) -> None:
        allowed("stage1.tying", self.tying, TYINGS)
        allowed("stage1.curriculum", self.curriculum, CURRICULA)
        number("stage1.min_depth", self.min_depth, "[0, 1]")
        for name in self.elastic:
            allowed("stage1.elastic", name, DIMENSIONS)
        if not self.elastic or len(set(self.elastic)) != len(self.elastic):
            raise ValueError(
                f"option stage1.elastic={list(self.elastic)}: at least one of {', '.join(DIMENSIONS)}, and each once"
            )

    def space(self, backbone: Backbone) -> ProductSpace:
        """The paper's space with only the ``elastic`` dimensions free."""
        whole, b = ProductSpace.eavit(backbone, self.min_depth), backbone
        return replace(
            whole,
            embeds=whole.embeds if "embed" in self.elastic else (b.embed,),
            heads=whole.heads if "heads" in self.elastic else (b.heads,),
            mlps=whole.mlps if "mlp" in self.elastic else (b.mlp,),
            min_attn=whole.min_attn if "depth" in self.elastic else b.depth,
            min_mlp=whole.min_mlp if "depth" in self.elastic else b.depth,
        )

    @property
    def regimes(self) -> tuple[str, ...]:
        """Those in which the cost of the curriculum can be known beforehand."""
        return ("equal_steps",) if self.curriculum == "triggered" else ("equal_steps", "equal_macs")

    def sampler(self, space: ProductSpace, floor: float, steps: int) -> Sampler:
        """Sampler of stage 1 for so many steps; nothing cheaper than ``floor``, a share of the full MACs, is wanted."""
        draw = partial(stratified, floor=floor) if TYINGS[self.tying] is stratified else TYINGS[self.tying]
        if self.curriculum == "none":
            return Random(space, draw)
        if self.curriculum == "triggered":
            return Triggered(space, draw, patience=max(5, round(PATIENCE * steps)))
        return Curriculum(space, draw, order=ORDERS[ORDER_OF[self.curriculum]])


@dataclass(frozen=True, slots=True)
class EaVit:
    """EA-ViT as a value: its options and what its phases do. :mod:`eavit.methods.published` alters some of them."""

    stage1: Stage1
    stage2: Stage2
    search: FrontSearch
    options: SelectOptions
    importance: str
    routing: Routing
    start: Callable[[Task], NestedViT] = start
    prepare: Callable[[Task, NestedViT, str], NestedViT] = prepare
    training: Callable[[Task], Task] = lambda task: task  # the task as everything after the preparation sees it
    warm_up: WarmUp = field(default_factory=WarmUp)

    def recipe(self, name: str, card: Card) -> Recipe:
        """The method of these options, by a name."""
        return Recipe(name, self.run, card, lambda b, _: self.stage1.space(b), regimes=self.stage1.regimes)

    def run(self, task: Task) -> Elastic:
        """Stage 1, the search, stage 2, and the choices."""
        vit, prepared_on, task = self.start(task), task, self.training(task)
        space = self.stage1.space(vit.backbone)
        allocation = self._allocation(prepared_on, task, space)
        vit = self.prepare(prepared_on, vit, self.importance)
        first = allocation.fit("stage1")
        sampler = self.stage1.sampler(space, min(task.budgets), first.total or 0)
        train(vit, sampler, first)
        diagnostics: dict[str, Any] = {
            "coverage": coverage([(sampler, first.total or 0)], vit.backbone, task.seed),
            "evaluations": 0,
        }
        front = None
        if self.stage2.searched:
            front, optimism = self.search.run(task, vit, space)
            diagnostics |= front.report(optimism)
        if front is not None and not self.stage2.routed:
            return self._answer(task, vit, space, front_policy(front), diagnostics)
        policy = self._route(task, vit, space, front, allocation.fit("stage2"))
        diagnostics |= {"emitted": policy.emitted, "on_fold_b": _compare(task, vit, policy, front)}
        return self._answer(task, vit, space, policy.choose, diagnostics)

    def _allocation(self, prepared_on: Task, task: Task, space: ProductSpace) -> Allocation:
        b, share, batch = space.backbone, self.stage2.share if self.stage2.routed else 0.0, batch_of(task)
        sampler = self.stage1.sampler(space, min(task.budgets), steps_of(task))
        parts: list[Phase | FixedCost] = [
            partial(preparation_cost, prepared_on, b, self.importance),
            Phase("stage1", plan_cost(task, b, sampler), 1 - share, self.stage2.phase_cycle),
        ]
        if self.stage2.searched:
            parts.append(partial(self.search.cost, task, space))
        if self.stage2.routed:
            parts.append(Phase("stage2", partial(self._route_cost, b, batch), share, self.stage2.phase_cycle))
            parts.append(partial(self._warm_cost, b, batch, self.stage2.warmup_steps))
        return allocate(task, *parts, lambda: self.options.choosing(uniform()).cost(task, space))

    def _route_cost(self, backbone: Backbone, batch: int, steps: int) -> float:
        warm = self.stage2.frozen(steps)
        return self._warm_cost(backbone, batch, warm) + routing_cost(backbone, batch, 0, steps - warm)

    def _warm_cost(self, backbone: Backbone, batch: int, steps: int) -> float:
        return routing_cost(backbone, batch, 0 if self.warm_up.free else steps, 0)

    def _route(self, task: Task, vit: NestedViT, space: ProductSpace, front: Front | None, run: Fit) -> PolicyTable:
        """Run stage 2: router and backbone, in place."""
        first, steps, span = self.stage2.divided(run)
        warm, joint = fit_on(task, "warm", first, span), fit_on(task, "joint", steps, span)
        router = Router(space, generator=torch.Generator().manual_seed(task.seed))
        references, routing = self._references(space, front), self._routing(task, space)
        with task.ledger.phase("route"):
            if references:
                imitate(router, references)
            needed = needed_references(references, min(task.budgets))
            self.warm_up.run(vit, router, needed, routing, warm)
            route_jointly(vit, router, needed, routing, joint)
        return PolicyTable.of(router)

    def _references(self, space: ProductSpace, front: Front | None) -> tuple[Candidate, ...]:
        """Points that the router starts from and is held to, from the smallest budget on."""
        if front is not None:
            return front.cover
        return uniform_points(space) if self.stage2.start == "uniform" else ()

    def _routing(self, task: Task, space: ProductSpace) -> Routing:
        if self.routing.targets is not None or self.stage2.start != "none":
            return self.routing
        return replace(self.routing, targets=(max(min(task.budgets), cost.share(space.backbone, space.smallest)), 1.0))

    def _answer(
        self, task: Task, vit: NestedViT, space: ProductSpace, native: Policy, diagnostics: Mapping[str, Any]
    ) -> Elastic:
        """The method's own policy, or the one that the options put in its place."""
        known = {**diagnostics, "weights": digest_of(vit)}
        if self.options.own:
            return Elastic(vit, native, known)
        return self.options.choosing(given(native)).answer(task, vit, space, known, name="choice")

    @property
    def values(self) -> dict[str, Any]:
        """The values of all options, for a card."""
        tables = {"stage1": asdict(self.stage1), "stage2": asdict(self.stage2), "search": asdict(self.search.size)}
        values = {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}
        return {"importance": self.importance, **values, **asdict(self.options)}


def method_of(
    importance: str,
    stage1: Mapping[str, Any],
    stage2: Mapping[str, Any],
    search: Mapping[str, Any],
    options: SelectOptions,
    others: Mapping[str, Any],
    known: Sequence[str] = KNOWN,
) -> EaVit:
    """EA-ViT with the options of a suite; ValueError on ``others``, which it does not have."""
    refuse(others, known, RENAMED)
    allowed("importance", importance, IMPORTANCES)
    first, second = options_table(Stage1, "stage1", stage1), options_table(Stage2, "stage2", stage2)
    if not second.routed and (second.start, options.select) != ("nsga2", "native"):
        raise ValueError(
            f"option stage2.selector='search' has no router: stage2.start={second.start!r} and "
            f"select={options.select!r} mean nothing"
        )
    routing = Routing(second.budget_weight, second.imitation_weight)
    return EaVit(first, second, FrontSearch(options_table(Search, "search", search)), options, importance, routing)


def ea_vit(
    importance: str = "taylor",
    stage1: Mapping[str, Any] = {},
    stage2: Mapping[str, Any] = {},
    search: Mapping[str, Any] = {},
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
    **others: Any,
) -> Recipe:
    """EA-ViT: curriculum elastic adaptation, NSGA-II, then router and backbone together.

    Tables: ``stage1`` (:class:`Stage1`), ``stage2`` (:class:`Stage2`), ``search``
    (:class:`~eavit.methods.fitness.Search`). ``select`` other than native: a common selector, with so many
    ``evaluations``, in the place of the trained router. ``nesting`` is free, nested or monotone.
    """
    options = SelectOptions(select, nesting, evaluations)
    method = method_of(importance, stage1, stage2, search, options, others)
    return method.recipe("ea_vit", CARD.with_values(method.values))


def needed_references(points: Sequence[Candidate], floor: float) -> tuple[Candidate, ...]:
    """References from the largest one at or under the smallest budget on: no budget needs a smaller target."""
    below = [p for p in points if p.share <= floor]
    return (*below[-1:], *(p for p in points if p.share > floor))


def _compare(task: Task, vit: NestedViT, policy: PolicyTable, front: Front | None) -> dict[str, Any]:
    """Score of router and plain search on the same final weights, on fold B, for each budget. A diagnostic: nothing
    is chosen by it, and it is not charged.
    """

    name, execution = score_of(task), Execution.of(task.schedule)

    def score(submodel: Submodel | None) -> float | None:
        return None if submodel is None else round(score_on(task.select_b, name, vit, submodel, execution=execution), 6)

    scores: dict[str, Any] = {str(b): {"router": score(policy.choose(b))} for b in task.budgets}
    if front is not None:
        searched = front_policy(front)
        scores = {str(b): scores[str(b)] | {"search": score(searched(b))} for b in task.budgets}
    return scores
