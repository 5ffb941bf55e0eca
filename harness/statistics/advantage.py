"""Advantage of one method's curves over another's: MACs at equal accuracy, accuracy at equal MACs; seeds redrawn.

Curves are averaged over seeds first and only then compared. All redraws are done at once, as weights of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.statistics import intervals
from harness.statistics.curves import Bounds, Steps
from harness.statistics.intervals import Interval, Value

Fronts = Mapping[str, Mapping[int, Steps]]  # data set to seed to curve
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bundle:
    """The curves of the seeds of one set: ``levels``, seeds x ``macs``, is the best accuracy within so many MACs, at
    least chance; ``there`` says where a seed has a point at all.
    """

    macs: Array
    levels: Array
    there: NDArray[np.bool_]

    def mean(self, weights: Array, macs: Array | None = None) -> Array:
        """Draws x MACs; -inf where no seed with a weight has a point yet. Rounded, so that equal means are equal."""
        places = np.searchsorted(self.macs, self.macs if macs is None else macs, side="right") - 1
        known = (weights @ self.there > 0)[:, places] & (places >= 0)
        return np.where(known, np.round(weights @ self.levels, 12)[:, places], -np.inf)


def bundle(curves: Sequence[Steps], chance: float = 0.0) -> Bundle:
    macs = np.array(sorted({at for curve in curves for at in curve.macs}), dtype=np.float64)
    values = [[curve.at(at) for at in macs] for curve in curves]
    levels = [[max(chance, chance if value is None else value) for value in row] for row in values]
    there = [[value is not None for value in row] for row in values]
    return Bundle(macs, np.array(levels).reshape(len(curves), -1), np.array(there, dtype=bool).reshape(len(curves), -1))


def log_ratio(a: Bundle, b: Bundle, weights: Array) -> Array:
    """Mean of log2(MACs of A / MACs of B) at equal accuracy, over all accuracies that both mean curves span by steps.

    nan where they share none: one starts above the other's best, or has no point.
    """
    if not len(a.macs) or not len(b.macs):
        return np.full(len(weights), np.nan)
    first, second = a.mean(weights), b.mean(weights)
    low = np.maximum(_lowest(first), _lowest(second))
    high = np.minimum(first[:, -1], second[:, -1])
    shared = np.isfinite(low) & (high >= low)
    low, high = np.where(shared, low, 0.0), np.where(shared, high, 0.0)
    mine, other = (_fewest(curve, part.macs, low, high) for curve, part in ((first, a), (second, b)))
    width = high - low
    at_one = np.log2(a.macs[_reach(first, high)] / b.macs[_reach(second, high)])  # where they share just one accuracy
    ratio = np.where(width > 0, (mine - other) / np.where(width > 0, width, 1.0), at_one)
    return np.where(shared, ratio, np.nan)


def _lowest(curve: Array) -> Array:
    return np.asarray(np.where(np.isfinite(curve), curve, np.inf).min(axis=1))


def _fewest(curve: Array, macs: Array, low: Array, high: Array) -> Array:
    """Integral of log2 of the fewest MACs that reach an accuracy, over the accuracies between."""
    heights = np.clip(curve, low[:, None], high[:, None])
    return np.asarray(np.diff(heights, axis=1, prepend=low[:, None]) @ np.log2(macs))


def _reach(curve: Array, accuracy: Array) -> NDArray[np.int64]:
    return np.asarray((curve >= accuracy[:, None]).argmax(axis=1))


def gain(a: Bundle, b: Bundle, bounds: Bounds, weights: Array) -> Array:
    """Mean over log2 MACs within ``bounds`` of A's accuracy minus B's at equal MACs, from where both have a point.

    nan: nowhere.
    """
    if not len(a.macs) or not len(b.macs):
        return np.full(len(weights), np.nan)
    low, high = bounds
    every = np.array([*a.macs, *b.macs])
    places = np.unique([low, *every[(every > low) & (every < high)], high])
    first, second = a.mean(weights, places), b.mean(weights, places)
    both = np.isfinite(first) & np.isfinite(second)
    gaps = np.subtract(first, second, out=np.zeros_like(first), where=both)
    widths = both[:, :-1] * np.diff(np.log2(places))
    total = widths.sum(axis=1)
    mean = (gaps[:, :-1] * widths).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.where(both[:, -1], gaps[:, -1], np.nan))


# --- over sets ----------------------------------------------------------------------------------------------------


def macs_ratio(a: Fronts, b: Fronts, rng: np.random.Generator, chance: Mapping[str, float] | None = None) -> Interval:
    """Log2 of MACs of A over MACs of B at equal accuracy, mean over sets; :func:`saved` makes it a share."""
    parts = _bundles(a, b, chance or {})
    values = {name: _ratio(*part) for name, part in parts.items()}
    return _over_sets(parts, values, rng, "the curves share no accuracy")


def accuracy_gained(
    a: Fronts,
    b: Fronts,
    bounds: Mapping[str, Bounds],
    rng: np.random.Generator,
    chance: Mapping[str, float] | None = None,
) -> Interval:
    """``bounds``: MACs by set."""
    parts = _bundles(a, b, chance or {})
    values = {name: _gain(*part, bounds[name]) for name, part in parts.items()}
    return _over_sets(parts, values, rng, "the curves share no MACs")


def saved(log_ratio: float) -> float:
    """1 is all, 0 nothing, below 0 more is needed: what a log2 ratio of MACs means as a share spared."""
    return float(1 - 2.0**log_ratio)


def _ratio(a: Bundle, b: Bundle) -> Value:
    return lambda weights: log_ratio(a, b, weights)


def _gain(a: Bundle, b: Bundle, bounds: Bounds) -> Value:
    return lambda weights: gain(a, b, bounds, weights)


def _bundles(a: Fronts, b: Fronts, chance: Mapping[str, float]) -> dict[str, tuple[Bundle, Bundle]]:
    """Curves of the seeds that both methods have, by set: A and B are redrawn together, seed by seed."""
    bundles = {}
    for name in sorted(a.keys() & b.keys()):
        seeds, floor = sorted(a[name].keys() & b[name].keys()), chance.get(name, 0.0)
        if seeds:
            left, right = ([side[name][seed] for seed in seeds] for side in (a, b))
            bundles[name] = bundle(left, floor), bundle(right, floor)
    return bundles


def _over_sets(
    parts: Mapping[str, tuple[Bundle, Bundle]], values: Mapping[str, Value], rng: np.random.Generator, why: str
) -> Interval:
    sizes = {name: len(part[0].levels) for name, part in parts.items()}
    interval = intervals.bootstrap([(sizes[name], values[name]) for name in parts], rng)
    if interval.estimate is not None or not parts:
        return interval
    apart = [name for name, n in sizes.items() if not np.isfinite(values[name](np.full((1, n), 1 / n))[0])]
    return replace(interval, why=f"{why} on {', '.join(apart)}")
