"""Format values, in tables and on the page alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from harness.statistics.intervals import Interval

LONGEST = 600  # characters of a text
WIDE = 0.1  # half an interval over 2 seeds from which it says no more than that they are 2
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def budget_text(budget: float) -> str:
    """Format a budget as it was declared: "20 %", "12.5 %"."""
    return f"{100 * budget:g} %"


def accuracy_text(interval: Interval) -> str:
    """Format an accuracy in percent, in brackets what :func:`spread_text` says of its interval."""
    if interval.estimate is None:
        return "n/a"
    return f"{100 * interval.estimate:.1f} ({spread_text(interval, 0.0, lambda value: f'{100 * value:.1f}')})"


def difference_text(interval: Interval) -> str:
    """Format a difference in points with its sign, and its interval alike; "n/a" where there is none."""
    if interval.estimate is None:
        return "n/a"
    return f"{signed_points(interval.estimate)} ({spread_text(interval, -1.0, signed_points)})"


def spread_text(interval: Interval, least: float, show: Callable[[float], str]) -> str:
    """Half the interval; its ends where it is cut at ``least`` or 1; "2 seeds" where it is wide for want of a third."""
    if interval.half is None:
        return "n/a"
    if interval.half > WIDE and interval.n <= 2 * interval.sets:
        return "2 seeds"
    possible = interval.within(least, 1.0)
    if possible.low is not None and possible.high is not None and possible.half != interval.half:
        return f"{show(possible.low)} to {show(possible.high)}"
    return f"±{100 * interval.half:.1f}"


def signed_points(value: float) -> str:
    """Points; never "-0.0"."""
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "−")


def with_interval(interval: Interval, show: Callable[[float], str]) -> str:
    """An estimate as ``show`` writes it, half the interval in brackets; exact where the interval has no width."""
    if interval.estimate is None:
        return "n/a"
    half, estimate = interval.half, show(interval.estimate)
    if half is None:
        return f"{estimate} (n/a)"
    return f"{estimate} (± {show(half)})" if half else estimate


def giga_text(macs: float) -> str:
    """Format a number in units of 1e9, the unit being named elsewhere."""
    value = macs / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def si_text(value: float) -> str:
    """Three digits with the SI prefix."""
    for size, unit in PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return three_digits(value)


def three_digits(value: float) -> str:
    return f"{value:.3g}"


def shortened(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)[:LONGEST]
