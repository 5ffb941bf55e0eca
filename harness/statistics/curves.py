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


def front(macs: ArrayLike, accuracy: ArrayLike) -> NDArray[np.bool_]:
    """Mask of the points that no other point beats in one of (fewer MACs, more accuracy) without losing the other."""
    values = np.column_stack([np.asarray(macs, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)])
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    on_front = moocore.is_nondominated(values, maximise=[False, True], keep_weakly=True)
    return np.asarray(on_front, dtype=np.bool_)


def steps(macs: Sequence[float], accuracy: Sequence[float]) -> Steps:
    """The front of the points as steps; equal points count once, their order does not matter."""
    corners: list[tuple[float, float]] = []
    for at, value in sorted(zip(macs, accuracy, strict=True), key=lambda point: (point[0], -point[1])):
        if not (math.isfinite(at) and math.isfinite(value)):
            raise ValueError(f"point ({at} MACs, accuracy {value}): only finite numbers make a curve")
        if not corners or value > corners[-1][1]:
            corners.append((float(at), float(value)))
    return Steps(tuple(at for at, _ in corners), tuple(value for _, value in corners))


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


def hypervolume(curve: Steps, macs: float, accuracy: float = 0.0) -> float:
    """MACs x accuracy that the curve dominates, down from the reference point: at most ``macs``, above ``accuracy``."""
    ends = (*curve.macs[1:], macs)
    widths = [max(0.0, min(end, macs) - at) for at, end in zip(curve.macs, ends, strict=False)]
    return float(sum(w * max(0.0, a - accuracy) for w, a in zip(widths, curve.accuracy, strict=True)))


# --- spread over seeds --------------------------------------------------------------------------------------------


class Attainment(NamedTuple):
    """Surfaces attained by one seed at least, by half of them at least, and by all."""

    best: Steps
    median: Steps
    worst: Steps


def attained(curves: Sequence[Steps], seeds: int) -> Steps:
    """Curve that at least so many of the seeds reach or exceed (Fonseca et al., 2011)."""
    if not 1 <= seeds <= len(curves):
        raise ValueError(f"seeds = {seeds} of {len(curves)}: needs between 1 and all of them")
    corners = []
    for place in sorted({at for curve in curves for at in curve.macs}):
        reached = sorted((a for curve in curves if (a := curve.at(place)) is not None), reverse=True)
        if len(reached) >= seeds:
            corners.append((place, reached[seeds - 1]))
    return steps([at for at, _ in corners], [value for _, value in corners])


def attainment(curves: Sequence[Steps]) -> Attainment:
    half = math.ceil(len(curves) / 2)
    return Attainment(attained(curves, 1), attained(curves, half), attained(curves, len(curves)))
