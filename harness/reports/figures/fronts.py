"""Accuracy and latency against MACs: a curve a method with the spread of its seeds as attainment surfaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.reports.figures.axes import accuracy_axis, budget_axis, label_room
from harness.reports.figures.figure_data import Material, Reported, not_shown
from harness.reports.figures.style import (
    GREY,
    ONE,
    TWO,
    Drawn,
    Skipped,
    blank,
    grid_size,
    handles,
    horizontal_grid,
    lowest,
    sheet,
    shown,
)
from harness.statistics import curves, frames
from harness.statistics.curves import Steps

PAGE, COLUMNS = 12, 3  # panels of a grid
Curves = Mapping[str, Mapping[str, Mapping[int, Steps]]]  # method to set to seed
MEAN = "mean"


def fronts(material: Material) -> Iterator[Drawn | Skipped]:
    """A figure a data set, one of the mean over sets, and all of them as a grid."""
    if frames.accuracies(material.points).empty or material.full_macs() is None:
        yield Skipped("fronts", "nothing was measured")
        return
    found = {method: frames.fronts(material.points, method) for method in material.methods}
    panels = [_Panel(material, found, name) for name in material.datasets]
    if len(panels) > 1:
        panels.append(_Mean(material, found))
    else:
        yield Skipped("fronts-mean", "1 data set: its own figure is the mean")
    for panel in panels:
        yield _alone(panel)
    pages = [panels[at : at + PAGE] for at in range(0, len(panels), PAGE)] if len(panels) > 1 else []
    for number, page in enumerate(pages, 1):
        yield _grid(material, page, f"fronts-{number}" if len(pages) > 1 else "fronts")


class _Panel:
    """One data set: its curves, and the points that they were made of."""

    def __init__(self, material: Material, found: Curves, dataset: str) -> None:
        self.material, self.found, self.dataset = material, found, dataset

    @property
    def name(self) -> str:
        return f"fronts-{self.dataset}"

    @property
    def title(self) -> str:
        return shown(self.dataset)

    @property
    def full(self) -> float | None:
        return self.material.full_macs(self.dataset)

    def curves(self, method: str) -> list[Steps]:
        return list(self.found[method].get(self.dataset, {}).values())

    @property
    def values(self) -> pd.DataFrame:
        return frames.accuracies(self.points)

    @property
    def points(self) -> pd.DataFrame:
        return self.material.points[self.material.points["dataset"] == self.dataset]

    @property
    def reported(self) -> list[Reported]:
        return [mark for mark in self.material.reported if mark.dataset == self.dataset]

    @property
    def says(self) -> str:
        return f"Test accuracy on {shown(self.dataset)}"

    def marks(self, axis: Axes, method: str, look: Mapping[str, Any]) -> None:
        """Every run; hollow where it is suspicious."""
        values = self.values
        for odd, fill in ((False, look["color"]), (True, "white")):
            here = values[(values["method"] == method) & ((values["status"] == "suspicious") == odd)]
            if len(here):
                face = {"mfc": fill, "mec": look["color"], "mew": 0.6, "markersize": 2.8, "alpha": 0.75}
                axis.plot(here["macs"], 100 * here["accuracy"], linestyle="none", marker=look["marker"], **face)


class _Mean(_Panel):
    """The mean over all sets, seed by seed; MACs as shares of each set's own full model."""

    def __init__(self, material: Material, found: Curves) -> None:
        super().__init__(material, found, MEAN)
        self._curves = {method: mean_curves(material, found[method]) for method in material.methods}

    @property
    def title(self) -> str:
        return f"mean of {len(self.material.datasets)} data sets"

    @property
    def full(self) -> float | None:
        return self.material.full_macs()

    def curves(self, method: str) -> list[Steps]:
        return self._curves[method]

    @property
    def values(self) -> pd.DataFrame:
        """The corners of the mean curves: a mean curve has no runs of its own."""
        rows = [
            {"method": method, "macs": at, "accuracy": value, "status": "ok"}
            for method, several in self._curves.items()
            for curve in several
            for at, value in zip(curve.macs, curve.accuracy, strict=True)
        ]
        return pd.DataFrame(rows, columns=["method", "macs", "accuracy", "status"])

    @property
    def points(self) -> pd.DataFrame:
        return self.material.points

    @property
    def reported(self) -> list[Reported]:
        return []

    @property
    def says(self) -> str:
        return f"Test accuracy, mean over {len(self.material.datasets)} data sets from where all of them have a model"

    def marks(self, axis: Axes, method: str, look: Mapping[str, Any]) -> None:
        """The line at each budget: a mean curve has more corners than the eye can use."""
        several = self._curves[method]
        median = curves.attainment(several).median if several else Steps((), ())
        places = [(self.full or 1.0) * budget for budget in self.material.budgets]
        known = [(at, 100 * value) for at in places if (value := median.at(at)) is not None]
        if known:
            axis.plot(*zip(*known, strict=True), linestyle="none", marker=look["marker"], color=look["color"], ms=3)


def mean_curves(material: Material, found: Mapping[str, Mapping[int, Steps]]) -> list[Steps]:
    """Of every seed that has a whole curve on every set."""
    names, middle = material.datasets, material.full_macs()
    if middle is None or any(name not in found for name in names):
        return []
    scales = {name: middle / (material.full_macs(name) or middle) for name in names}
    seeds = sorted(set.intersection(*({*found[name]} for name in names)))
    return [_mean([_scaled(found[name][seed], scales[name]) for name in names]) for seed in seeds]


def _scaled(curve: Steps, by: float) -> Steps:
    return Steps(tuple(at * by for at in curve.macs), curve.accuracy)


def _mean(parts: Sequence[Steps]) -> Steps:
    """From where every part has a point."""
    if not all(part.macs for part in parts):
        return Steps((), ())
    start = max(part.macs[0] for part in parts)
    places = sorted({at for part in parts for at in part.macs if at >= start})
    levels = [[part.at(at) or 0.0 for part in parts] for at in places]
    return curves.steps(places, [sum(row) / len(row) for row in levels])


# --- sheets -------------------------------------------------------------------------------------------------------


def _alone(panel: _Panel) -> Drawn:
    notes = _notes([panel])
    page = sheet(ONE, 2.3, legend=_legend(panel.material, [panel]), notes=notes)
    _draw(page.flat[0], panel, ONE - 0.5)
    page.flat[0].set_xlabel("budget and its MACs")
    page.flat[0].set_ylabel("test accuracy (%)")
    return Drawn(panel.name, _caption(panel.says, notes), page.figure)


def _grid(material: Material, panels: Sequence[_Panel], name: str) -> Drawn:
    rows, columns = grid_size(len(panels), COLUMNS)
    notes = _notes(panels)
    page = sheet(TWO, 1.85 * rows, rows, columns, legend=_legend(material, panels), notes=notes)
    for axis, panel in zip(page.flat, panels, strict=False):
        _draw(axis, panel, TWO / columns - 0.4)
        axis.set_title(panel.title)
    for axis in lowest(page, len(panels)):
        axis.set_xlabel("budget and its MACs")
    for row in page.axes:
        row[0].set_ylabel("test accuracy (%)")
    says = f"Test accuracy against MACs: {', '.join(panel.title for panel in panels)}"
    return Drawn(name, _caption(says, notes), page.figure)


def _caption(says: str, notes: Sequence[str]) -> str:
    return " ".join([f"{says}, error on a log scale.", *notes])


def _legend(material: Material, panels: Sequence[_Panel]) -> list[Line2D]:
    marks = sorted({mark.method for panel in panels for mark in panel.reported if _inside(panel, mark)})
    return [*handles(material.looks), *(Line2D([], [], **_hollow(i), label=_said(m)) for i, m in enumerate(marks))]


def _said(method: str) -> str:
    return f"{shown(method, 40)}, as reported"


def _hollow(index: int) -> dict[str, Any]:
    marker = "os^Dv<>ph*"[index % 10]
    return {"linestyle": "none", "marker": marker, "mfc": "none", "mec": GREY, "mew": 0.9, "markersize": 5}


def _notes(panels: Sequence[_Panel]) -> list[str]:
    counts = {len(panel.curves(method)) for panel in panels for method in panel.material.methods} - {0}
    points = pd.concat([panel.points for panel in panels]).drop_duplicates()
    most = max(counts, default=0)
    kinds = {isinstance(panel, _Mean) for panel in panels}
    what = "; ".join(
        text
        for kind, text in ((False, "dots: single runs"), (True, "marks of the mean: at the budgets"))
        if kind in kinds
    )
    if most > 1:
        fewer = f" ({min(counts)} to {most} seeds; 1 seed: no band)" if min(counts) < 2 else ""
        half = " (of 2 the better one)" if most == 2 else ""
        lines = [f"Lines: what half of {most} seeds attain{half}; bands: worst to best seed{fewer}; {what}."]
    else:
        lines = [f"Lines: fronts of 1 seed: no band, its spread is unknown; {what}."]
    if (points["status"] == "suspicious").any():
        lines.append("Hollow dots: a check of the sanity ladder failed there.")
    outside = sorted({_said(mark.method) for panel in panels for mark in panel.reported if not _inside(panel, mark)})
    return [*lines, *(f"Outside these MACs: {name}." for name in outside), *not_shown(points)]


# --- one panel ----------------------------------------------------------------------------------------------------


def _draw(axis: Axes, panel: _Panel, inches: float) -> None:
    values, full = panel.values, panel.full
    if values.empty or full is None:
        blank(axis, "nothing measured")
        return
    horizontal_grid(axis)
    budgets = panel.material.budgets
    least = float(values["macs"].min())
    right = budget_axis(axis, budgets, full, label_room(budgets, inches, least / full), least)
    for method, look in panel.material.looks.items():
        surfaces(axis, panel.curves(method), look, right)
        panel.marks(axis, method, look)
    marks = [mark for mark in panel.reported if _inside(panel, mark)]
    order = sorted({mark.method for mark in marks})
    for mark in marks:
        axis.plot(
            [mark.macs], [100 * mark.accuracy], label=_said(mark.method), zorder=5, **_hollow(order.index(mark.method))
        )
    accuracy_axis(axis, [*values["accuracy"], *(mark.accuracy for mark in marks)])


def _inside(panel: _Panel, mark: Reported) -> bool:
    full, budgets = panel.full, panel.material.budgets
    return full is not None and budgets[0] / 1.12 <= mark.macs / full <= budgets[-1] * 1.06


def surfaces(axis: Axes, several: Sequence[Steps], look: Mapping[str, Any], right: float) -> None:
    """The median front as steps, and a band between the worst and the best one, from where every seed has a model."""
    if not several:
        return
    best, median, worst = curves.attainment(several)
    if len(several) > 1 and worst.macs:
        places = [at for at in sorted({*best.macs, *worst.macs, right}) if at >= worst.macs[0]]
        low, high = ([100 * (curve.at(at) or 0.0) for at in places] for curve in (worst, best))
        axis.fill_between(places, low, high, step="post", color=look["color"], alpha=0.13, linewidth=0)
    if median.macs:
        x, y = [*median.macs, right], [100 * value for value in (*median.accuracy, median.accuracy[-1])]
        axis.plot(x, y, drawstyle="steps-post", color=look["color"], linestyle=look["linestyle"], linewidth=1.1)


# --- latency ------------------------------------------------------------------------------------------------------


def latency(material: Material) -> Iterator[Drawn | Skipped]:
    values = frames.accuracies(material.points).dropna(subset=["latency_ms"]) if _timed(material) else None
    if values is None or values.empty or material.full_macs() is None:
        yield Skipped("latency", "no latency was measured")
        return
    machines = {record.environment.get("machine") for record in material.records.values()} - {None}
    notes = ["Lines: medians at each budget; dots: single runs. One image at a time on a CPU; wall time, so it varies."]
    if len(machines) > 1:
        notes.append(f"Taken on {len(machines)} kinds of machine: not comparable between them.")
    page = sheet(ONE, 2.2, legend=handles(material.looks), notes=[*notes, *not_shown(material.points)])
    axis = page.flat[0]
    full, least = material.full_macs() or 1.0, float(values["macs"].min())
    budget_axis(axis, material.budgets, full, label_room(material.budgets, ONE - 0.5, least / full), least)
    horizontal_grid(axis)
    for method, look in material.looks.items():
        here = values[values["method"] == method]
        dots = {"linestyle": "none", "marker": look["marker"], "color": look["color"], "markersize": 2.4, "mew": 0}
        axis.plot(here["macs"], here["latency_ms"], alpha=0.4, **dots)
        middle = here.groupby("budget")[["macs", "latency_ms"]].median()
        axis.plot(middle["macs"], middle["latency_ms"], linewidth=1.1, markersize=3.2, **look)
    axis.set_ylim(0, 1.08 * float(values["latency_ms"].max()))
    axis.set_xlabel("budget and its MACs")
    axis.set_ylabel("latency of one image (ms)")
    yield Drawn("latency", " ".join(["Latency against MACs.", *notes]), page.figure)


def _timed(material: Material) -> bool:
    return "latency_ms" in material.points
