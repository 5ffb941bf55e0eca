"""Accuracy against MACs as one figure, PNG and SVG: the same points give the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness import stats
from harness.whole import write_whole

# Okabe and Ito's colours without the yellow, which is too light for lines on white; markers and dashes tell the
# methods apart in grey as well. The first seven methods get distinct triples, the next ones other combinations.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)), (0, (7, 2)))
INK, FAINT = "#222222", "#D9D9D9"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "svg.hashsalt": "eavit-bench",
    "svg.fonttype": "path",
    "path.simplify": False,
}
ROUND = (100, 0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 70, 60, 30, 85, 40, 20, 10, 75, 65, 92, 94, 96, 97, 93)  # %
PANEL = (3.7, 3.2)  # inches
COLUMNS = 3
METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


def pareto(points: pd.DataFrame, out_dir: Path | str, title: str = "") -> list[Path]:
    """Write ``pareto.png`` and ``pareto.svg``: a panel a data set, and their mean where there are several.

    Without a title the figure is named after the suites of its points.
    """
    title = title or ", ".join(sorted(points["suite"].unique()))
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figure = _figure(points.sort_values([*stats.CELL, "budget"], ignore_index=True), title)
        return [_written(figure, Path(out_dir) / f"pareto.{kind}", kind) for kind in ("png", "svg")]


def _written(figure: Figure, path: Path, kind: str) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200, metadata=METADATA[kind])
    write_whole(path, buffer.getvalue())
    return path


def _figure(points: pd.DataFrame, title: str) -> Figure:
    methods, datasets = sorted(points["method"].unique()), sorted(points["dataset"].unique())
    looks = {method: _look(i) for i, method in enumerate(methods)}
    panels = max(1, len(datasets) + (len(datasets) > 1))
    columns = min(COLUMNS, panels)
    rows = math.ceil(panels / columns)
    notes = _footnotes(points)
    below = 0.22 * math.ceil(len(methods) / _legend_columns(columns)) + 0.16 * len(notes) + 0.75  # inches
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
        row[0].set_ylabel("test accuracy (%), error on a log scale")
    _frame(figure, title, looks, notes, below, columns)
    return figure


def _legend_columns(columns: int) -> int:
    return {1: 3, 2: 4}.get(columns, 6)


def _frame(
    figure: Figure, title: str, looks: dict[str, dict[str, Any]], notes: Sequence[str], below: float, columns: int
) -> None:
    """Title above, legend and footnotes below, all placed in inches so that they never run into the panels."""
    width, height = figure.get_size_inches()
    left = 0.62 / width
    figure.subplots_adjust(left, below / height, 1 - 0.18 / width, 1 - 0.72 / height, wspace=0.22, hspace=0.42)
    figure.text(left, 1 - 0.3 / height, title, fontsize=12, fontweight="bold", va="center")
    handles = [Line2D([], [], label=method, **look) for method, look in looks.items()]
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


def _look(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
        "linewidth": 1.5,
        "markersize": 4.5,
        "markeredgewidth": 1.0,
    }


# --- one panel --------------------------------------------------------------------------------------------------


def _panel(axis: Axes, points: pd.DataFrame, name: str, looks: dict[str, dict[str, Any]]) -> None:
    axis.set_title(name, loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
    axis.grid(axis="y", color=FAINT, linewidth=0.6)
    axis.set_xscale("log", base=2)
    values = stats.accuracies(points)
    if values.empty:
        axis.text(0.5, 0.5, "nothing measured", transform=axis.transAxes, ha="center", color="#555555")
        axis.set_xticks([])
        axis.set_yticks([])
        return
    right = _budget_axis(axis, points)
    for method, look in looks.items():
        _curve(axis, values[values["method"] == method], look, right)
    _accuracy_axis(axis, values)


def _accuracy_axis(axis: Axes, values: pd.DataFrame) -> None:
    """Percent correct, spread by the logarithm of the error: 90 to 95 is as far as 80 to 90, for both halve the error.

    Above the best imperfect score the scale goes on straight, which puts a perfect one a halving higher.
    """
    errors = (100 - 100 * values["accuracy"]).clip(lower=0)
    least = float(errors[errors > 1e-9].min()) if (errors > 1e-9).any() else 0.1
    axis.set_yscale("function", functions=(lambda y: _height(y, least), lambda z: _accuracy(z, least)))
    low, high = (float(_height(100 - end, least)) for end in (errors.max(), errors.min()))
    room = max(0.08 * (high - low), 0.05)
    axis.set_ylim(_accuracy(low - room, least), _accuracy(high + room, least))
    axis.yaxis.set_major_locator(FixedLocator(_ticks(low - room, high + room, least)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def _height(accuracy: Any, least: float) -> Any:
    """Minus log2 of the error in %; linear, with the same slope unit, where the error is below ``least``."""
    error = 100 - np.asarray(accuracy, dtype=float)
    return -np.log2(np.maximum(error, least)) + np.maximum(0, 1 - error / least)


def _accuracy(height: Any, least: float) -> Any:
    """Inverse of :func:`_height`."""
    above = np.maximum(0, np.asarray(height, dtype=float) + math.log2(least))
    return 100 - np.where(above > 0, least * (1 - above), 2.0 ** -np.asarray(height, dtype=float))


def _ticks(low: float, high: float, least: float) -> list[float]:
    """Round accuracies between two heights, at least a twelfth of the axis apart.

    The roundest go first; steps of a half fill in only where fewer than four of those have room.
    """
    shown: list[float] = []
    for value in (*ROUND, *np.arange(0.5, 100, 0.5).tolist()):
        height = float(_height(value, least))
        near = min((abs(height - float(_height(other, least))) for other in shown), default=math.inf)
        if low <= height <= high and near >= (high - low) / 12 and (value in ROUND or len(shown) < 4):
            shown.append(value)
    return sorted(shown)


def _budget_axis(axis: Axes, points: pd.DataFrame) -> float:
    """Ticks at the budgets, with their MACs beneath; returns the right end of the axis."""
    full = float(points["full_macs"].dropna().iloc[0])
    budgets = sorted(float(budget) for budget in points["budget"].unique())
    shown = _spaced(budgets)
    labels = {full * budget: f"{100 * budget:g} %\n{_macs(full * budget)}" for budget in shown}
    axis.xaxis.set_major_locator(FixedLocator([full * budget for budget in shown]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(value, "")))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(axis="both", length=3, labelsize=8)
    for budget in budgets:
        axis.axvline(full * budget, color=FAINT, linewidth=0.6, zorder=0)
    axis.set_xlabel("budget and its MACs", fontsize=8)
    right = full * budgets[-1] * 1.06
    axis.set_xlim(full * budgets[0] / 1.12, right)
    return right


def _spaced(budgets: Sequence[float], apart: float = 0.3) -> list[float]:
    """The budgets whose labels have room: from the largest down, at least ``apart`` octaves from the last one."""
    shown: list[float] = []
    for budget in reversed(budgets):
        if not shown or math.log2(shown[-1] / budget) >= apart:
            shown.append(budget)
    return sorted(shown)


def _macs(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.2g} {name}" if value < 100 * unit else f"{value / unit:.0f} {name}"
    return f"{value:.3g}"


def _curve(axis: Axes, values: pd.DataFrame, look: dict[str, Any], right: float) -> None:
    """Means over seeds as a step front, single seeds as faint points; hollow where any seed is suspicious."""
    if values.empty:
        return
    axis.plot(
        values["macs"], 100 * values["accuracy"], look["marker"], color=look["color"], markersize=3, alpha=0.45, mew=0
    )
    groups = values.groupby("budget")
    macs, accuracy = groups["macs"].mean().to_numpy(), 100 * groups["accuracy"].mean().to_numpy()
    odd = groups["status"].agg(lambda status: bool((status == "suspicious").any())).to_numpy(dtype=bool)
    kept = stats.front(macs, accuracy)
    steps = sorted(zip(macs[kept], accuracy[kept], strict=True))
    line = {key: look[key] for key in ("color", "linestyle", "linewidth")}
    x, y = [at for at, _ in steps] + [right], [level for _, level in steps] + [steps[-1][1]]
    axis.plot(x, y, drawstyle="steps-post", alpha=0.85, **line)
    dot = {"linestyle": "none", "marker": look["marker"], "markersize": 4.5, "mew": 1.0, "mec": look["color"]}
    axis.plot(macs[~odd], accuracy[~odd], mfc=look["color"], **dot)
    axis.plot(macs[odd], accuracy[odd], mfc="white", **dot)


def _mean_points(points: pd.DataFrame, sets: int) -> pd.DataFrame:
    """Points of the mean over data sets, seed by seed; only where every set was measured."""
    rows = []
    values = stats.accuracies(points)
    for (method, seed, budget), group in values.groupby(["method", "seed", "budget"]):
        if len(group) == sets:
            status = "suspicious" if (group["status"] == "suspicious").any() else "ok"
            means = {key: float(group[key].mean()) for key in ("macs", "accuracy", "full_macs")}
            rows.append({"method": method, "seed": seed, "budget": budget, "status": status, **means})
    columns = ["method", "seed", "budget", "status", "macs", "accuracy", "full_macs"]
    return pd.DataFrame(rows, columns=columns)


def _footnotes(points: pd.DataFrame) -> list[str]:
    """What the curves do not show: unreachable, failed and missing points, one line a method and status."""
    if points.empty:
        return []
    seeds = points["seed"].nunique()
    several = f"Lines: fronts of the means over {seeds} seeds; faint points: single seeds."
    lines = [several if seeds > 1 else "Lines: fronts of one seed; its spread is unknown."]
    full = stats.completed(points)
    odd = full[~full["status"].isin(("ok", "suspicious"))]
    for (status, method), group in odd.groupby(["status", "method"]):
        places = []
        for dataset, here in group.groupby("dataset"):
            places.append(f"{dataset} at {', '.join(f'{100 * b:g} %' for b in sorted(here['budget'].unique()))}")
        lines.append(f"{status}: {method} ({'; '.join(places)})")
    if (full["status"] == "suspicious").any():
        lines.append("Hollow: a check of the sanity ladder failed there; the table says which.")
    return lines
