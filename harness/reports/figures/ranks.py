"""Whole curves in one number a method: areas, ranks over sets, and methods that cannot be distinguished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from harness.reports.figures import style
from harness.reports.figures.style import Drawn, Skipped
from harness.reports.report_data import ReportData
from harness.statistics import intervals, pairs, ranks

Groups = Mapping[str, Mapping[str, Sequence[float]]]  # method to set to one value a seed
SEED = 0  # of the shuffles in tests over sets


def area_groups(data: ReportData) -> Groups:
    """Areas under the curves, one value a cell; a cell with a hole has none."""
    areas: dict[str, dict[str, list[float]]] = {}
    whole = data.areas.dropna(subset=["area"])
    for method, dataset, area in zip(whole["method"], whole["dataset"], whole["area"], strict=True):
        areas.setdefault(str(method), {}).setdefault(str(dataset), []).append(float(area))
    return areas


def whole_on_every_set(data: ReportData, groups: Groups) -> tuple[dict[str, list[float]], list[str], list[str]]:
    """Means by set of the methods that have all sets, those methods' rivals that have not, and the sets."""
    names = data.datasets
    whole = {
        method: [float(np.mean(sets[name])) for name in names]
        for method, sets in groups.items()
        if all(name in sets for name in names) and data.reached_from[method] == data.budgets[0]
    }
    return whole, sorted({*data.methods} - {*whole}), names


def draw_areas_and_ranks(data: ReportData) -> Iterator[Drawn | Skipped]:
    groups = area_groups(data)
    if not groups:
        yield Skipped("summary", "no cell has a whole curve between two budgets, so there is no area")
        return
    whole, missing, names = whole_on_every_set(data, groups)
    places = ranks.mean_ranks(whole) if len(whole) > 1 else {}
    order = sorted(groups, key=lambda name: (places.get(name, np.inf), -_level(groups[name]), name))
    notes = _notes(data, missing, len(names))
    page = style.sheet(style.TWO, 0.55 + 0.2 * len(order), 1, 2, notes=notes, width_ratios=[1.25, 1])
    left, right = page.flat
    _areas(left, data, groups, order)
    _ranks(right, data, whole, order, places)
    yield Drawn("summary", " ".join(["Area under the curve, and ranks by it.", *notes]), page.figure)


def _level(sets: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([np.mean(values) for values in sets.values()]))


def _notes(data: ReportData, missing: Sequence[str], sets: int) -> list[str]:
    few = "" if data.seed_count > 1 else " (1 seed: none)"
    lines = [
        f"Area: {data.area_definition}, of a method that does not reach all budgets over those it reaches. "
        f"Filled: mean over sets, with the 95 % interval over seeds within these sets{few}; faint: single sets.",
        f"Rank 1 is the largest area; {'1 set' if sets == 1 else f'{sets} sets'}.",
    ]
    if missing:
        named = ", ".join(map(style.label, missing))
        lines.append(f"Without a rank, for a budget is not reached or has no number: {named}.")
    return lines


def _areas(axis: Axes, data: ReportData, groups: Groups, order: Sequence[str]) -> None:
    style.name_rows(axis, order)
    appearance = style.method_looks(data.methods)
    for at, method in enumerate(order):
        look, sets = appearance[method], list(groups[method].values())
        interval = intervals.these_sets(sets)
        if interval.low is not None and interval.high is not None:
            axis.plot([100 * interval.low, 100 * interval.high], [at, at], color=look["color"], linewidth=1.3)
        means = [100 * float(np.mean(values)) for values in sets]
        axis.plot(means, [at] * len(means), "|", color=look["color"], markersize=6, alpha=0.5)
        axis.plot([100 * _level(groups[method])], [at], look["marker"], color=look["color"], markersize=4.5)
    low, high = axis.get_xlim()
    axis.set_xlim(max(low, -2), min(high, 102))
    axis.set_xlabel("area (%)")


def _ranks(
    axis: Axes,
    data: ReportData,
    whole: Mapping[str, Sequence[float]],
    order: Sequence[str],
    places: Mapping[str, float],
) -> None:
    if not places:
        style.empty_panel(axis, "fewer than two methods have a curve on every set")
        return
    style.name_rows(axis, order)
    axis.set_yticklabels([])
    appearance = style.method_looks(data.methods)
    single = [ranks.mean_ranks({name: [values[at]] for name, values in whole.items()}) for at in range(_sets(whole))]
    for at, method in enumerate(order):
        look = appearance[method]
        if method not in places:
            axis.text(1, at, "no rank", va="center", color=style.GREY, fontsize=6)
            continue
        across = [of_set[method] for of_set in single]
        axis.plot(across, [at + up for up in style.offsets(len(across), 0.2)], "|", color=look["color"], alpha=0.5)
        axis.plot([places[method]], [at], look["marker"], color=look["color"], markersize=4.5)
    axis.set_xlim(0.7, len(places) + 0.3)
    axis.set_xticks(range(1, len(places) + 1))
    axis.set_xlabel("rank by area (mean over sets; bars: single sets)")


def _sets(whole: Mapping[str, Sequence[float]]) -> int:
    return len(next(iter(whole.values())))


# --- critical differences -----------------------------------------------------------------------------------------


def draw_critical_differences(data: ReportData) -> Iterator[Drawn | Skipped]:
    """Mean ranks over sets, joined where pairwise Wilcoxon tests with Holm's correction find nothing."""
    whole, missing, names = whole_on_every_set(data, area_groups(data))
    few = _too_few(len(whole), len(names))
    if few:
        yield Skipped("critical-difference", few)
        return
    rng = np.random.default_rng(SEED)
    places, test = ranks.mean_ranks(whole), ranks.friedman(whole, rng)
    joined = ranks.cliques(places, ranks.not_distinguished(pairs.all_pairs(whole, rng)))
    odds = f"p = {test.p:.2g}" if test.p is not None else f"n/a ({test.why})"
    notes = [
        f"Mean ranks by area over {len(names)} sets, 1 is best; Friedman {odds}. Bars join methods that Wilcoxon tests "
        "with Holm's correction do not tell apart at 5 %; CD: Nemenyi's critical difference at 5 %."
    ]
    if missing:
        notes.append(f"Left out, for a set has no whole curve: {', '.join(map(style.label, missing))}.")
    sides = -(-len(places) // 2)
    page = style.sheet(style.TWO, 0.75 + 0.15 * (sides + len(joined)), notes=notes)
    draw_diagram(page.flat[0], places, joined, ranks.critical_difference(len(places), len(names)))
    yield Drawn("critical-difference", " ".join(notes), page.figure)


def _too_few(methods: int, sets: int) -> str:
    if methods < 3:
        return f"{methods} methods have a whole curve on every set: needs 3"
    if sets < pairs.FEWEST:
        return (
            f"{'1 set' if sets == 1 else f'{sets} sets'}: with fewer than {pairs.FEWEST} no Wilcoxon test reaches 0.05"
        )
    return ""


def draw_diagram(axis: Axes, places: Mapping[str, float], joined: Sequence[Sequence[str]], difference: float) -> None:
    """Best rank on the left; names left and right below the scale, bars between."""
    count, order = len(places), list(places)
    half, below = -(-count // 2), 0.55 * (len(joined) + 1)
    axis.set_axis_off()
    axis.set_xlim(1 - 0.42 * (count - 1), count + 0.42 * (count - 1))
    axis.set_ylim(-below - half, 2.1)
    axis.plot([1, count], [0, 0], color=style.INK, linewidth=0.8)
    for rank in range(1, count + 1):
        axis.plot([rank, rank], [0, 0.25], color=style.INK, linewidth=0.8)
        axis.text(rank, 0.4, str(rank), ha="center", va="bottom", fontsize=6.5)
    end = min(1 + difference, count)
    axis.plot([1, end], [1.6, 1.6], color=style.INK, linewidth=1.0, marker="|", markersize=4)
    more = "" if 1 + difference <= count else ", wider than the scale"
    axis.text(end + 0.04 * (count - 1), 1.6, f"CD = {difference:.2f}{more}", va="center", fontsize=6.5)
    for at, name in enumerate(order):
        left = at < half
        level = -below - (at if left else count - 1 - at) - 0.4
        edge = 1 - 0.04 * (count - 1) if left else count + 0.04 * (count - 1)
        axis.plot([places[name], places[name], edge], [0, level, level], color=style.GREY, linewidth=0.6)
        side = "right" if left else "left"
        text = (
            f"{style.label(name, 24)}  {places[name]:.2f}" if left else f"{places[name]:.2f}  {style.label(name, 24)}"
        )
        axis.text(edge, level, f" {text} ", ha=side, va="center", fontsize=7)
    for row, names in enumerate(joined):
        ends = [places[names[0]] - 0.02 * count, places[names[-1]] + 0.02 * count]
        axis.plot(ends, [-0.55 * (row + 1)] * 2, color=style.INK, linewidth=2.6, solid_capstyle="butt")
    axis.axhline(0, color=style.FAINT, linewidth=0)
