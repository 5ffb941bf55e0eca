"""The search of EA-ViT: NSGA-II over (MACs, fitness), with a quota of places for each bin of the MACs axis. Any other
measure can stand in the place of MACs.

From the paper and its code: both objectives, two-point crossover 0.95, mutation 0.3, 20 bins over the share of the full
MACs with the quotas of :data:`.quotas.QUOTAS`, in each bin front after front by a crowding in MACs that is recomputed
as points are chosen, no duplicates nor points closer than 0.002, up to 4 rounds a generation, then random immigrants.
Ours: integer genes (a mutation rate for the individual, then 1/n for each gene, to another value drawn uniformly),
parents by binary tournament on front and crowding, children never a submodel evaluated before, quotas scaled to the
population and to the bins that the space reaches, a stratified start, both ends of the MACs axis always kept, later
rounds only as large as the places still open, immigrants aimed at the open bins, and a front taken over everything ever
evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.mating import Mating
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.selection.tournament import TournamentSelection

from eavit.model.cost import Measure
from eavit.model.submodel import Submodel
from eavit.selection.front import BINS, Candidate, Fitness, Front, volume
from eavit.selection.quotas import (
    QUOTAS,
    BinQuotas,
    Ints,
    UnscaledQuotas,
    bin_of,
    paper_quotas,
    scale_quotas,
    with_ranks,
)
from eavit.space.space import Space

ROUNDS = 4  # of mating and survival in one generation


class _Objectives(Problem):
    """Minimise size and negated fitness; ``points`` keeps, by code, all that was ever evaluated."""

    def __init__(self, space: Space, fitness: Fitness, measure: Measure) -> None:
        sizes = space.gene_sizes
        super().__init__(n_var=len(sizes), n_obj=2, xl=np.zeros(len(sizes)), xu=sizes - 1)
        self.space, self.fitness, self.measure = space, fitness, measure
        self.points: dict[bytes, Candidate] = {}

    def _point(self, code: Ints) -> Candidate:
        submodel = self.space.require(self.space.from_genes(code))
        return Candidate.by(self.measure, submodel, float(self.fitness(submodel)))

    def _evaluate(self, genes: Ints, out: dict[str, Any], *_: Any, **__: Any) -> None:
        for code in genes:
            if bytes(code) not in self.points:
                self.points[bytes(code)] = self._point(code)
        points = [self.points[bytes(code)] for code in genes]
        out["F"] = np.array([(p.cost, -p.fitness) for p in points], dtype=float)


class _Canonical(Repair):
    """One code for each submodel: equal genes and equal submodels are the same thing, so codes can be keys."""

    def _do(self, problem: _Objectives, genes: Ints, **_: Any) -> Ints:
        return np.array([problem.space.genes(problem.space.from_genes(code)) for code in genes])


class _Unseen(DuplicateElimination):
    """Drops children that were evaluated before, or occur twice in one generation."""

    def __init__(self, points: dict[bytes, Candidate]) -> None:
        super().__init__()
        self.points = points

    def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
        seen = set() if other is None else set(map(bytes, other.get("X")))
        for i, code in enumerate(map(bytes, pop.get("X"))):
            is_duplicate[i] = code in seen or code in self.points
            if other is None:
                seen.add(code)
        return is_duplicate


class _OtherValue(Mutation):
    """Each gene that has a choice changes with probability 1/n to another of its values."""

    def _do(self, problem: _Objectives, genes: Ints, *_: Any, random_state: np.random.Generator, **__: Any) -> Ints:
        sizes = problem.space.gene_sizes
        free = sizes > 1
        hit = free & (random_state.random(genes.shape) < 1 / max(1, free.sum()))
        step = random_state.integers(1, np.maximum(sizes, 2), size=genes.shape)
        return np.where(hit, (genes + step) % sizes, genes)


def _tournament(pop: Any, pairs: Ints, **_: Any) -> Ints:
    """The better rank wins, then the larger crowding; pairs come in random order, so a tie falls to either."""
    rank, crowding = pop.get("rank", "crowding")
    a, b = pairs.T
    second = (rank[b] < rank[a]) | ((rank[b] == rank[a]) & (crowding[b] > crowding[a]))
    winners: Ints = np.where(second, b, a)
    return winners


@dataclass(frozen=True, slots=True)
class _Search:
    """One run: what a generation needs, with its own generator (pymoo draws from nothing else)."""

    problem: _Objectives
    survival: BinQuotas
    mating: Any
    population: int
    limit: float  # of distinct submodels evaluated
    rng: np.random.Generator

    @property
    def left(self) -> int:
        """Submodels that may still be evaluated."""
        points = self.problem.points
        return int(min(self.limit, self.problem.space.distinct) - len(points))

    def evaluated(self, pop: Any) -> Any:
        return Evaluator(evaluate_values_of=["F"]).eval(self.problem, pop)

    def start(self, first: Sequence[Submodel] = ()) -> Any:
        space = self.problem.space
        known = [space.genes(s) for s in dict.fromkeys((space.smallest, space.largest, *first))]
        return self._with_immigrants(self.evaluated(Population.new("X", known)))

    def generation(self, pop: Any) -> Any:
        missing = self.population
        for _ in range(ROUNDS):
            if not (count := min(missing, self.left)):
                return pop
            children = self.mating.do(self.problem, pop, count, random_state=self.rng)
            pool = Population.merge(pop, self.evaluated(children))
            pop = self.survival.do(self.problem, pool, random_state=self.rng)
            missing = self.population - len(pop)
            if missing == 0:
                return pop
        return self._with_immigrants(pop)

    def _with_immigrants(self, pop: Any) -> Any:
        """``pop`` and a random immigrant for each open place, aimed at the place's bin."""
        seen = set(map(bytes, pop.get("X")))
        immigrants: list[Ints] = []
        allowed = min(self.limit - len(self.problem.points), self.population)
        for b in self.survival.open_bins(pop, self.rng)[: int(allowed)]:
            tries = (self._draw(int(b)) for _ in range(ROUNDS))
            for code in islice((c for c in tries if bytes(c) not in seen), 1):
                seen.add(bytes(code))
                immigrants.append(code)
        return with_ranks(Population.merge(pop, self.evaluated(Population.new("X", immigrants))))

    def _draw(self, b: int) -> Ints:
        """The code of a member near a random share in bin b."""
        space, measure = self.problem.space, self.problem.measure
        target = measure.full * (b + self.rng.random()) / len(self.survival.quotas)
        return space.genes(space.near(target, self.rng, measure))


Quotas = Sequence[int] | Literal["paper"] | None


def _check(population: int, generations: int, bins: int, limit: float, quotas: Quotas, rates: dict[str, float]) -> None:
    least = {
        "population": (population, 2),
        "generations": (generations, 0),
        "bins": (bins, 1),
        "evaluations": (limit, 2),
    }
    for name, (value, lowest) in least.items():
        if value < lowest:
            raise ValueError(f"nsga2: {name} is {value}, must be at least {lowest}")
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"nsga2: {name} is {rate}, must lie in 0..1")
    if quotas == "paper":
        if bins != len(QUOTAS):
            raise ValueError(f"nsga2: bins is {bins}, must be {len(QUOTAS)} with quotas='paper'")
    elif isinstance(quotas, str):
        raise ValueError(f"nsga2: quotas is {quotas!r}; the only name is 'paper', else one number for each bin")
    elif quotas is not None and (len(quotas) != bins or min(quotas) < 0):
        raise ValueError(f"nsga2: quotas {list(quotas)} must be {bins} numbers, one for each bin, none negative")


def _survival(space: Space, quotas: Quotas, population: int, bins: int, measure: Measure) -> BinQuotas:
    if isinstance(quotas, str):
        return UnscaledQuotas(np.array(QUOTAS), measure.full, population)
    reach = [int(bin_of(measure.share(end), bins)) for end in (space.smallest, space.largest)]
    shape = paper_quotas(bins) if quotas is None else np.asarray(quotas, dtype=float)
    return BinQuotas(scale_quotas(shape, population, (reach[0], reach[1])), measure.full)


def find_front(
    space: Space,
    fitness: Fitness,
    *,
    population: int = 100,
    generations: int = 300,
    bins: int = BINS,
    quotas: Quotas = None,
    seed: int,
    crossover: float = 0.95,
    mutation: float = 0.3,
    evaluations: float = inf,
    start: Sequence[Submodel] = (),
    measure: Measure | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Front:
    """Search ``space`` for submodels of few MACs, or small by another ``measure``, and high ``fitness``; the front of
    everything that was evaluated.

    Each distinct submodel is evaluated once, at most ``population * (1 + 5 * generations)`` in all and near
    ``population * (1 + generations)`` where the bins fill. ``quotas`` (default: the paper's) give the shape over
    ``bins`` and are scaled to the population; ``"paper"`` brings back the published defect of unscaled ones, and its
    front of the last generation alone. The search stops breeding when ``evaluations`` submodels, or all there are, were
    evaluated. ``start``: members that are evaluated first. Everything follows from ``seed`` if the fitness does.
    ``progress`` is called with (done, generations) at each generation's end; the front's ``progress`` is the
    hypervolume at each. FloatingPointError names a submodel whose fitness is not finite.
    """
    _check(population, generations, bins, evaluations, quotas, {"crossover": crossover, "mutation": mutation})
    measure = measure or Measure.of_macs(space.backbone)
    problem = _Objectives(space, fitness, measure)
    mating = Mating(
        TournamentSelection(func_comp=_tournament),
        TwoPointCrossover(prob=crossover),
        _OtherValue(prob=mutation),
        repair=_Canonical(),
        eliminate_duplicates=_Unseen(problem.points),
        n_max_iterations=ROUNDS,
    )
    survival = _survival(space, quotas, population, bins, measure)
    search = _Search(problem, survival, mating, population, evaluations, np.random.default_rng(seed))
    pop, volumes = search.start(start), []
    for done in range(1, generations + 1):
        if search.left:
            pop = search.generation(pop)
            volumes.append(volume(problem.points.values()))
        if progress is not None:
            progress(done, generations)
    last = {bytes(code) for code in pop.get("X")} if quotas == "paper" else problem.points.keys()
    front = Front.of((p for code, p in problem.points.items() if code in last), len(problem.points), bins)
    return replace(front, progress=tuple(volumes))
