"""Many methods on many sets: mean ranks, Friedman's test, and what a critical-difference diagram joins with a bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.statistics.intervals import LEVEL, TIE, PValue

DRAWS = 10_000
Scores = Mapping[str, Sequence[float]]  # method to one value a set, the sets in one order; more is better


def mean_ranks(scores: Scores) -> dict[str, float]:
    """1 is best; ties share their mean rank. From best to worst, equal ones by name."""
    ranks = _ranks(scores).mean(axis=0)
    by_method = dict(zip(sorted(scores), map(float, ranks), strict=True))
    return dict(sorted(by_method.items(), key=lambda item: (item[1], item[0])))


def _ranks(scores: Scores) -> NDArray[np.float64]:
    """Sets x methods, the methods by name."""
    lengths = {name: len(values) for name, values in scores.items()}
    if not scores or len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise ValueError(
            f"scores over sets = {lengths}: every method needs one value for every set, and one set at least"
        )
    table = np.column_stack([np.asarray(scores[name], dtype=np.float64) for name in sorted(scores)])
    if not np.isfinite(table).all():
        raise ValueError("scores: a set that a method has no value for cannot be ranked; leave the set out and say so")
    return pd.DataFrame(-np.round(table, 12)).rank(axis=1).to_numpy()  # scipy.stats takes half a second to import


def friedman(scores: Scores, rng: np.random.Generator) -> PValue:
    """Do the methods differ at all? Friedman's statistic with ties corrected; its p from ranks shuffled within sets.

    The chi-square of ``scipy.stats.friedmanchisquare`` is wrong by much for a handful of sets, the shuffles are not.
    """
    ranks = _ranks(scores)
    sets, methods = ranks.shape
    why = "fewer than 3 methods" if methods < 3 else "1 set" if sets < 2 else ""
    spread = float(((ranks - ranks.mean(axis=1, keepdims=True)) ** 2).sum())
    if not why and spread <= TIE:
        why = "all methods are tied on every set"
    if why:
        return PValue(None, why)
    statistic = _friedman_statistic(ranks.sum(axis=0), sets, spread)
    sums = np.zeros((DRAWS, methods))
    for row in ranks:  # set by set: memory stays small
        sums += rng.permuted(np.broadcast_to(row, (DRAWS, methods)), axis=1)
    shuffled = _friedman_statistic(sums, sets, spread)
    return PValue((1 + int((shuffled >= statistic - 1e-9).sum())) / (DRAWS + 1))


def _friedman_statistic(sums: NDArray[np.float64], sets: int, spread: float) -> NDArray[np.float64]:
    methods = sums.shape[-1]
    apart = ((sums - sets * (methods + 1) / 2) ** 2).sum(axis=-1)
    return np.asarray((methods - 1) * apart / spread)


def critical_difference(methods: int, sets: int, level: float = LEVEL) -> float:
    """Nemenyi: mean ranks further apart than this differ (Demsar, 2006)."""
    from scipy.stats import studentized_range

    if methods < 2 or sets < 1:
        raise ValueError(f"{methods} methods on {sets} sets: needs two methods and one set")
    quantile = float(studentized_range.ppf(level, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * sets))


def cliques(ranks: Mapping[str, float], joined: Callable[[str, str], bool]) -> list[tuple[str, ...]]:
    """Bars of the diagram: longest runs of neighbours in rank of which every two are ``joined``.

    Bars of one method are left out.
    """
    names = sorted(ranks, key=lambda name: (ranks[name], name))
    runs: list[tuple[int, int]] = []
    for start in range(len(names)):
        end = start + 1
        while end < len(names) and all(joined(names[at], names[end]) for at in range(start, end)):
            end += 1
        if end - start > 1 and not any(begun <= start and end <= ended for begun, ended in runs):
            runs.append((start, end))
    return [tuple(names[start:end]) for start, end in runs]


def not_distinguished(tests: Mapping[tuple[str, str], PValue], level: float = LEVEL) -> Callable[[str, str], bool]:
    """Joined where the pairwise test finds nothing, or could not be made."""

    def joined(a: str, b: str) -> bool:
        p = tests[min(a, b), max(a, b)].p
        return p is None or p > 1 - level

    return joined
