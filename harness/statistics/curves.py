"""Whole curves: accuracy against MACs as steps, since a submodel's accuracy is bought at its MACs and not before."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Steps:
    """Both strictly growing: from ``macs[i]`` on, up to the next, ``accuracy[i]`` is the best there is."""

    macs: tuple[float, ...]
    accuracy: tuple[float, ...]

    def at(self, macs: float) -> float | None:
        """The best accuracy within so many MACs, never interpolated upward; None: unreachable."""
        place = bisect_right(self.macs, macs)
        return self.accuracy[place - 1] if place else None

    def needs(self, accuracy: float) -> float | None:
        """The fewest MACs that give at least this accuracy; None: unreachable."""
        return next((m for m, a in zip(self.macs, self.accuracy, strict=True) if a >= accuracy), None)


def front(macs: ArrayLike, accuracy: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point beats in one of (fewer MACs, more accuracy) without losing the other; ties stay."""
    values = np.column_stack([np.asarray(macs, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)])
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    kept = moocore.is_nondominated(values, maximise=[False, True], keep_weakly=True)
    return np.asarray(kept, dtype=np.bool_)


def steps(macs: Sequence[float], accuracy: Sequence[float]) -> Steps:
    """The front of the points as steps; equal points count once, their order does not matter."""
    kept: list[tuple[float, float]] = []
    for at, value in sorted(zip(macs, accuracy, strict=True), key=lambda point: (point[0], -point[1])):
        if not (math.isfinite(at) and math.isfinite(value)):
            raise ValueError(f"point ({at} MACs, accuracy {value}): only finite numbers make a curve")
        if not kept or value > kept[-1][1]:
            kept.append((float(at), float(value)))
    return Steps(tuple(at for at, _ in kept), tuple(value for _, value in kept))


def area(curve: Steps, bounds: Bounds, chance: float = 0.0) -> float:
    """Mean over log2 MACs in ``bounds`` of the best accuracy within so many MACs (0..1), at least ``chance``."""
    low, high = bounds
    if not 0 < low < high:
        raise ValueError(f"bounds = {bounds}: needs 0 < low < high")
    total, here, level = 0.0, math.log2(low), chance
    for at, value in zip(curve.macs, curve.accuracy, strict=True):
        if at > high:
            break
        there = max(here, math.log2(at)) if at > 0 else here
        total, here, level = total + level * (there - here), there, max(level, value)
    return (total + level * (math.log2(high) - here)) / math.log2(high / low)


def step_area(macs: Sequence[float], accuracy: Sequence[float], bounds: Bounds, chance: float = 0.0) -> float:
    return area(steps(macs, accuracy), bounds, chance)


def hypervolume(curve: Steps, macs: float, accuracy: float = 0.0) -> float:
    """MACs x accuracy that the curve dominates, down from the reference point: at most ``macs``, above ``accuracy``."""
    ends = (*curve.macs[1:], macs)
    widths = [max(0.0, min(end, macs) - at) for at, end in zip(curve.macs, ends, strict=False)]
    return float(sum(w * max(0.0, a - accuracy) for w, a in zip(widths, curve.accuracy, strict=True)))


def mean_curve(curves: Sequence[Steps], chance: float = 0.0) -> Steps:
    """At each number of MACs the mean over seeds of their accuracies there, ``chance`` for a seed that has none yet."""
    if not curves:
        return Steps((), ())
    places = sorted({at for curve in curves for at in curve.macs})
    levels = [[max(chance, chance if (a := curve.at(at)) is None else a) for curve in curves] for at in places]
    return steps(places, [sum(row) / len(row) for row in levels])


# --- spread over seeds --------------------------------------------------------------------------------------------


class Attainment(NamedTuple):
    """Surfaces attained by one seed at least, by half of them at least, and by all."""

    best: Steps
    median: Steps
    worst: Steps


def attained(curves: Sequence[Steps], seeds: int) -> Steps:
    """What at least so many of the seeds reach or better (Fonseca et al., 2011)."""
    if not 1 <= seeds <= len(curves):
        raise ValueError(f"seeds = {seeds} of {len(curves)}: needs between 1 and all of them")
    kept = []
    for place in sorted({at for curve in curves for at in curve.macs}):
        reached = sorted((a for curve in curves if (a := curve.at(place)) is not None), reverse=True)
        if len(reached) >= seeds:
            kept.append((place, reached[seeds - 1]))
    return steps([at for at, _ in kept], [value for _, value in kept])


def attainment(curves: Sequence[Steps]) -> Attainment:
    half = math.ceil(len(curves) / 2)
    return Attainment(attained(curves, 1), attained(curves, half), attained(curves, len(curves)))


# --- two fronts ---------------------------------------------------------------------------------------------------


def macs_ratio(a: Steps, b: Steps) -> float | None:
    """Mean of log2(MACs of A / MACs of B) at equal accuracy, over all accuracies that both curves span by steps.

    None where they share none: one starts above the other's best, or has no point.
    """
    if not a.macs or not b.macs:
        return None
    low, high = max(a.accuracy[0], b.accuracy[0]), min(a.accuracy[-1], b.accuracy[-1])
    if low > high:
        return None
    levels = sorted({level for level in (*a.accuracy, *b.accuracy) if low < level <= high})
    if not levels:
        return _log_ratio(a, b, high)
    starts = (low, *levels[:-1])
    return sum(_log_ratio(a, b, top) * (top - start) for start, top in zip(starts, levels, strict=True)) / (high - low)


def _log_ratio(a: Steps, b: Steps, accuracy: float) -> float:
    mine, other = a.needs(accuracy), b.needs(accuracy)
    if mine is None or other is None or mine <= 0 or other <= 0:
        raise ValueError(f"accuracy {accuracy}: needs curves that reach it with more than 0 MACs")
    return math.log2(mine / other)


def macs_saved(a: Steps, b: Steps) -> float | None:
    """Share of B's MACs that A spares at equal accuracy (geometric mean): 0.5 is half, below 0 A needs more."""
    ratio = macs_ratio(a, b)
    return None if ratio is None else saved(ratio)


def saved(log_ratio: float) -> float:
    """1 is all, 0 nothing: what a log2 ratio of MACs means as a share spared."""
    return float(1 - 2.0**log_ratio)


def accuracy_gained(a: Steps, b: Steps, bounds: Bounds) -> float | None:
    """Mean over log2 MACs of A's accuracy minus B's at equal MACs, from where both have a point; None: nowhere."""
    if not a.macs or not b.macs:
        return None
    low, high = max(bounds[0], a.macs[0], b.macs[0]), bounds[1]
    if low > high:
        return None
    if low == high:
        at_a, at_b = a.at(high), b.at(high)
        return None if at_a is None or at_b is None else at_a - at_b
    return area(a, (low, high)) - area(b, (low, high))
