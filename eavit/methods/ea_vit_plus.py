"""EA-ViT+, ours: a rotated start, a few searched members instead of a whole space, trained sliced, small ones most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eavit.methods.answers import Elastic
from eavit.methods.fitting import train, trained_diagnostics
from eavit.methods.recipe import Card, Recipe
from eavit.methods.sizes import choosing_size
from eavit.model import cost
from eavit.model.cost import Measure
from eavit.model.importance import Scores
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed, number, options_table, refuse, whole
from eavit.selection.front import BINS, Candidate, Fitness, Front
from eavit.selection.search import find_front
from eavit.selection.selectors import EVALUATIONS
from eavit.selection.shapes import greedy_path, uniforms
from eavit.space.members import widths_in_parts
from eavit.space.product import ProductSpace
from eavit.space.sizes import ListSpace
from eavit.training.allocation import Phase, allocate, plan_cost
from eavit.training.execution import Execution
from eavit.training.passes import Pass, Passes, Plan
from eavit.training.prepare import BATCH, IMPORTANCES, order_of, preparation_cost, prepare, scored, scoring_cost, start
from eavit.training.samplers import Submodels
from eavit.training.scores import ACCURACY, SCORES, score_of
from eavit.training.task import Target, Task

CARD = Card(
    title="EA-ViT+, ours",
    paper="ours; after EA-ViT: Efficient Adaptation for Elastic Vision Transformer, ICCV 2025, arXiv 2507.19360",
    code="this project",
    elastic="embedding width; for each layer head count, hidden width, and both branches: as many members as budgets",
    step="one member, the small ones more often (about .44 with five budgets)",
    distillation="none",
    selection="the largest member that fits; of limits of any kind, the member that was made for them",
    parameters={},
    ours=(
        "importance='auto': the residual stream is rotated to its principal components (as in SKD, arXiv 2511.11683), "
        "units are sorted by the variance that they add, dropped units count with their means (FLAP, arXiv 2312.11983)",
        "NSGA-II proposes the members before the training, by their accuracy on a few images of fold A",
        "members are trained sliced, one a step; none but them is",
        "draws weighted by MACs to the power of -members.draw",
    ),
    deviations=(
        "of the paper remain: four elastic dimensions, importance order, customised NSGA-II",
        "no curriculum: opening the small members later costs accuracy at every budget (docs/log.md)",
        "no router network: with a member for each budget a table is the whole policy",
    ),
)
KNOWN = ("importance", "members", "shapes", "select", "nesting", "evaluations")
STEPS = ("pieces", "all")
SHAPES = ("searched", "paths", "uniform")
CHANNEL_WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of channels against other units; no single one is best at all budgets


@dataclass(frozen=True, slots=True)
class Members:
    """Table ``members``: what is trained.

    ``count``: members, evenly spread over the budgets; 0: one for each budget. ``draw``: a member is drawn in
    proportion to its MACs to the power of ``-draw``; 0: all alike. ``step``: pieces, the batch in ``micro_batches``
    pieces, each with a member of its own; or all, every member on the whole batch.
    """

    count: int = 0
    draw: float = 1.0
    step: str = "pieces"
    micro_batches: int = 1

    def __post_init__(self) -> None:
        whole("members.count", self.count, 0)
        number("members.draw", self.draw, "[0, inf)")
        allowed("members.step", self.step, STEPS)
        whole("members.micro_batches", self.micro_batches, 1)

    def budgets(self, asked: Sequence[float]) -> tuple[float, ...]:
        """Budgets that members are made for, ascending; the last one is all."""
        if not self.count:
            return tuple(sorted({*asked, 1.0}))
        return tuple(float(b) for b in np.linspace(min(asked), 1.0, self.count))

    def targets(self, task: Task, backbone: Backbone) -> tuple[Target, ...]:
        """Targets of the members: the task's and the full model, or where it has none its budgets."""
        macs, others = Measure.of_macs(backbone), tuple(getattr(task, "targets", ()))
        if others:
            return (*others, Target(macs, 1.0))
        return tuple(Target(macs, budget) for budget in self.budgets(task.budgets))

    def plan(self, backbone: Backbone, members: Submodels) -> Plan:
        """The step plan: for each micro-batch one of the members. Of one step the draws are systematic, so that each
        member gets its share of the pieces as evenly as whole pieces allow.
        """
        shares = np.array([cost.share(backbone, member) for member in members])
        weights = shares**-self.draw
        odds, count = weights / weights.sum(), self.micro_batches

        def plan(progress: float, rng: np.random.Generator) -> Passes:
            if self.step == "all":
                return tuple(Pass(member, hard=float(loss)) for member, loss in zip(members, odds, strict=True))
            places = (rng.random() + np.arange(count)) / count
            drawn = np.searchsorted(np.cumsum(odds), places).clip(0, len(members) - 1)
            pieces = enumerate(rng.permutation(drawn))
            return tuple(Pass(members[i], hard=1 / count, part=(piece, count)) for piece, i in pieces)

        return plan


@dataclass(frozen=True, slots=True)
class Shapes:
    """Table ``shapes``: the shapes of the members.

    ``propose``: searched (NSGA-II from paths of least importance and uniform shapes), paths (the best of these) or
    uniform. ``population`` and ``generations`` of the search; ``images`` of fold A that a shape is measured on;
    ``min_depth``: the fraction of branches always kept. ``multiple_of``: embedding and hidden widths below the full
    ones are multiples of it.
    """

    propose: str = "searched"
    population: int = 12
    generations: int = 1
    images: int = 64
    min_depth: float = 0.5
    multiple_of: int = 1

    def __post_init__(self) -> None:
        allowed("shapes.propose", self.propose, SHAPES)
        whole("shapes.population", self.population, 2)
        whole("shapes.generations", self.generations, 0)
        whole("shapes.images", self.images, 1)
        number("shapes.min_depth", self.min_depth, "[0, 1]")
        whole("shapes.multiple_of", self.multiple_of, 1)

    def space(self, backbone: Backbone) -> ProductSpace:
        """Every head count, hidden widths in sixteenths, embeddings in twenty-fourths, from a quarter on."""
        b, branches = backbone, int(np.ceil(self.min_depth * backbone.depth - 1e-9))
        embeds = widths_in_parts(b.embed, range(6, 25), 24, self.multiple_of)
        mlps = widths_in_parts(b.mlp, range(2, 17), 16, self.multiple_of)
        return ProductSpace(b, embeds, tuple(range(1, b.heads + 1)), mlps, branches, branches)

    def candidates(self, space: ProductSpace, scores: Scores, targets: Sequence[Target]) -> tuple[Submodel, ...]:
        """Shapes within each target, all of one measure: the largest uniform one, and the first on each path of least
        importance. Where the measure is not MACs, paths by MACs are followed too, until they fit by the measure.
        """
        measure = targets[0].measure
        ways = (None,) if measure == Measure.of_macs(space.backbone) else (measure, None)
        paths: list[Sequence[Submodel]] = [uniforms(space)]
        if self.propose != "uniform":
            weighted = [Scores(scores.channels * w, scores.heads, scores.neurons) for w in CHANNEL_WEIGHTS]
            paths += [greedy_path(space, each, way) for way in ways for each in weighted]
        fits = (_first_within(path, target) for target in targets for path in paths)
        return tuple(dict.fromkeys(member for member in fits if member is not None))

    def explore(
        self,
        space: ProductSpace,
        scores: Scores,
        targets: Sequence[Target],
        seed: int,
        fitness: Fitness,
        always: Sequence[Submodel] = (),
    ) -> dict[Submodel, float]:
        """Fitness of the candidates, of what a search from them finds for each measure of the targets, and of the
        shapes that are ``always`` measured.
        """
        known: dict[Submodel, float] = {}

        def once(submodel: Submodel) -> float:
            if submodel not in known:
                known[submodel] = fitness(submodel)
            return known[submodel]

        for measure in dict.fromkeys(target.measure for target in targets):
            first = self.candidates(space, scores, [target for target in targets if target.measure == measure])
            if self.propose == "searched":
                size, end = self.population, self.generations
                find_front(space, once, population=size, generations=end, start=first, measure=measure, seed=seed)
            for submodel in (*first, *always):
                once(submodel)
        return known


def _first_within(path: Sequence[Submodel], target: Target) -> Submodel | None:
    """The first of a path of descending MACs that fits."""
    return next((member for member in path if target.fits(member)), None)


@dataclass(frozen=True, slots=True)
class EaVitPlus:
    """EA-ViT+ as a value; ``choosing``: select, nesting and evaluations."""

    members: Members
    shapes: Shapes
    importance: str
    choosing: tuple[str, str, int]

    def run(self, task: Task) -> Elastic:
        """Prepare, propose the members, train them, and choose."""
        vit = start(task)
        b, space = vit.backbone, self.shapes.space(vit.backbone)
        targets = self.members.targets(task, b)
        metric = order_of(vit, self.importance)
        choose = choosing_size(*self.choosing)
        typical = self.members.plan(b, tuple(_uniform_members(space, targets)))
        allocation = allocate(
            task,
            partial(preparation_cost, task, b, self.importance),
            partial(self._proposal_cost, task, space, targets, metric),
            Phase("train", plan_cost(task, b, typical)),
            lambda: choose.cost(task, ListSpace.of(b, _uniform_members(space, targets))),
        )
        vit = prepare(task, vit, self.importance)
        members, proposed = self._propose(task, vit, space, targets, metric)
        plan = self.members.plan(b, members)
        run = allocation.fit("train", plan_cost(task, b, plan))
        train(vit, plan, run)
        diagnostics = {"steps": {run.phase: run.total or 0}, **proposed, **trained_diagnostics(vit, (plan, run))}
        return choose.answer(task, vit, ListSpace.of(b, members), diagnostics)

    def _propose(
        self, task: Task, vit: NestedViT, space: ProductSpace, targets: Sequence[Target], metric: str
    ) -> tuple[Submodels, dict[str, Any]]:
        """Members by ascending MACs, and what their search saw."""
        scores = scored(task, vit, metric, "search")
        batches, execution = _first_images(task, self.shapes.images), Execution.of(task.schedule)
        spent: list[float] = []
        limited = bool(getattr(task, "targets", ()))

        def fitness(submodel: Submodel) -> float:
            spent.append(float(cost.macs(vit.backbone, submodel)))
            return _fitness(vit, submodel, batches, execution, score_of(task))

        with task.ledger.phase("search"):
            always = (space.smallest,) if limited else ()
            known = self.shapes.explore(space, scores, targets, task.seed, fitness, always)
            seen = sum(len(labels) for _, labels in batches)
            task.ledger.add(forward_macs=sum(spent) * seen, images=seen)
        best = [(using_up if limited else by_bins)(known, target) for target in targets]
        members = ListSpace.of(vit.backbone, [*(s for s in best if s is not None), vit.backbone.full]).members
        filled = [None if submodel is None else str(submodel) for submodel in best]
        return members, {"members": [*map(str, members)], "filled": filled, "proposals": len(known)}

    def _proposal_cost(self, task: Task, space: ProductSpace, targets: Sequence[Target], metric: str) -> float:
        b = space.backbone
        spent: list[float] = []

        def fitness(submodel: Submodel) -> float:
            spent.append(float(cost.macs(b, submodel)))
            return float(np.log(spent[-1]))

        self.shapes.explore(space, Scores.equal(b), targets, task.seed, fitness)
        return scoring_cost(task, b, metric) + sum(spent) * min(self.shapes.images, len(task.select_a))

    @property
    def values(self) -> dict[str, Any]:
        """The values of all options, for a card."""
        tables = {"members": asdict(self.members), "shapes": asdict(self.shapes)}
        values = {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}
        return {"importance": self.importance, **values, "select": self.choosing[0], "nesting": self.choosing[1]}


def _uniform_members(space: ProductSpace, targets: Sequence[Target]) -> list[Submodel]:
    path = uniforms(space)
    shapes = (_first_within(path, target) for target in targets)
    return [*(shape for shape in shapes if shape is not None), space.backbone.full]


def by_bins(known: Mapping[Submodel, float], target: Target) -> Submodel | None:
    """The fittest shape of the bin of MACs below the budget that holds any: what is not used of a budget is lost. A bin
    whose fittest is above the budget holds none.
    """
    cover = Front.of((Candidate.by(target.measure, *item) for item in known.items()), len(known)).cover
    best = max((point for point in cover if target.fits(point.submodel)), key=lambda p: p.share, default=None)
    return None if best is None else best.submodel


def using_up(known: Mapping[Submodel, float], target: Target) -> Submodel:
    """The fittest of the shapes within the target that use it up: those whose size, counted down from it in twentieths
    of the full model's, is in the first that holds any.
    """
    left = {s: int((target.budget - target.measure.share(s)) * BINS) for s in known if target.fits(s)}
    return max((s for s in left if left[s] == min(left.values())), key=lambda s: (known[s], str(s)))


def _first_images(task: Task, count: int) -> list[tuple[Tensor, Tensor]]:
    return list(islice(task.select_a.batches(min(count, BATCH), seed=None), -(-count // BATCH)))


@torch.inference_mode()
def _fitness(
    vit: NestedViT, submodel: Submodel, batches: Sequence[tuple[Tensor, Tensor]], execution: Execution, score: str
) -> float:
    """The score; of accuracy, by less than one image more for the probability of the right classes, to order equals."""
    device = next(vit.parameters()).device
    with execution.autocast(vit):
        logits = torch.cat([vit(images.to(device), submodel) for images, _ in execution.pieces(batches)]).float()
    labels = torch.cat([labels for _, labels in batches]).to(device)
    if score != ACCURACY:
        return SCORES[score](logits, labels)
    sure = logits.softmax(-1).gather(1, labels[:, None]).mean()
    return (int((logits.argmax(-1) == labels).sum()) + float(sure)) / (len(labels) + 1)


def ea_vit_plus(
    importance: str = "auto",
    members: Mapping[str, Any] = {},
    shapes: Mapping[str, Any] = {},
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
    **others: Any,
) -> Recipe:
    """EA-ViT+ (ours): a rotated start, then a few searched members, trained sliced, one a step.

    Tables: ``members`` (:class:`Members`) and ``shapes`` (:class:`Shapes`). ``importance``: auto is rotated where the
    backbone allows it, or else variance, or else taylor. ``nesting``: free or monotone.
    """
    refuse(others, KNOWN, {})
    allowed("importance", importance, IMPORTANCES)
    choosing_size(select, nesting, evaluations)  # refuses wrong values before any work
    if nesting == "nested":
        raise ValueError(
            "option nesting='nested': members are searched and need not lie inside each other; allowed: free, monotone"
        )
    first, second = options_table(Members, "members", members), options_table(Shapes, "shapes", shapes)
    method = EaVitPlus(first, second, importance, (select, nesting, evaluations))
    return Recipe(
        "ea_vit_plus",
        method.run,
        CARD.with_values(method.values),
        space=lambda backbone, budgets: second.space(backbone),
        fills=(select, nesting, first.count) == ("native", "free", 0),
    )
