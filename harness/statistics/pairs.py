"""A against B, over the seeds of a set and over sets. No p-value where there cannot be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.statistics.intervals import TIE, PValue

ZONE = 0.005  # half a point of accuracy: what differs by less is the same in practice
EXACT = 16  # up to so many signs, all 2^n of them are tried
DRAWS = 10_000
FEWEST = 6  # sets: with 5, the smallest two-sided p of Wilcoxon's test is 1/16


class WinTieLoss(NamedTuple):
    wins: int
    ties: int
    losses: int


class Posterior(NamedTuple):
    """P(A better), P(same within the zone), P(B better); None and ``why`` where there is nothing to learn from."""

    a: float | None
    same: float | None
    b: float | None
    why: str = ""


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """A minus B for every seed that both have, in the order of the seeds."""
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def sign_flip(differences: Sequence[float], rng: np.random.Generator) -> PValue:
    """Two-sided permutation test of the mean: under "no difference" the sign of a difference is a coin.

    All sign patterns are tried where they are few, else ``DRAWS`` random ones.
    """
    values = np.asarray(differences, dtype=np.float64)
    # On a grid of TIE sums are exact, and patterns that are equal but for the last digit are equal.
    moving = np.rint(values[np.abs(values) > TIE] / TIE)
    if len(moving) < 2:
        ones = "1 pair that differs" if len(values) > 1 else "1 seed"
        return PValue(None, "all pairs are tied" if not len(moving) else ones)
    return PValue(_flipped(moving, rng))


def _flipped(values: NDArray[np.float64], rng: np.random.Generator) -> float:
    """p of |sum| under flips of the signs. scipy's permutation_test gives the same in five times the time."""
    n, few = len(values), len(values) <= EXACT
    heads = np.arange(2**n)[:, None] >> np.arange(n) & 1 if few else rng.integers(0, 2, (DRAWS, n), dtype=np.int8)
    extreme = np.count_nonzero(np.abs((2.0 * heads - 1) @ values) >= abs(values.sum()))
    return extreme / len(heads) if few else (1 + extreme) / (1 + DRAWS)


def wilcoxon(differences: Sequence[float], rng: np.random.Generator) -> PValue:
    """Signed-rank test, two-sided, one value a set: the sign flips of its ranks.

    Sets without a difference are dropped, ties get mid-ranks, and the p-value is exact with ties too while they are
    few. ``scipy.stats.wilcoxon`` is exact with ties by a PermutationMethod alone, which takes seconds for 12 sets.
    """
    values = np.asarray(differences, dtype=np.float64)
    moving = values[np.abs(values) > TIE]
    if len(moving) < FEWEST:
        tied = f" that differ, of {len(values)}" if len(moving) < len(values) else ""
        sets = "1 set" if len(moving) == 1 else f"{len(moving)} sets"
        return PValue(None, f"{sets}{tied}: with fewer than {FEWEST} no Wilcoxon test can reach 0.05")
    return PValue(_flipped(np.sign(moving) * pd.Series(np.round(np.abs(moving), 12)).rank().to_numpy(), rng))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (Holm, 1979); scipy has none, statsmodels would be installed for it."""
    order = np.argsort(ps, kind="stable")
    adjusted, running = [0.0] * len(ps), 0.0
    for place, at in enumerate(order):
        running = max(running, min(1.0, (len(ps) - place) * ps[at]))
        adjusted[at] = running
    return adjusted


def all_pairs(scores: Mapping[str, Sequence[float]], rng: np.random.Generator) -> dict[tuple[str, str], PValue]:
    """Wilcoxon for every two methods over the same sets, Holm-adjusted over those pairs that have a p-value."""
    names = sorted(scores)
    if len({len(scores[name]) for name in names}) > 1:
        raise ValueError(f"scores of {', '.join(names)}: every method needs one value for every set")
    raw = {(a, b): wilcoxon(np.subtract(scores[a], scores[b]).tolist(), rng) for a, b in combinations(names, 2)}
    known = [pair for pair, test in raw.items() if test.p is not None]
    adjusted = dict(zip(known, holm([p for pair in known if (p := raw[pair].p) is not None]), strict=True))
    return {pair: test._replace(p=adjusted.get(pair)) for pair, test in raw.items()}


def signed_rank(
    differences: Sequence[float], rng: np.random.Generator, zone: float = ZONE, prior: float = 0.5, draws: int = 20_000
) -> Posterior:
    """Bayesian signed-rank test, one value a set (Benavoli et al., ICML 2014).

    Sets get Dirichlet weights, one pseudo-set at "no difference" the weight ``prior``; each draw goes to whichever of
    A, zone and B holds most of the weighted pairwise means.
    """
    if zone <= 0:
        raise ValueError(f"zone = {zone}: needs to be above 0")
    if not len(differences):
        return Posterior(None, None, None, "no set")
    if len(differences) < 2:
        return Posterior(None, None, None, "1 set")
    values = np.concatenate([[0.0], np.asarray(differences, dtype=np.float64)])
    sums = values[:, None] + values[None, :]
    weights = rng.dirichlet(np.array([prior, *np.ones(len(differences))]), draws)
    above, below = ((weights @ _beyond(part, 2 * zone) * weights).sum(axis=1) for part in (sums, -sums))
    shares = np.column_stack([above, 1 - above - below, below])
    best = shares >= shares.max(axis=1, keepdims=True)
    won = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return Posterior(float(won[0]), float(won[1]), float(won[2]))


def _beyond(sums: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """1 beyond the bound, half on it."""
    on = np.abs(sums - bound) <= TIE
    return np.where(on, 0.5, (sums > bound).astype(np.float64))


def win_tie_loss(differences: Sequence[float], zone: float = ZONE) -> WinTieLoss:
    """Sets on which A is better, the same within the zone, or worse."""
    wins = sum(value > zone + TIE for value in differences)
    losses = sum(value < -zone - TIE for value in differences)
    return WinTieLoss(wins, len(differences) - wins - losses, losses)
