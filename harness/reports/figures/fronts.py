"""Accuracy and latency against MACs: a curve a method with the spread of its seeds as attainment surfaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from harness.reports.figures import style
from harness.reports.figures.axes import accuracy_axis, budget_axis, label_spacing
from harness.reports.figures.notes import not_shown
from harness.reports.figures.style import Drawn, Skipped
from harness.reports.report_data import ReportData
from harness.statistics import curves, frames
from harness.statistics.curves import Steps

PAGE, COLUMNS = 12, 3  # panels of a grid


def draw_fronts(data: ReportData) -> Iterator[Drawn | Skipped]:
    """A figure a data set, one of the mean over sets, and all of them as a grid."""
    if frames.accuracies(data.full).empty or data.full_macs() is None:
        yield Skipped("fronts", "nothing was measured")
        return
    panels = [_of_set(data, name) for name in data.datasets]
    if len(panels) > 1:
        panels.append(_of_mean(data))
    else:
        yield Skipped("fronts-mean", "1 data set: its own figure is the mean")
    for panel in panels:
        yield _alone(data, panel)
    pages = [panels[at : at + PAGE] for at in range(0, len(panels), PAGE)] if len(panels) > 1 else []
    for number, page in enumerate(pages, 1):
        yield _grid(data, page, f"fronts-{number}" if len(pages) > 1 else "fronts")


@dataclass(frozen=True)
class _Panel:
    """One data set, or the mean over all. ``values``: what is marked; ``points``: what the curves were made of."""

    name: str
    title: str
    says: str
    full: float | None
    curves: Mapping[str, Sequence[Steps]]
    values: pd.DataFrame
    points: pd.DataFrame
    mean: bool = False


def _of_set(data: ReportData, dataset: str) -> _Panel:
    points = data.full[data.full["dataset"] == dataset]
    return _Panel(
        name=f"fronts-{dataset}",
        title=style.label(dataset),
        says=f"Test {data.score.title} on {style.label(dataset)}",
        full=data.full_macs(dataset),
        curves={name: list(data.fronts.get(name, {}).get(dataset, {}).values()) for name in data.methods},
        values=frames.accuracies(points),
        points=points,
    )


def _of_mean(data: ReportData) -> _Panel:
    """The mean over all sets, seed by seed; MACs as shares of each set's own full model."""
    means = {method: mean_curves(data, data.fronts.get(method, {})) for method in data.methods}
    corners = [
        {"method": method, "macs": at, "accuracy": value, "status": "ok"}
        for method, several in means.items()
        for curve in several
        for at, value in zip(curve.macs, curve.accuracy, strict=True)
    ]
    sets = len(data.datasets)
    return _Panel(
        name="fronts-mean",
        title=f"mean of {sets} data sets",
        says=f"Test {data.score.title}, mean over {sets} data sets from where all of them have a model",
        full=data.full_macs(),
        curves=means,
        values=pd.DataFrame(corners, columns=["method", "macs", "accuracy", "status"]),
        points=data.full,
        mean=True,
    )


def mean_curves(data: ReportData, fronts: Mapping[str, Mapping[int, Steps]]) -> list[Steps]:
    """Mean curve of every seed that has a whole curve on every set."""
    names, middle = data.datasets, data.full_macs()
    if middle is None or any(name not in fronts for name in names):
        return []
    scales = {name: middle / (data.full_macs(name) or middle) for name in names}
    seeds = sorted(set.intersection(*({*fronts[name]} for name in names)))
    return [_mean([_scaled(fronts[name][seed], scales[name]) for name in names]) for seed in seeds]


def _scaled(curve: Steps, by: float) -> Steps:
    return Steps(tuple(at * by for at in curve.macs), curve.accuracy)


def _mean(parts: Sequence[Steps]) -> Steps:
    """Mean of the parts, from the first place where every part has a point."""
    if not all(part.macs for part in parts):
        return Steps((), ())
    start = max(part.macs[0] for part in parts)
    places = sorted({at for part in parts for at in part.macs if at >= start})
    levels = [[part.at(at) or 0.0 for part in parts] for at in places]
    return curves.steps(places, [sum(row) / len(row) for row in levels])


# --- sheets -------------------------------------------------------------------------------------------------------


def _alone(data: ReportData, panel: _Panel) -> Drawn:
    notes = _notes([panel])
    page = style.sheet(style.ONE, 2.3, legend=style.legend_handles(data.methods), notes=notes)
    _draw(page.flat[0], data, panel, style.ONE - 0.5)
    page.flat[0].set_xlabel("budget and its MACs")
    page.flat[0].set_ylabel(f"test {data.score.title} (%)")
    return Drawn(panel.name, _caption(panel.says, notes), page.figure)


def _grid(data: ReportData, panels: Sequence[_Panel], name: str) -> Drawn:
    rows, columns = style.grid_size(len(panels), COLUMNS)
    notes = _notes(panels)
    page = style.sheet(
        style.TWO,
        1.85 * rows,
        rows,
        columns,
        legend=style.legend_handles(data.methods),
        notes=notes,
    )
    for axis, panel in zip(page.flat, panels, strict=False):
        _draw(axis, data, panel, style.TWO / columns - 0.4)
        axis.set_title(panel.title)
    for axis in style.label_axes(page, len(panels)):
        axis.set_xlabel("budget and its MACs")
    for row in page.axes:
        row[0].set_ylabel(f"test {data.score.title} (%)")
    says = f"Test {data.score.title} against MACs: {', '.join(panel.title for panel in panels)}"
    return Drawn(name, _caption(says, notes), page.figure)


def _caption(says: str, notes: Sequence[str]) -> str:
    return " ".join([f"{says}, error on a log scale.", *notes])


def _notes(panels: Sequence[_Panel]) -> list[str]:
    counts = {len(several) for panel in panels for several in panel.curves.values()} - {0}
    points = pd.concat([panel.points for panel in panels]).drop_duplicates()
    most = max(counts, default=0)
    kinds = {panel.mean for panel in panels}
    marks = ((False, "dots: single runs"), (True, "marks of the mean: at the budgets"))
    what = "; ".join(text for kind, text in marks if kind in kinds)
    if most > 1:
        fewer = f" ({min(counts)} to {most} seeds; 1 seed: no band)" if min(counts) < 2 else ""
        half = " (of 2 the better one)" if most == 2 else ""
        lines = [f"Lines: what half of {most} seeds attain{half}; bands: worst to best seed{fewer}; {what}."]
    else:
        lines = [f"Lines: fronts of 1 seed: no band, its spread is unknown; {what}."]
    if (points["status"] == "suspicious").any():
        lines.append("Hollow dots: a sanity check failed there.")
    return [*lines, *not_shown(points)]


# --- one panel ----------------------------------------------------------------------------------------------------


def _draw(axis: Axes, data: ReportData, panel: _Panel, inches: float) -> None:
    values, full, budgets = panel.values, panel.full, data.budgets
    if values.empty or full is None:
        style.empty_panel(axis, "nothing measured")
        return
    style.horizontal_grid(axis)
    least = float(values["macs"].min())
    right = budget_axis(axis, budgets, full, label_spacing(budgets, inches, least / full), least)
    for method, look in style.method_looks(data.methods).items():
        surfaces(axis, panel.curves[method], look, right)
        if panel.mean:
            _mark_budgets(axis, panel.curves[method], [full * budget for budget in budgets], look)
        else:
            _mark_runs(axis, values[values["method"] == method], look)
    accuracy_axis(axis, values["accuracy"])


def _mark_runs(axis: Axes, runs: pd.DataFrame, look: Mapping[str, Any]) -> None:
    """Hollow where a run is suspicious."""
    for odd, fill in ((False, look["color"]), (True, "white")):
        here = runs[(runs["status"] == "suspicious") == odd]
        if len(here):
            face = {"mfc": fill, "mec": look["color"], "mew": 0.6, "markersize": 2.8, "alpha": 0.75}
            axis.plot(here["macs"], 100 * here["accuracy"], linestyle="none", marker=look["marker"], **face)


def _mark_budgets(axis: Axes, several: Sequence[Steps], macs: Sequence[float], look: Mapping[str, Any]) -> None:
    """Mark the line at each budget alone: a mean curve has more corners than the eye can use."""
    median = curves.attainment(several).median if several else Steps((), ())
    known = [(at, 100 * value) for at in macs if (value := median.at(at)) is not None]
    if known:
        axis.plot(*zip(*known, strict=True), linestyle="none", marker=look["marker"], color=look["color"], ms=3)


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


def latency_note(data: ReportData) -> str:
    """Sentence on how far repeats of one measurement differ, as the records say."""
    about = [record.environment for record in data.ordered_records]
    spreads = [value for each in about if isinstance(value := each.get("latency_spread"), float)]
    if not spreads:
        return "Noise: not recorded."
    return f"Noise: the middle half of the repeats of one measurement is {pd.Series(spreads).median():.1%} wide."


def draw_latency(data: ReportData) -> Iterator[Drawn | Skipped]:
    values = frames.accuracies(data.full).dropna(subset=["latency_ms"])
    full = data.full_macs()
    if values.empty or full is None:
        yield Skipped("latency", "no latency was measured")
        return
    machines = {record.environment.get("machine") for record in data.ordered_records} - {None}
    notes = ["Lines: medians at each budget; dots: single runs. One image at a time on a CPU.", latency_note(data)]
    if len(machines) > 1:
        notes.append(f"Taken on {len(machines)} kinds of machine: not comparable between them.")
    page = style.sheet(
        style.ONE,
        2.2,
        legend=style.legend_handles(data.methods),
        notes=[*notes, *not_shown(data.full)],
    )
    axis, least = page.flat[0], float(values["macs"].min())
    budget_axis(axis, data.budgets, full, label_spacing(data.budgets, style.ONE - 0.5, least / full), least)
    style.horizontal_grid(axis)
    for method, look in style.method_looks(data.methods).items():
        here = values[values["method"] == method]
        dots = {"linestyle": "none", "marker": look["marker"], "color": look["color"], "markersize": 2.4, "mew": 0}
        axis.plot(here["macs"], here["latency_ms"], alpha=0.4, **dots)
        middle = here.groupby("budget")[["macs", "latency_ms"]].median()
        axis.plot(middle["macs"], middle["latency_ms"], linewidth=1.1, markersize=3.2, **look)
    axis.set_ylim(0, 1.08 * float(values["latency_ms"].max()))
    axis.set_xlabel("budget and its MACs")
    axis.set_ylabel("latency of one image (ms)")
    yield Drawn("latency", " ".join(["Latency against MACs.", *notes]), page.figure)
