"""Differences to a reference, what they cost, and the number of sizes from which one elastic family is cheaper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.reports.figures import style
from harness.reports.figures.style import Drawn, Sheet, Skipped
from harness.reports.paired_differences import difference
from harness.reports.report_data import ReportData
from harness.statistics import frames, intervals
from harness.statistics.intervals import Interval

MOST = 5  # budgets that get a panel, beside the area
Differences = Mapping[str, Sequence[float]]  # set to one value a seed


def draw_ablation(data: ReportData) -> Iterator[Drawn | Skipped]:
    others = [method for method in data.methods if method != data.first]
    panels = _panels(data, others)
    if not others or not any(values for panel in panels.values() for values in panel.values()):
        why = "1 method" if not others else f"no seed of another method can be paired with {style.label(data.first)}"
        yield Skipped("ablation", why)
        return
    rows, columns = style.grid_size(len(panels), 3)
    notes = _notes(data, others, panels)
    height = rows * (0.42 + 0.19 * len(others))
    page = style.sheet(style.TWO, height, rows, columns, notes=notes, sharey=True)
    for axis, (title, panel) in zip(page.flat, panels.items(), strict=False):
        _bars(axis, data, others, panel)
        axis.set_title(title)
    for axis in style.label_axes(page, len(panels)):
        axis.set_xlabel("difference (points)")
    yield Drawn("ablation", " ".join(notes), page.figure)


def _panels(data: ReportData, others: Sequence[str]) -> dict[str, dict[str, Differences]]:
    """Title to method to differences: the area, then budgets, evenly chosen where there are many."""
    budgets = data.budgets
    if len(budgets) > MOST:
        budgets = [budgets[at] for at in np.linspace(0, len(budgets) - 1, MOST).round().astype(int)]
    titles = {"area": None, **{f"at {100 * budget:g} % of the MACs": budget for budget in budgets}}
    panels = {
        title: {method: difference(data, method, data.first, column).by_set for method in others}
        for title, column in titles.items()
    }
    return panels if any(panels["area"].values()) else {title: panels[title] for title in panels if title != "area"}


def _notes(data: ReportData, others: Sequence[str], panels: Mapping[str, Mapping[str, Differences]]) -> list[str]:
    few = "" if data.seed_count > 1 else " (1 seed: none)"
    lines = [
        f"{data.score.heading} minus that of {style.label(data.first, 40)}, paired by seed. Bars: mean over sets; "
        f"whiskers: 95 % interval over seeds within these sets{few}, an arrow where it goes on; dots: means of single "
        "sets.",
    ]
    gone = [name for name in others if not all(panel.get(name) for panel in panels.values())]
    if gone:
        lines.append(f"No bar: no seed of both has a number there ({style.name_list(gone)}).")
    return lines


def _bars(axis: Axes, data: ReportData, others: Sequence[str], panel: Mapping[str, Differences]) -> None:
    style.name_rows(axis, others)
    appearance = style.method_looks(data.methods)
    axis.axvline(0, color=style.INK, linewidth=0.7)
    shown = {name: intervals.these_sets(list(sets.values())) for name, sets in panel.items() if sets}
    dots = {name: [100 * float(np.mean(values)) for values in panel[name].values()] for name in shown}
    ends = _ends([0.0, *(value for several in dots.values() for value in several)], list(shown.values()))
    axis.set_xlim(*ends)
    for at, name in enumerate(others):
        if name not in shown:
            axis.text(0, at, " n/a", va="center", color=style.GREY, fontsize=6)
            continue
        color = appearance[name]["color"]
        axis.barh([at], [100 * (shown[name].estimate or 0.0)], height=0.5, color=color, alpha=0.55, linewidth=0)
        draw_whisker(axis, at, shown[name], ends)
        style.draw_dots(axis, dots[name], at, 0.14)


def _ends(inner: Sequence[float], shown: Sequence[Interval]) -> tuple[float, float]:
    """Limits of an axis in points: zero, all sets, and whiskers up to three times that width."""
    low, high = min(inner), max(inner)
    span = (high - low) or 1.0
    lows, highs = ([100 * end for f in shown if (end := getattr(f, side)) is not None] for side in ("low", "high"))
    low, high = max(min([low, *lows]), low - span), min(max([high, *highs]), high + span)
    pad = 0.05 * (high - low) or 0.5
    return low - pad, high + pad


def draw_whisker(axis: Axes, at: float, interval: Interval, ends: tuple[float, float]) -> None:
    """Arrows where it goes on beyond the axis."""
    if interval.low is None or interval.high is None:
        return
    low, high = max(100 * interval.low, ends[0]), min(100 * interval.high, ends[1])
    axis.plot([low, high], [at, at], color=style.INK, linewidth=0.8)
    inset = 0.015 * (ends[1] - ends[0])
    for value, edge, arrow in ((low, ends[0] + inset, "<"), (high, ends[1] - inset, ">")):
        beyond = value < ends[0] + inset or value > ends[1] - inset
        axis.plot([edge if beyond else value], [at], arrow if beyond else "|", color=style.INK, markersize=3.2, mew=0.8)


# --- cost ---------------------------------------------------------------------------------------------------------

KINDS = {"train_macs": "training MACs", "train_seconds": "training seconds"}


def draw_cost(data: ReportData) -> Iterator[Drawn | Skipped]:
    """Draw the cost of one family as bars, and the cost of n sizes: flat for a family, a slope for separate models."""
    values = frames.accuracies(data.full)
    spent = values.dropna(subset=["train_macs"]).drop_duplicates(["method", "dataset", "seed"])
    if spent.empty:
        yield Skipped("cost", "no cell that was measured has a ledger")
        return
    alone = [name for name in data.alone if name in {*spent["method"]}]
    if not alone:
        yield Skipped("break-even", "no method is known to train a model of its own for each size")
    families = [name for name in data.methods if name not in alone and name in {*spent["method"]}]
    notes = _cost_notes(data, alone, families)
    page = _slopes_sheet(data, spent, alone, notes) if alone else _totals_sheet(data, spent, notes)
    yield Drawn("break-even" if alone else "cost", " ".join(["Cost of training.", *notes]), page.figure)


def _slopes_sheet(data: ReportData, spent: pd.DataFrame, alone: Sequence[str], notes: Sequence[str]) -> Sheet:
    page = style.sheet(style.TWO, 1.9, 1, 2, legend=style.legend_handles(data.methods), notes=notes)
    for axis, column in zip(page.flat, KINDS, strict=True):
        _slopes(axis, data, spent, column, alone)
    return page


def _totals_sheet(data: ReportData, spent: pd.DataFrame, notes: Sequence[str]) -> Sheet:
    names = [name for name in data.methods if name in {*spent["method"]}]
    page = style.sheet(style.TWO, 0.5 + 0.19 * len(names), 1, 2, notes=notes, sharey=True)
    for axis, column in zip(page.flat, KINDS, strict=True):
        _totals(axis, data, spent, column, names)
    return page


def _cost_notes(data: ReportData, alone: Sequence[str], families: Sequence[str]) -> list[str]:
    lines = ["Means over sets; search, importance and teachers included. Seconds are of the machine that ran it."]
    if not alone:
        return [*lines, "Dots: single cells."]
    break_evens = []
    for method in families:
        for rival in alone:
            break_even = frames.cost_break_even(data.full, method, rival, "train_macs")
            break_evens.append(f"{style.label(method)} {break_even.text} against {style.label(rival)}")
    lines.append("Rings: the fewest sizes from which the family costs less than models trained alone.")
    if break_evens:
        more = f" and {len(break_evens) - 4} more" if len(break_evens) > 4 else ""
        lines.append(f"Break-even in MACs, with the interval over seeds: {'; '.join(break_evens[:4])}{more}.")
    return lines


def _totals(axis: Axes, data: ReportData, spent: pd.DataFrame, column: str, names: Sequence[str]) -> None:
    style.name_rows(axis, names)
    appearance = style.method_looks(data.methods)
    for at, method in enumerate(names):
        here, color = spent[spent["method"] == method], appearance[method]["color"]
        axis.barh([at], [_set_mean(here, column)], height=0.55, color=color, alpha=0.55, linewidth=0)
        style.draw_dots(axis, here[column].astype(float).tolist(), at, 0.18)
    axis.set_xlim(left=0)
    axis.set_xlabel(KINDS[column])
    if column == "train_macs":
        axis.xaxis.set_major_formatter(_macs_tick)


def _slopes(axis: Axes, data: ReportData, spent: pd.DataFrame, column: str, alone: Sequence[str]) -> None:
    style.horizontal_grid(axis)
    sizes = _sizes(data, spent, column, alone)
    most = 0.0
    for method, look in style.method_looks(data.methods).items():
        here = spent[spent["method"] == method]
        if here.empty:
            continue
        each = here.assign(each=here[column] / _answers(data, here))
        level = (
            [_set_mean(each, "each") * n for n in sizes] if method in alone else [_set_mean(here, column)] * len(sizes)
        )
        axis.plot(sizes, level, markersize=3, linewidth=1.1, markevery=max(1, len(sizes) // 6), **look)
        most = max(most, *level)
        if method not in alone:
            _rings(axis, data, method, alone, column, level[0], sizes)
    axis.set_ylim(0, 1.06 * most)
    axis.set_xlim(sizes[0] - 0.3, sizes[-1] + 0.3)
    axis.set_xlabel("number of sizes")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel(KINDS[column])
    if column == "train_macs":
        axis.yaxis.set_major_formatter(_macs_tick)


def _sizes(data: ReportData, spent: pd.DataFrame, column: str, alone: Sequence[str]) -> list[int]:
    """Number of sizes to draw: the number of budgets, or a little past the last break-even."""
    break_evens = [
        frames.cost_break_even(data.full, method, rival, column).sizes or 0
        for method in sorted({*spent["method"]} - {*alone})
        for rival in alone
    ]
    return list(range(1, min(24, max([len(data.budgets), *(n + 1 for n in break_evens), 5])) + 1))


def _rings(
    axis: Axes, data: ReportData, method: str, alone: Sequence[str], column: str, level: float, sizes: Sequence[int]
) -> None:
    for rival in alone:
        at = frames.cost_break_even(data.full, method, rival, column).sizes
        if at is not None and at <= sizes[-1]:
            axis.plot(
                [at],
                [level],
                "o",
                mfc="none",
                mec=style.method_looks(data.methods)[rival]["color"],
                markersize=7,
                mew=1.0,
            )


def _answers(data: ReportData, here: pd.DataFrame) -> pd.Series:
    """Budgets that each cell answered, in the order of ``here``."""
    measured = frames.accuracies(data.full)
    counts = measured.groupby(["method", "dataset", "seed"])["budget"].nunique()
    keys = here[["method", "dataset", "seed"]].itertuples(index=False, name=None)
    return pd.Series([int(counts[key]) for key in keys], index=here.index)


def _set_mean(here: pd.DataFrame, column: str) -> float:
    return float(here.groupby("dataset")[column].mean().mean())


def _macs_tick(value: float, _: float) -> str:
    return style.macs_text(value) if value else "0"
