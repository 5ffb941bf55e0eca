"""Axes that several figures share: accuracy by the logarithm of its error, MACs with the budgets as ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from harness.reports.figures.style import FAINT, macs_text

ROUND = (100, 0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 70, 60, 30, 85, 40, 20, 10, 75, 65, 92, 94, 96, 97, 93)  # %


def accuracy_axis(axis: Axes, accuracy: ArrayLike) -> None:
    """Percent correct, spread by the logarithm of the error: 90 to 95 is as far as 80 to 90, for both halve the error.

    Above the best imperfect score the scale goes on straight, which puts a perfect one a halving higher.
    """
    errors = np.clip(100 - 100 * np.asarray(accuracy, dtype=float), 0, None)
    least = float(errors[errors > 1e-9].min()) if (errors > 1e-9).any() else 0.1
    axis.set_yscale("function", functions=(lambda y: accuracy_height(y, least), lambda z: accuracy_at_height(z, least)))
    low, high = (float(accuracy_height(100 - end, least)) for end in (errors.max(), errors.min()))
    margin = max(0.08 * (high - low), 0.05)
    axis.set_ylim(accuracy_at_height(low - margin, least), accuracy_at_height(high + margin, least))
    axis.yaxis.set_major_locator(FixedLocator(_ticks(low - margin, high + margin, least)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def accuracy_height(accuracy: Any, least: float) -> Any:
    """Minus log2 of the error in %; linear, with the same slope unit, where the error is below ``least``."""
    error = 100 - np.asarray(accuracy, dtype=float)
    return -np.log2(np.maximum(error, least)) + np.maximum(0, 1 - error / least)


def accuracy_at_height(heights: Any, least: float) -> Any:
    """Inverse of :func:`accuracy_height`."""
    above = np.maximum(0, np.asarray(heights, dtype=float) + math.log2(least))
    return 100 - np.where(above > 0, least * (1 - above), 2.0 ** -np.asarray(heights, dtype=float))


def _ticks(low: float, high: float, least: float) -> list[float]:
    """Round accuracies between two heights, at least a twelfth of the axis apart.

    The roundest go first; steps of a half fill in only where fewer than four of those fit.
    """
    ticks: list[float] = []
    for value in (*ROUND, *np.arange(0.5, 100, 0.5).tolist()):
        here = float(accuracy_height(value, least))
        near = min((abs(here - float(accuracy_height(other, least))) for other in ticks), default=math.inf)
        if low <= here <= high and near >= (high - low) / 12 and (value in ROUND or len(ticks) < 4):
            ticks.append(value)
    return sorted(ticks)


def budget_axis(
    axis: Axes, budgets: Sequence[float], full: float, apart: float = 0.3, least: float = math.inf
) -> float:
    """MACs by their logarithm, ticks at the budgets; returns the right end of the axis.

    ``apart`` as of :func:`spaced`; ``least``: MACs that have to be on the axis, below the smallest budget or not.
    """
    ordered = sorted(float(budget) for budget in budgets)
    marked = spaced(ordered, apart)
    labels = {full * budget: f"{100 * budget:g} %\n{macs_text(full * budget)}" for budget in marked}
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator([full * budget for budget in marked]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(value, "")))
    axis.xaxis.set_minor_locator(NullLocator())
    for budget in ordered:
        axis.axvline(full * budget, color=FAINT, linewidth=0.5, zorder=0)
    right = full * ordered[-1] * 1.06
    axis.set_xlim(min(full * ordered[0], least) / 1.12, right)
    return right


def spaced(budgets: Sequence[float], apart: float = 0.3) -> list[float]:
    """The budgets whose labels fit: from the largest down, at least ``apart`` octaves from the last one."""
    labelled: list[float] = []
    for budget in reversed(budgets):
        if not labelled or math.log2(labelled[-1] / budget) >= apart:
            labelled.append(budget)
    return sorted(labelled)


def label_spacing(budgets: Sequence[float], inches: float, least: float) -> float:
    """Octaves between two labels of 0.36 inches on an axis of so many inches."""
    octaves = math.log2(1.06 * 1.12 * max(budgets) / min(least, *budgets))
    return 0.36 * octaves / inches
