"""Diagnostics that methods report: the front that a search found, its progress, the sizes that training met.

Read from the ``diagnostics`` of records. What is not there, or not of the form below, is left out and counted:

- ``front``: list of [key, share of the full MACs, accuracy on the second fold of ``select``];
- ``hypervolume_by_generation``: list of numbers, one a generation;
- ``coverage``: for each part of training, counts of submodels in equal bins of the share of the full MACs, 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from harness.reports.figures import style
from harness.reports.figures.axes import accuracy_axis, budget_axis, label_spacing
from harness.reports.figures.style import Drawn, Sheet, Skipped
from harness.reports.report_data import ReportData
from harness.statistics import curves

COLUMNS = 3
Value = TypeVar("Value")
Counts = NDArray[np.float64]  # parts of training x bins of MACs
BySet = Mapping[str, Mapping[str, Sequence[Value]]]  # method to set to one value a seed


def _gather(data: ReportData, key: str, read: Callable[[Any], Value | None]) -> tuple[BySet[Value], int]:
    """Collect values by method and set, and count the reports that could not be read."""
    values: dict[str, dict[str, list[Value]]] = {}
    unread = 0
    for record, reported in data.diagnostics(key):
        value = read(reported)
        if value is None:
            unread += 1
        else:
            values.setdefault(record.method, {}).setdefault(record.dataset, []).append(value)
    return values, unread


def _why_none(data: ReportData, key: str, unread: int) -> str:
    if not data.records:
        return "there are no records beside the points"
    return f"{unread} reports under `{key}` cannot be read" if unread else f"no method reports `{key}`"


def _unread(key: str, unread: int) -> list[str]:
    return [f"{unread} reports under {key} cannot be read."] if unread else []


def _numbers(reported: Any) -> list[float] | None:
    if not isinstance(reported, list) or any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in reported):
        return None
    return [float(x) for x in reported] if all(math.isfinite(x) for x in reported) else None


def _by_set(values: BySet[Value], data: ReportData, notes: Sequence[str]) -> tuple[Sheet, list[tuple[Axes, str]]]:
    """Make a panel a data set that some method reported on, and a legend of those methods."""
    names = sorted({name for sets in values.values() for name in sets})
    rows, columns = style.grid_size(len(names), COLUMNS)
    legend = style.legend_handles(data.methods, values)
    page = style.sheet(style.TWO, 1.85 * rows, rows, columns, legend=legend, notes=notes)
    for axis, name in zip(page.flat, names, strict=False):
        axis.set_title(style.label(name))
        style.horizontal_grid(axis)
    return page, list(zip(page.flat, names, strict=False))


# --- search -------------------------------------------------------------------------------------------------------


def draw_search_fronts(data: ReportData) -> Iterator[Drawn | Skipped]:
    fronts, unread = _gather(data, "front", _front)
    if not fronts or data.full_macs() is None:
        yield Skipped("search-fronts", _why_none(data, "front", unread))
        return
    notes = [
        f"What the search found before the last training: {data.score.title} on the second fold of the selection "
        "split, which the search did not see; a line a seed.",
        *_unread("front", unread),
    ]
    page, panels = _by_set(fronts, data, notes)
    for axis, name in panels:
        _fronts(axis, data, {method: sets.get(name, []) for method, sets in fronts.items()}, name)
    for row in page.axes:
        row[0].set_ylabel(f"selection {data.score.title} (%)")
    for axis in style.label_axes(page, len(panels)):
        axis.set_xlabel("budget and its MACs")
    yield Drawn("search-fronts", " ".join(notes), page.figure)


def _front(reported: Any) -> list[tuple[float, float]] | None:
    """(share of MACs, accuracy) of each point."""
    if not isinstance(reported, list) or not reported:
        return None
    points = [_numbers(entry[1:]) for entry in reported if isinstance(entry, list) and len(entry) == 3]
    pairs = [(p[0], p[1]) for p in points if p is not None and p[0] > 0 and 0 <= p[1] <= 1]
    return pairs if len(pairs) == len(reported) else None


def _fronts(axis: Axes, data: ReportData, by_method: Mapping[str, Sequence[Any]], dataset: str) -> None:
    full = data.full_macs(dataset) or data.full_macs() or 1.0
    everything = [point for several in by_method.values() for points in several for point in points]
    least = min(share for share, _ in everything)
    inches = style.TWO / COLUMNS - 0.4
    right = budget_axis(axis, data.budgets, full, label_spacing(data.budgets, inches, least), least * full)
    for method, several in by_method.items():
        look = style.method_looks(data.methods)[method]
        line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 0.8, "alpha": 0.8}
        for points in several:
            front = curves.steps([full * share for share, _ in points], [value for _, value in points])
            x, y = [*front.macs, right], [100 * value for value in (*front.accuracy, front.accuracy[-1])]
            axis.plot(x, y, drawstyle="steps-post", **line)
            axis.plot(x[:-1], y[:-1], linestyle="none", marker=look["marker"], color=look["color"], markersize=2, mew=0)
    accuracy_axis(axis, [value for _, value in everything])


def draw_search_progress(data: ReportData) -> Iterator[Drawn | Skipped]:
    key = "hypervolume_by_generation"
    volumes, unread = _gather(data, key, _generations)
    if not volumes:
        yield Skipped("search-progress", _why_none(data, key, unread))
        return
    notes = ["Hypervolume of the front after each generation of the search; a line a seed.", *_unread(key, unread)]
    page, panels = _by_set(volumes, data, notes)
    for axis, name in panels:
        for method, sets in volumes.items():
            for values in sets.get(name, []):
                axis.plot(
                    range(1, len(values) + 1),
                    values,
                    linewidth=0.9,
                    markersize=2.4,
                    mew=0,
                    **style.method_looks(data.methods)[method],
                )
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for row in page.axes:
        row[0].set_ylabel("hypervolume")
    for axis in style.label_axes(page, len(panels)):
        axis.set_xlabel("generation")
    yield Drawn("search-progress", " ".join(notes), page.figure)


def _generations(reported: Any) -> list[float] | None:
    values = _numbers(reported)
    return values if values and min(values) >= 0 else None


# --- coverage -----------------------------------------------------------------------------------------------------


def draw_coverage(data: ReportData) -> Iterator[Drawn | Skipped]:
    counts, unread = _gather(data, "coverage", _coverage)
    sums = {method: _summed([one for several in sets.values() for one in several]) for method, sets in counts.items()}
    known = {method: total for method, total in sums.items() if total is not None}
    unread += sum(len(several) for method in sums if method not in known for several in counts[method].values())
    if not known:
        yield Skipped("coverage", _why_none(data, "coverage", unread))
        return
    notes = [
        "Submodels that training drew, by their MACs and by part of the training, the first one on top: in % of each "
        "part, all sets and seeds together.",
        *_unread("coverage", unread),
    ]
    rows, columns = style.grid_size(len(known), COLUMNS)
    high = rows * (0.45 + 0.17 * max(len(total) for total in known.values()))
    page = style.sheet(style.TWO, high, rows, columns, notes=notes)
    for axis, (method, total) in zip(page.flat, sorted(known.items()), strict=False):
        axis.set_title(style.label(method))
        _histogram(axis, total)
    for axis in style.label_axes(page, len(known)):
        axis.set_xlabel("share of the full MACs (%)")
    for row in page.axes:
        row[0].set_ylabel("part")
    yield Drawn("coverage", " ".join(notes), page.figure)


def _coverage(reported: Any) -> Counts | None:
    if not isinstance(reported, list):
        return None
    rows = [_numbers(row) for row in reported]
    counts = [row for row in rows if row and min(row) >= 0]
    return np.array(counts) if len(counts) == len(rows) and len({len(row) for row in counts}) == 1 else None


def _summed(several: Sequence[Counts]) -> Counts | None:
    """None where bins or parts differ."""
    if any(one.shape != several[0].shape for one in several):
        return None
    total: Counts = np.sum(several, axis=0)
    return total


def _histogram(axis: Axes, total: Counts) -> None:
    whole = total.sum(axis=1, keepdims=True)
    shares = np.divide(100 * total, whole, out=np.zeros_like(total), where=whole > 0)
    if not whole.any():
        style.empty_panel(axis, "nothing was drawn")
        return
    parts, edges = len(shares), np.linspace(0, 100, len(shares[0]) + 1).tolist()
    top = max(100 / len(shares[0]), float(shares.max()))
    axis.pcolormesh(edges, np.arange(parts + 1) + 0.5, shares, cmap=style.BLUES, vmin=0, vmax=top)
    axis.set_ylim(parts + 0.5, 0.5)
    axis.set_yticks(range(1, parts + 1))
    axis.tick_params(axis="y", length=0)
    for part in range(parts):
        axis.axhline(part + 0.5, color=style.FAINT, linewidth=0.4)
    for (part, column), value in np.ndenumerate(shares):
        if value >= 0.5 and len(shares[0]) <= 12:
            middle = (edges[column] + edges[column + 1]) / 2
            style.cell_text(axis, middle, part + 1, f"{value:.0f}", dark=value / top > 0.55, size=4.8)
