"""The shapes that a method chooses: widths by layer and budget, and all shapes in the plane of their main directions.

Keys are read here as methods of this kind of backbone spell them, ``e<embed>-h<heads>-m<hidden>`` with runs such as
``6x12``; a method that spells its choices otherwise has no shape to draw, which is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from harness.reports.appearance import COLOURS, appearance
from harness.reports.figures import style
from harness.reports.figures.style import Drawn, Skipped
from harness.reports.report_data import ReportData
from harness.statistics import frames

FORM = re.compile(r"e(\d{1,7})-h([\d.x]+)-m([\d.x]+)")
RUN = re.compile(r"(\d{1,7})(?:x(\d{1,4}))?")
MOST_LAYERS = 1000
PARTS = ("embed", "heads", "mlp")
TITLES = ("heads by layer", "hidden neurons by layer")
PAGE = 9  # data sets of a figure
SHORT = 0.145  # inches: a row of a heat map


@dataclass(frozen=True)
class Shape:
    embed: int
    heads: tuple[int, ...]
    mlp: tuple[int, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.embed, *self.heads, *self.mlp)


def parse_shape(key: object) -> Shape | None:
    """None: not the key of a submodel with widths by layer."""
    match = FORM.fullmatch(key) if isinstance(key, str) else None
    if match is None:
        return None
    heads, mlp = (_runs(text) for text in match.groups()[1:])
    return Shape(int(match[1]), heads, mlp) if heads and mlp and len(heads) == len(mlp) else None


def _runs(text: str) -> tuple[int, ...] | None:
    counts: list[int] = []
    for run in text.split("."):
        match = RUN.fullmatch(run)
        if match is None or len(counts) + int(match[2] or 1) > MOST_LAYERS:
            return None
        counts += [int(match[1])] * int(match[2] or 1)
    return tuple(counts) or None


def points_with_shapes(points: pd.DataFrame) -> pd.DataFrame:
    """The measured points whose key is a shape, with it as column ``shape``; all of one depth, the commonest."""
    values = frames.accuracies(points)
    values = (
        values.assign(shape=pd.Series(map(parse_shape, values["key"]), values.index, dtype=object))
        if "key" in values
        else values.iloc[:0]
    )
    if values.empty:
        return values.assign(shape=None)
    values = values[values["shape"].notna()]
    depths = values["shape"].map(lambda shape: len(shape.heads))
    return values[depths == depths.mode().min()] if len(values) else values


def full_shape(several: Sequence[Shape]) -> Shape:
    """The widest that any method chose anywhere: the full widths are in no key."""
    depth = len(several[0].heads)
    heads, mlp = max(max(s.heads) for s in several), max(max(s.mlp) for s in several)
    return Shape(max(s.embed for s in several), (heads or 1,) * depth, (mlp or 1,) * depth)


# --- by budget ----------------------------------------------------------------------------------------------------


def draw_shapes_by_budget(data: ReportData) -> Iterator[Drawn | Skipped]:
    """A figure a method: widths as heat maps, a row of panels a data set; several figures where there are many sets."""
    values = points_with_shapes(data.full)
    for method in data.methods:
        here = values[values["method"] == method]
        names = sorted(map(str, here["dataset"].unique()))
        if not names:
            yield Skipped(f"shapes-{method}", "none of its choices is a submodel with widths by layer")
        for at in range(0, len(names), PAGE):
            page = here[here["dataset"].isin(names[at : at + PAGE])]
            name = f"shapes-{method}" if len(names) <= PAGE else f"shapes-{method}-{1 + at // PAGE}"
            yield _heat(data, page, full_shape(list(values["shape"])), method, name)


def _heat(data: ReportData, here: pd.DataFrame, full: Shape, method: str, name: str) -> Drawn:
    names = sorted(map(str, here["dataset"].unique()))
    budgets = data.budgets
    notes = _heat_notes(here, full, data.seed_count, len(budgets))
    high = len(names) * (0.3 + SHORT * len(budgets)) + 0.2
    depth = len(full.heads)
    ratios = [max(1.0, depth / 6), depth, depth]
    page = style.sheet(style.TWO, high, len(names), 3, notes=notes, width_ratios=ratios, sharey=True)
    for row, dataset in zip(page.axes, names, strict=True):
        panels = here[here["dataset"] == dataset]
        for axis, part in zip(row, PARTS, strict=True):
            _map(axis, panels, budgets, full, part)
        row[0].set_title(style.label(dataset, 24))
        row[0].set_ylabel("budget")
    for axis, title in zip(page.axes[0][1:], TITLES, strict=True):
        axis.set_title(title, loc="right")  # the name of a set may need the left
    for axis, part in zip(page.axes[-1], PARTS, strict=True):
        axis.set_xlabel("layer" if part != "embed" else "embed")
    return Drawn(name, " ".join([f"Widths that {style.label(method, 60)} chooses by budget.", *notes]), page.figure)


def _heat_notes(here: pd.DataFrame, full: Shape, seeds: int, budgets: int) -> list[str]:
    mean = f"means over {seeds} seeds" if seeds > 1 else "1 seed"
    lines = [
        f"Widths kept, {mean}; white is none (the branch is skipped), darkest is the widest in the suite: "
        f"embed {full.embed}, {full.heads[0]} heads, {full.mlp[0]} hidden neurons."
    ]
    counts = here.groupby(["dataset", "budget"])["seed"].nunique()
    if len(counts) < here["dataset"].nunique() * budgets or (counts < seeds).any():
        lines.append("Some budgets have an answer from fewer seeds; a dash: from none.")
    return lines


def _map(axis: Axes, here: pd.DataFrame, budgets: Sequence[float], full: Shape, part: str) -> None:
    """Budgets from large, on top, to small; layers from left to right."""
    whole = _row(full, part)
    table = np.full((len(budgets), len(whole)), np.nan)
    for at, budget in enumerate(reversed(budgets)):
        chosen = [_row(shape, part) for shape in here.loc[here["budget"] == budget, "shape"]]
        if chosen:
            table[at] = np.mean(chosen, axis=0)
    shade = table / np.asarray(whole, dtype=float)
    axis.imshow(np.ma.masked_invalid(shade), cmap=style.BLUES, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    _cells(axis, table, shade)
    axis.set_yticks(range(len(budgets)), [f"{100 * budget:g} %" for budget in reversed(budgets)])
    axis.set_xticks(range(len(whole)), [""] if part == "embed" else [str(n) for n in range(1, len(whole) + 1)])
    if len(whole) > 16:
        axis.set_xticks(range(0, len(whole), 4), [str(n) for n in range(1, len(whole) + 1, 4)])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for edge in range(len(whole) + 1):
        axis.axvline(edge - 0.5, color=style.FAINT, linewidth=0.4)
    for edge in range(len(budgets) + 1):
        axis.axhline(edge - 0.5, color=style.FAINT, linewidth=0.4)


def _row(shape: Shape, part: str) -> Sequence[int]:
    return (shape.embed,) if part == "embed" else shape.heads if part == "heads" else shape.mlp


def _cells(axis: Axes, table: NDArray[np.float64], shade: NDArray[np.float64]) -> None:
    """The numbers themselves where they fit."""
    crowded, size = table.shape[1] > 16, 5.8 if table.shape[1] <= 8 else 4.6
    for (row, column), value in np.ndenumerate(table):
        if np.isnan(value):
            axis.text(column, row, "–", color=style.GREY, fontsize=size, ha="center", va="center", in_layout=False)
        elif not crowded:
            style.cell_text(
                axis, column, row, width_text(float(value)), dark=bool(shade[row, column] > 0.55), size=size
            )


def width_text(value: float) -> str:
    """A width in three digits, which are enough to read it and fit."""
    return f"{value:.0f}" if value >= 20 or abs(value - round(value)) < 0.05 else f"{value:.1f}"


# --- by set: main directions --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Directions:
    """``places``: one row a shape, two columns; ``explained``: shares of the variance."""

    places: NDArray[np.float64]
    explained: tuple[float, float]


def main_directions(several: Sequence[Shape]) -> Directions:
    """The two main directions of the widths, each as a share of the widest; heads, neurons and embed count equally.

    Signs are such that larger is to the right, and that the largest weight of the second direction is positive.
    """
    full = full_shape(several)
    table = np.array([shape.widths for shape in several], dtype=np.float64) / np.array(full.widths, dtype=np.float64)
    depth = len(full.heads)
    table *= np.sqrt(np.array([1.0, *[1 / depth] * (2 * depth)]))
    centred = table - table.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.vstack([axes, np.zeros((2, table.shape[1]))])[:2]
    signs = [1.0 if axes[0].sum() >= 0 else -1.0, 1.0 if axes[1][np.abs(axes[1]).argmax()] >= 0 else -1.0]
    total = float((lengths**2).sum())
    shares = [float(x) for x in np.concatenate([lengths, [0.0, 0.0]])[:2] ** 2 / total] if total > 1e-18 else [0.0, 0.0]
    return Directions(centred @ (axes * np.array(signs)[:, None]).T, (shares[0], shares[1]))


def draw_shapes_by_set(data: ReportData) -> Iterator[Drawn | Skipped]:
    """All shapes in one plane, a panel a method: do sets get shapes of their own?"""
    values = points_with_shapes(data.full)
    if len({*values["shape"]}) < 3:
        yield Skipped("shapes-by-set", "fewer than 3 different shapes were chosen")
        return
    directions = main_directions(list(values["shape"]))
    values = values.assign(x=directions.places[:, 0], y=directions.places[:, 1])
    names = [method for method in data.methods if method in {*values["method"]}]
    rows, columns = style.grid_size(len(names), 3)
    left_out = [method for method in data.methods if method not in names]
    notes = [
        "Main directions (PCA) of all choices, widths as shares of the widest; larger marks are larger budgets; "
        "lines join the budgets of one seed.",
        *([f"No shapes: {style.name_list(left_out)}."] if left_out else []),
    ]
    page = style.sheet(style.TWO, 1.75 * rows, rows, columns, legend=_sets(data), notes=notes, sharex=True, sharey=True)
    for axis, method in zip(page.flat, names, strict=False):
        axis.set_title(style.label(method, 30))
        _plane(axis, values[values["method"] == method], data)
    for axis in style.label_axes(page, len(names)):
        axis.set_xlabel(f"1st direction ({100 * directions.explained[0]:.0f} % of variance)")
    for row in page.axes:
        row[0].set_ylabel(f"2nd ({100 * directions.explained[1]:.0f} %)")
    yield Drawn("shapes-by-set", " ".join(notes), page.figure)


def _sets(data: ReportData) -> list[Line2D]:
    return [
        Line2D([], [], label=style.label(name), linestyle="-", linewidth=0.6, markersize=4, **_mark(at))
        for at, name in enumerate(data.datasets)
    ]


def _mark(at: int) -> dict[str, Any]:
    one = appearance(at)
    return {"color": COLOURS[one.colour], "marker": one.marker}


def _plane(axis: Axes, here: pd.DataFrame, data: ReportData) -> None:
    if here.empty:
        style.empty_panel(axis, "nothing chosen")
        return
    axis.axhline(0, color=style.FAINT, linewidth=0.5)
    axis.axvline(0, color=style.FAINT, linewidth=0.5)
    sizes: Mapping[float, float] = {b: 2.2 + 2.6 * at / len(data.budgets) for at, b in enumerate(data.budgets)}
    for at, name in enumerate(data.datasets):
        for _, one in here[here["dataset"] == name].groupby("seed"):
            ordered = one.sort_values("budget")
            axis.plot(ordered["x"], ordered["y"], linewidth=0.5, alpha=0.45, color=_mark(at)["color"])
            for budget, x, y in zip(ordered["budget"], ordered["x"], ordered["y"], strict=True):
                axis.plot([x], [y], markersize=sizes[float(budget)], mew=0, alpha=0.8, linestyle="none", **_mark(at))
