"""Intervals over the right replicate: a seed is one replicate for all its budgets, a set is one for "sets like these".

Where no interval can be given it says why instead; with one seed there is none, and none is made up. Coverage of every
default is measured by ``tests/coverage_of_intervals.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
TIE = 1e-12  # values this near are equal: 0.96 - 0.95 and 0.95 - 0.94 differ in the last bit
Kind = Literal["t over seeds", "these sets", "sets like these", "bootstrap over seeds", "counted"]
Scope = Literal["these sets", "sets like these"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Interval:
    """``low`` and ``high`` are None exactly where ``why`` says why there is none; ``n`` counts seeds over all sets."""

    estimate: float | None
    low: float | None
    high: float | None
    kind: Kind
    why: str = ""
    n: int = 0
    sets: int = 1
    level: float = LEVEL

    @property
    def given(self) -> bool:
        return not self.why

    @property
    def half(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def within(self, least: float, most: float) -> Interval:
        """The interval cut to values that are possible."""
        low, high = (None if end is None else min(max(end, least), most) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


class PValue(NamedTuple):
    """``p`` is None exactly where ``why`` says why."""

    p: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance (``ddof=1``; nan for one value) of the seeds of one set."""

    mean: float
    variance: float
    n: int


def moments(values: Sequence[float]) -> Moments:
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.isfinite(array).all():
        raise ValueError(f"values = {list(values)}: needs at least one, all finite")
    mean = float(array.mean())
    if len(array) == 1:
        return Moments(mean, math.nan, 1)
    tied = float(np.ptp(array)) <= TIE * max(1.0, abs(mean))
    return Moments(mean, 0.0 if tied else float(array.var(ddof=1)), len(array))


def wilson(correct: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share of ``n`` images: the images, not the training, are what is sampled here."""
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"correct = {correct} of n = {n}: needs 0 <= correct <= n and n >= 1")
    from scipy.stats import binomtest  # scipy.stats takes half a second to import; reports without a page need none

    interval = binomtest(correct, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def over_seeds(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's t over the seeds of one set, of values or of paired differences."""
    if not len(values):
        return Interval(None, None, None, "t over seeds", "no seed", sets=0, level=level)
    return replace(these_sets([values], level), kind="t over seeds")


def these_sets(groups: Sequence[Sequence[float]], level: float = LEVEL) -> Interval:
    """Mean of set means over *these* sets: the variance is that of seeds within sets (Welch and Satterthwaite)."""
    return from_moments([moments(values) for values in groups], "these sets", level)


def like_sets(groups: Sequence[Sequence[float]], level: float = LEVEL) -> Interval:
    """Mean of set means over sets *like* these: Student's t over set means."""
    return from_moments([moments(values) for values in groups], "sets like these", level)


def from_moments(parts: Sequence[Moments], scope: Scope, level: float = LEVEL, seeds: int | None = None) -> Interval:
    """``seeds``: as if every set had so many and means and spreads stayed as they are (what would more runs give?)."""
    if not parts:
        return Interval(None, None, None, scope, "no set", sets=0, level=level)
    count, mean = sum(part.n for part in parts), float(np.mean([part.mean for part in parts]))
    nothing = Interval(mean, None, None, scope, _why_not(parts, scope), count, len(parts), level)
    if nothing.why:
        return nothing
    variance, freedom = _spread(parts, scope, seeds)
    if variance <= 0:
        what = "seeds" if scope == "these sets" else "sets"
        return replace(nothing, why=f"no spread: all {what} agree to the last digit")
    reach = _quantile(level, freedom) * math.sqrt(variance)
    return replace(nothing, low=mean - reach, high=mean + reach)


def tails(
    parts: Sequence[Moments], scope: Scope, margin: float, seeds: int | None = None
) -> tuple[float, float] | None:
    """One-sided p-values that the mean is above ``margin`` and below it: those of the interval; None where it has none.

    The interval of level 1 - 2 p ends at the margin.
    """
    if not parts or _why_not(parts, scope):
        return None
    variance, freedom = _spread(parts, scope, seeds)
    if variance <= 0:
        return None
    t = (float(np.mean([part.mean for part in parts])) - margin) / math.sqrt(variance)
    return float(special.stdtr(freedom, -t)), float(special.stdtr(freedom, t))


def _spread(parts: Sequence[Moments], scope: Scope, seeds: int | None) -> tuple[float, float]:
    return (_within if scope == "these sets" else _between)(parts, seeds)


def _why_not(parts: Sequence[Moments], scope: Scope) -> str:
    single = sum(part.n < 2 for part in parts)
    if single:
        return "1 seed" if single == len(parts) else f"1 seed on {single} of {len(parts)} sets"
    return "1 set" if scope == "sets like these" and len(parts) < 2 else ""


def _within(parts: Sequence[Moments], seeds: int | None) -> tuple[float, float]:
    n = np.array([seeds or part.n for part in parts], dtype=np.float64)
    return satterthwaite_freedom(np.array([part.variance for part in parts]) / n / len(parts) ** 2, n - 1)


def _between(parts: Sequence[Moments], seeds: int | None) -> tuple[float, float]:
    means = moments([part.mean for part in parts])
    spread = means.variance
    if seeds is not None:  # only what seeds add to the spread of set means shrinks with more of them
        noise = float(np.mean([part.variance / part.n for part in parts]))
        spread = max(spread - noise, 0.0) + float(np.mean([part.variance for part in parts])) / seeds
    return spread / len(parts), len(parts) - 1.0


def satterthwaite_freedom(variances: NDArray[np.float64], freedom: NDArray[np.float64]) -> tuple[float, float]:
    """Sum of independent variances and its degrees of freedom. scipy has it for the difference of two samples alone."""
    total = float(variances.sum())
    return total, total**2 / float((variances**2 / freedom).sum()) if total > 0 else float(freedom.sum())


def _quantile(level: float, freedom: float) -> float:
    return float(special.stdtrit(freedom, (1 + level) / 2))


def counted(groups: Sequence[Sequence[float]], scope: Scope = "these sets", level: float = LEVEL) -> Interval:
    """Interval of counted quantities, such as MACs, where seeds that agree are exact: no spread gives a point."""
    interval = from_moments([moments(values) for values in groups], scope, level)
    if not interval.why.startswith("no spread"):
        return interval
    return replace(interval, low=interval.estimate, high=interval.estimate, kind="counted", why="")


Value = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # weights, draws x seeds -> a value a draw; nan: undefined


def bootstrap(
    sets: Sequence[tuple[int, Value]], rng: np.random.Generator, draws: int = 400, level: float = LEVEL
) -> Interval:
    """Bootstrap a mean over sets of a value that is not a mean over seeds. Whole seeds are drawn, all budgets together.

    A set: how many seeds it has, and its value where seed i has weight w[i] (rows sum to 1).

    A set of n seeds gives n - 1 draws each time, which makes the variance of a mean unbiased (McCarthy and Snowden,
    1985), and the bootstrap's standard error is stretched by t, its degrees of freedom from the jackknife: percentiles
    of so few seeds can never reach beyond the seeds and cover far less than they say. ``scipy.stats.bootstrap`` draws
    n of n and knows neither sets nor t.
    """
    kind: Kind = "bootstrap over seeds"
    sizes = [n for n, _ in sets]
    if not sizes or not min(sizes):
        why = "no set" if not sizes else "a set has no seed"
        return Interval(None, None, None, kind, why, sum(sizes), len(sets), level)
    mean = float(np.mean([value(np.full((1, n), 1 / n))[0] for n, value in sets]))
    whole = mean if math.isfinite(mean) else None
    nothing = Interval(whole, None, None, kind, "", sum(sizes), len(sets), level)
    why = "undefined for these curves" if whole is None else _why_not([Moments(0, 0, n) for n in sizes], "these sets")
    if why:
        return replace(nothing, why=why)
    values = np.mean([value(_redrawn(n, draws, rng)) for n, value in sets], axis=0)
    leaves = [value((1 - np.eye(n)) / (n - 1)) for n, value in sets]
    undefined = int((~np.isfinite(values)).sum())
    if undefined or not all(np.isfinite(left).all() for left in leaves):
        return replace(nothing, why=f"undefined in {undefined} of {draws} redraws")
    spreads = [moments(left.tolist()).variance * (n - 1) ** 2 / n for left, n in zip(leaves, sizes, strict=True)]
    total, freedom = satterthwaite_freedom(np.array(spreads), np.array(sizes) - 1.0)
    error = moments(values.tolist()).variance
    if error <= 0 or total <= 0:
        return replace(nothing, why="no spread: all seeds agree to the last digit")
    reach = _quantile(level, freedom) * math.sqrt(error)
    return replace(nothing, low=mean - reach, high=mean + reach)


def _redrawn(n: int, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    drawn = rng.integers(n, size=(draws, n - 1)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n) / (n - 1)
