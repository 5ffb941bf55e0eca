"""Fronts of measured submodels: which ones no other beats in cost and fitness, and the best within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from moocore import hypervolume, is_nondominated

from eavit.model.cost import Measure
from eavit.model.submodel import Submodel
from eavit.selection.quotas import bin_of

Fitness = Callable[[Submodel], float]
BINS = 20  # of the cost axis


@dataclass(frozen=True, slots=True)
class Candidate:
    """One evaluated submodel; ``cost`` is its size by the measure of the search, which is MACs unless said otherwise,
    ``share`` the same as a fraction of the full backbone's.
    """

    submodel: Submodel
    cost: float
    share: float
    fitness: float

    @classmethod
    def by(cls, measure: Measure, submodel: Submodel, fitness: float) -> Candidate:
        """The candidate with its size by a measure."""
        size = measure.of(submodel)
        return cls(submodel, size, size / measure.full, fitness)

    def __post_init__(self) -> None:
        if not isfinite(self.fitness):
            raise FloatingPointError(f"fitness of submodel {self.submodel} is {self.fitness}, must be a finite number")


def non_dominated(points: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The points that no other beats, cost and fitness both strictly ascending.

    Of equal (cost, fitness) the one with the lexicographically smallest spelling stays.
    """
    ordered = sorted(points, key=lambda p: (p.cost, -p.fitness, str(p.submodel)))
    values = np.array([(p.cost, -p.fitness) for p in ordered], dtype=float).reshape(-1, 2)
    # Of equal rows moocore keeps the first.
    return tuple(p for p, kept in zip(ordered, is_nondominated(values), strict=True) if kept)


@dataclass(frozen=True, slots=True)
class Front:
    """Non-dominated points, at least one, and how many evaluations of distinct submodels they took."""

    points: tuple[Candidate, ...]
    evaluations: int
    cover: tuple[Candidate, ...] = ()  # the fittest of each bin of the cost axis, dominated or not, ascending cost
    progress: tuple[float, ...] = ()  # hypervolume of all that was evaluated, after each generation of the search

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("front: it holds no point")
        for cheap, dear in zip(self.points, self.points[1:], strict=False):
            if not (cheap.cost < dear.cost and cheap.fitness < dear.fitness):
                raise ValueError(f"front: {cheap} and {dear} do not both rise in cost and fitness; use Front.of")

    @classmethod
    def of(cls, points: Iterable[Candidate], evaluations: int, bins: int = BINS) -> Front:
        """The front of any points, and the fittest of each bin: on a small fold the front alone ends where accuracy
        saturates, but a router must learn the whole axis.
        """
        every = tuple(points)
        best: dict[int, Candidate] = {}
        for p in sorted(every, key=lambda p: (p.cost, str(p.submodel))):
            place = int(bin_of(p.share, bins))
            if place not in best or p.fitness >= best[place].fitness:
                best[place] = p
        return cls(non_dominated(every), evaluations, tuple(best.values()))

    def best(self, budget: float) -> Candidate | None:
        """The fittest point at or under ``budget``, a fraction of the full backbone's cost; None: unreachable."""
        return max((p for p in self.points if p.share <= budget), key=lambda p: p.fitness, default=None)

    def reestimate(self, fitness: Fitness) -> tuple[Front, float]:
        """The front by fresh estimates, say on a second fold, and the mean optimism of the old ones (old - new).

        The optimism is over the front's points, those that the new estimates drop included. The fittest of each bin
        are estimated again too and may join the front; the evaluations add up.
        """
        again = dict.fromkeys((*self.points, *self.cover))
        new = {old: replace(old, fitness=float(fitness(old.submodel))) for old in again}
        optimism = np.mean([old.fitness - new[old].fitness for old in self.points])
        return replace(Front.of(new.values(), self.evaluations + len(new)), progress=self.progress), float(optimism)

    def report(self, optimism: float) -> dict[str, Any]:
        """Findings of a method: a point is (submodel, share of the full MACs, fitness)."""
        points = [[str(p.submodel), round(p.share, 6), round(p.fitness, 6)] for p in self.points]
        findings = {"front": points, "evaluations": self.evaluations, "optimism": round(optimism, 6)}
        return findings | ({"hypervolume_by_generation": [round(v, 6) for v in self.progress]} if self.progress else {})


def volume(points: Iterable[Candidate]) -> float:
    """The area that the points dominate in (share of the full MACs, fitness), from the corner (1, 0): for an accuracy
    a number in 0..1 that never falls when points are added.
    """
    values = np.array([(p.share, -p.fitness) for p in points], dtype=float).reshape(-1, 2)
    return float(hypervolume(values, ref=np.array([1.0, 0.0])))
