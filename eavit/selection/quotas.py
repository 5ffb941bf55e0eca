"""Bins of the axis of MACs or another cost, places for each, and which points of a generation keep them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from moocore import pareto_rank
from numpy.typing import NDArray
from pymoo.core.survival import Survival

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

QUOTAS = (2, 2, 3, 4, 5, *(6,) * 11, 5, 5, 4, 4)  # the paper's, for 20 bins and a population of 100
SPACING = 0.002  # least distance of two chosen points, in shares of the full cost


def bin_of(share: float | Floats, bins: int) -> Ints:
    """Index of the bin of [0, 1] that a share of the full cost falls in; the last bin holds 1 and more."""
    return np.clip((np.asarray(share) * bins).astype(np.int64), 0, bins - 1)


def paper_quotas(bins: int) -> Floats:
    """The paper's quotas as a density over [0, 1], gathered into ``bins`` bins."""
    edges = np.linspace(0, len(QUOTAS), bins + 1)
    return np.diff(np.interp(edges, np.arange(len(QUOTAS) + 1), np.cumsum((0, *QUOTAS))))


def scale_quotas(shape: Sequence[float] | Floats, population: int, reach: tuple[int, int]) -> Ints:
    """Places for each bin, ``population`` in all, in proportion to ``shape`` (by largest remainder, first bin on ties).

    Only the bins ``reach[0]..reach[1]`` get places and each at least one; a population too small for that is spread
    evenly from the first of them to the last. (Unscaled, a population of 5 would fill the cheapest bins only.)
    """
    first, last = reach
    weights = np.asarray(shape, dtype=float)[first : last + 1]
    places = np.zeros(len(shape), dtype=np.int64)
    if population < len(weights):
        places[first + np.linspace(0, len(weights) - 1, population).round().astype(np.int64)] = 1
        return places
    if weights.sum() == 0:
        raise ValueError(f"quotas {list(shape)} are all zero in the bins {first}..{last} that the space reaches")
    beyond = np.maximum(weights * population / weights.sum() - 1, 0)
    extra = beyond * (population - len(weights)) / (beyond.sum() or 1)
    whole = np.floor(extra + 1e-9).astype(np.int64)
    remainder = population - len(weights) - int(whole.sum())
    whole[np.argsort(whole - extra, kind="stable")[:remainder]] += 1
    places[first : last + 1] = 1 + whole
    return places


class BinQuotas(Survival):
    """Survivors by bin of cost: at most ``quotas[b]`` in bin b, and none closer than SPACING to another.

    The points of fewest and of most MACs (the fittest of equals) always stay and count in their bins, which must have a
    place for them. Places that none may take stay open. Survivors are labelled with ``rank`` and ``crowding``.
    """

    def __init__(self, quotas: Ints, full: float) -> None:
        super().__init__(filter_infeasible=False)
        self.quotas, self.full = quotas, full

    def bins_of(self, pop: Any) -> Ints:
        return bin_of(pop.get("F")[:, 0] / self.full, len(self.quotas))

    def open_bins(self, pop: Any, rng: np.random.Generator) -> Ints:
        """The bin of each place that ``pop`` leaves open."""
        held = np.bincount(self.bins_of(pop), minlength=len(self.quotas))
        return np.repeat(np.arange(len(self.quotas)), np.maximum(self.quotas - held, 0))

    def _do(self, problem: Any, pop: Any, *_: Any, **__: Any) -> Any:
        values, bins = pop.get("F"), self.bins_of(pop)
        shares, loss, rank = values[:, 0] / self.full, values[:, 1], pareto_rank(values)
        ends = {int(np.lexsort((loss, shares))[0]), int(np.lexsort((loss, -shares))[0])}
        chosen = sorted(ends)
        gap = np.min([np.abs(shares - shares[end]) for end in chosen], axis=0)
        for b in np.unique(bins):
            held = sum(int(bins[end] == b) for end in ends)
            chosen += fill(np.flatnonzero(bins == b), rank, shares, gap, self.quotas[b] - held)
        return with_ranks(pop[chosen])


class UnscaledQuotas(BinQuotas):
    """Survivors as the published code takes them (search_submodel.py of zcxcf/EA-ViT): the bins are filled from the
    cheapest up to their quotas of 100 whatever the population, spaced within a bin only, and the first ``population``
    of the list survive. A small population therefore never gets past the cheapest bins, and nothing keeps the ends.
    """

    def __init__(self, quotas: Ints, full: float, population: int) -> None:
        super().__init__(quotas, full)
        self.population = population

    def open_bins(self, pop: Any, rng: np.random.Generator) -> Ints:
        """Anywhere: the published immigrants are random."""
        return rng.integers(len(self.quotas), size=max(0, self.population - len(pop)))

    def _do(self, problem: Any, pop: Any, *_: Any, **__: Any) -> Any:
        values, bins = pop.get("F"), self.bins_of(pop)
        shares, rank = values[:, 0] / self.full, pareto_rank(values)
        chosen: list[int] = []
        for b in np.unique(bins):
            chosen += fill(np.flatnonzero(bins == b), rank, shares, np.ones(len(pop)), self.quotas[b])
        return with_ranks(pop[chosen[: self.population]])


def fill(members: Ints, rank: Ints, shares: Floats, gap: Floats, places: int) -> Iterator[int]:
    """Front after front, the member farthest in cost from all chosen so far; ``gap``, that distance, is updated."""
    for front in np.unique(rank[members]):
        layer = members[rank[members] == front]
        while places > 0 and gap[layer].max() >= SPACING:
            pick = int(layer[gap[layer].argmax()])
            np.minimum(gap, np.abs(shares - shares[pick]), out=gap)
            places -= 1
            yield pick


def with_ranks(pop: Any) -> Any:
    """``pop`` with each member's front (0: non-dominated) and the distance in cost between its two neighbours."""
    values = pop.get("F")
    order = np.argsort(values[:, 0], kind="stable")
    costs = np.concatenate([[-np.inf], values[order, 0], [np.inf]])
    crowding = np.empty(len(values))
    crowding[order] = costs[2:] - costs[:-2]
    return pop.set("rank", pareto_rank(values), "crowding", crowding)
