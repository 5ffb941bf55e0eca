"""Accuracy against MACs as one figure for the report, PNG and SVG: the same points give the same bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.reports.figures import style
from harness.reports.figures.axes import accuracy_axis, budget_axis, label_spacing
from harness.reports.figures.notes import absent_points
from harness.reports.figures.style import FAINT
from harness.reports.report_data import ReportData
from harness.statistics import curves, frames

STYLE: dict[Any, Any] = {
    **style.BASE,
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "axes.linewidth": 0.8,
}
PANEL = (3.7, 3.2)  # inches
COLUMNS = 3
NOTE_WIDTH = 150  # characters of a footnote
GREY_LINE = {"color": "#BBBBBB", "linestyle": "-", "linewidth": 0.8}
LINE = {"linewidth": 1.5, "markersize": 4.5, "markeredgewidth": 1.0}


def pareto_files(data: ReportData) -> dict[str, bytes]:
    """``pareto.png`` and ``pareto.svg``: a panel a data set, and their mean where there are several."""
    with style.figure_style(STYLE):
        figure = _figure(data)
        return {f"pareto.{kind}": style.encode_figure(figure, kind) for kind in ("png", "svg")}


def _figure(data: ReportData) -> Figure:
    points, datasets = data.full, data.datasets
    looks, grey = _looks(data)
    panels = max(1, len(datasets) + (len(datasets) > 1))
    columns = min(COLUMNS, panels)
    rows = math.ceil(panels / columns)
    notes = _footnotes(data, grey)
    below = 0.22 * math.ceil((len(looks) - len(grey)) / _legend_columns(columns)) + 0.16 * len(notes) + 0.75  # inches
    size = (max(PANEL[0] * columns, 5.4) + 0.2, PANEL[1] * rows + below + 0.2)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for axis, name in zip(axes, datasets, strict=False):
        _panel(axis, points[points["dataset"] == name], name, looks)
    if len(datasets) > 1:
        _panel(axes[len(datasets)], _mean_points(points, len(datasets)), f"mean of {len(datasets)} data sets", looks)
    if not datasets:
        _panel(axes[0], points, "no points", looks)
    for axis in axes[panels:]:
        axis.set_visible(False)
    for row in grid:
        row[0].set_ylabel(f"test {data.score.title} (%), error on a log scale")
    named = {name: look for name, look in looks.items() if name not in grey}
    _frame(figure, data.title or data.suite, named, notes, below, columns)
    return figure


def _looks(data: ReportData) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Looks of the methods, and those of them that are drawn in grey: all but the first of many."""
    looks = {name: {**look, **LINE} for name, look in style.method_looks(data.methods).items()}
    grey = [name for name in looks if name not in data.shown_first]
    return dict.fromkeys(grey, GREY_LINE) | {n: look for n, look in looks.items() if n not in grey}, grey


def _legend_columns(columns: int) -> int:
    return {1: 3, 2: 4}.get(columns, 6)


def _frame(
    figure: Figure, title: str, looks: dict[str, dict[str, Any]], notes: Sequence[str], below: float, columns: int
) -> None:
    """Title above, legend and footnotes below, all placed in inches so that they never run into the panels."""
    width, height = figure.get_size_inches()
    left = 0.62 / width
    figure.subplots_adjust(left, below / height, 1 - 0.18 / width, 1 - 0.72 / height, wspace=0.22, hspace=0.42)
    figure.text(left, 1 - 0.3 / height, style.label(title, 90), fontsize=12, fontweight="bold", va="center")
    handles = [Line2D([], [], label=style.label(method), **look) for method, look in looks.items()]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(left, (0.16 * len(notes) + 0.16) / height),
        ncols=min(len(handles), _legend_columns(columns)) or 1,
        frameon=False,
        handlelength=2.8,
        columnspacing=1.6,
        borderaxespad=0,
        borderpad=0,
    )
    for line, note in enumerate(reversed(notes)):
        figure.text(left, (0.1 + 0.16 * line) / height, note, fontsize=7, color="#555555", va="bottom")


# --- one panel --------------------------------------------------------------------------------------------------


def _panel(axis: Axes, points: pd.DataFrame, name: str, looks: dict[str, dict[str, Any]]) -> None:
    axis.set_title(style.label(name, 40), loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
    axis.grid(axis="y", color=FAINT, linewidth=0.6)
    values = frames.accuracies(points)
    full_macs = points["full_macs"].dropna()
    if values.empty or full_macs.empty:
        axis.text(0.5, 0.5, "nothing measured", transform=axis.transAxes, ha="center", color="#555555")
        axis.set_xticks([])
        axis.set_yticks([])
        return
    full, budgets = float(full_macs.iloc[0]), points["budget"].unique().tolist()
    least = float(values["macs"].min())
    right = budget_axis(axis, budgets, full, label_spacing(budgets, 2.4, least / full), least)
    axis.set_xlabel("budget and its MACs", fontsize=8)
    axis.tick_params(axis="both", length=3, labelsize=8)
    for method, look in looks.items():
        _curve(axis, values[values["method"] == method], look, right)
    accuracy_axis(axis, values["accuracy"])


def _curve(axis: Axes, values: pd.DataFrame, look: dict[str, Any], right: float) -> None:
    """Means over seeds as a step front, single seeds as faint points; hollow where any seed is suspicious."""
    if values.empty:
        return
    if look is not GREY_LINE:
        small: dict[str, Any] = {"markersize": 3, "alpha": 0.45, "mew": 0}
        axis.plot(values["macs"], 100 * values["accuracy"], look["marker"], color=look["color"], **small)
    groups = values.groupby("budget")
    macs, accuracy = groups["macs"].mean().to_numpy(), 100 * groups["accuracy"].mean().to_numpy()
    odd = groups["status"].agg(lambda status: bool((status == "suspicious").any())).to_numpy(dtype=bool)
    on_front = curves.front(macs, accuracy)
    steps = sorted(zip(macs[on_front], accuracy[on_front], strict=True))
    line = {key: look[key] for key in ("color", "linestyle", "linewidth")}
    x, y = [at for at, _ in steps] + [right], [level for _, level in steps] + [steps[-1][1]]
    axis.plot(x, y, drawstyle="steps-post", alpha=0.85, **line)
    if look is GREY_LINE:
        return
    dot = {"linestyle": "none", "marker": look["marker"], "markersize": 4.5, "mew": 1.0, "mec": look["color"]}
    axis.plot(macs[~odd], accuracy[~odd], mfc=look["color"], **dot)
    axis.plot(macs[odd], accuracy[odd], mfc="white", **dot)


def _mean_points(points: pd.DataFrame, sets: int) -> pd.DataFrame:
    """Points of the mean over data sets, seed by seed; only where every set was measured."""
    groups = frames.accuracies(points).groupby(["method", "seed", "budget"])
    means = groups[["macs", "accuracy", "full_macs"]].mean()
    status = groups["status"].max()  # "suspicious" where any is, as it comes after "ok"
    return means.assign(status=status)[groups.size() == sets].reset_index()


def _footnotes(data: ReportData, grey: Sequence[str]) -> list[str]:
    """Footnotes on points that the curves do not show: unreachable, failed, missing; one line a method and status."""
    if (points := data.full).empty:
        return []
    seeds = points["seed"].nunique()
    several = f"Lines: fronts of the means over {seeds} seeds; faint points: single seeds."
    lines = [several if seeds > 1 else "Lines: fronts of one seed; its spread is unknown."]
    lines += (
        textwrap.wrap(f"Grey, of smaller mean accuracy (unreachable counts as 0): {', '.join(grey)}.", NOTE_WIDTH)
        if grey
        else []
    )
    lines += textwrap.wrap(f"Not run: {', '.join(data.not_run)}.", NOTE_WIDTH) if data.not_run else []
    lines += absent_points(points)
    if (points[~points["method"].isin(grey)]["status"] == "suspicious").any():
        lines.append("Hollow: a sanity check failed there; the table says which.")
    return lines
