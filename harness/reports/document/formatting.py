"""Format values, in tables and on the page alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from harness.statistics.intervals import Interval

LONGEST = 600  # characters of a text
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def budget_text(budget: float) -> str:
    """Format a budget as it was declared: "20 %", "12.5 %"."""
    return f"{100 * budget:g} %"


def accuracy_text(mean: float, half: float | None) -> str:
    """Format an accuracy: percent, half the interval in brackets."""
    return f"{100 * mean:.1f} ({'n/a' if half is None else f'±{100 * half:.1f}'})"


def difference_text(interval: Interval) -> str:
    """Format a difference in points with its sign; "n/a" where there is none."""
    if interval.estimate is None:
        return "n/a"
    return f"{signed_points(interval.estimate)} ({'n/a' if interval.half is None else f'±{100 * interval.half:.1f}'})"


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
