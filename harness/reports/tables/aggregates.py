"""Aggregates over all data sets: the mean of their means, its bounds where cells are absent, and mean ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.reports import marking
from harness.reports.document.blocks import Entry, Row, Section, method_entry, table
from harness.reports.document.formatting import accuracy_text, budget_text
from harness.reports.report_data import ReportData
from harness.statistics import frames, intervals, pairs, ranks

OVER_SETS = "Mean over data sets"


def by_area(data: ReportData, dataset: str | None = None) -> list[str]:
    """Methods by mean area, best first; those without one last, by name.

    One that does not reach all budgets stands by its lead there over the mean of those that do.
    """
    means = {start: _mean_areas(data, start, dataset) for start in {*data.reached_from.values()}}
    least = min(means, default=0.0)
    whole = [method for method in means.get(least, {}) if data.reached_from[method] == least]

    def lead(method: str) -> float:
        here = means[data.reached_from[method]]
        others = [here[name] for name in whole if name in here]
        return here.get(method, math.nan) - (sum(others) / len(others) if others else 0.0)

    leads = {method: lead(method) for method in data.methods}
    return sorted(leads, key=lambda method: (math.isnan(leads[method]), -leads[method], method))


def _mean_areas(data: ReportData, start: float, dataset: str | None) -> dict[str, float]:
    areas = data.areas_from(start).dropna(subset=["area"])
    here = areas if dataset is None else areas[areas["dataset"] == dataset]
    return {str(method): float(group["area"].mean()) for method, group in here.groupby("method")}


def area_text(data: ReportData, method: str, text: str) -> str:
    """The area with the budgets that it is over, where these are not all."""
    start = data.reached_from[method]
    if start == data.budgets[0]:
        return text
    return f"{text}, from {budget_text(start)}" if math.isfinite(start) else "unreachable"


def mean_section(data: ReportData) -> Section | None:
    if len(data.datasets) < 2:
        return None
    marks = marking.marks_over_sets(data.points, data.unequal)
    rows: list[Row] = []
    for method in by_area(data):
        entries = [_mean_entry(data, method, budget, marks.get(budget)) for budget in data.budgets]
        area, _ = _mean_text(data, data.values[None].get(method, {}))
        rows.append([method_entry(method), *entries, area_text(data, method, area)])
    text = (
        f"Mean of the means of these {len(data.datasets)} data sets; in brackets half the 95 % interval over seeds "
        "within sets (Satterthwaite t), which says nothing about other data sets."
    )
    head = ["method", *map(budget_text, data.budgets), "area"]
    shown = table(head, rows, data.source("these sets, Satterthwaite t, 95 %"))
    return Section(OVER_SETS, text, shown, reasons_without_marks(marks))


def reasons_without_marks(marks: Mapping[float, marking.Marks]) -> tuple[str, ...]:
    return tuple(f"Nothing is marked at {budget_text(b)}: {one.why}." for b, one in sorted(marks.items()) if one.why)


def _mean_entry(data: ReportData, method: str, budget: float, marks: marking.Marks | None) -> Entry:
    text, complete = _mean_text(data, data.values[budget].get(method, {}))
    here = data.points[(data.points["method"] == method) & (data.points["budget"] == budget)]
    if len(here) and (here["status"] == "unreachable").all():
        return Entry("unreachable")
    measured = frames.accuracies(here)
    suspicious = int((measured["status"] == "suspicious").sum())
    unequal = sum(cell in data.unequal for cell in zip(*(measured[key] for key in frames.CELL), strict=True))
    words = [f"suspicious ({suspicious})"] * bool(suspicious) + [f"unequal budget ({unequal})"] * bool(unequal)
    return Entry(", ".join([text, *words]), marks.look(method) if marks is not None and complete else "plain")


def _mean_text(data: ReportData, by_set: Mapping[str, Mapping[int, float]]) -> tuple[str, bool]:
    """The mean with its interval, and whether every data set is part of it."""
    if len(by_set) < len(data.datasets):
        return f"{len(by_set)} of {len(data.datasets)} sets", False
    groups = [[value for _, value in sorted(by_set[name].items())] for name in data.datasets]
    return accuracy_text(intervals.these_sets(groups)), True


# --- bounds and ranks -------------------------------------------------------------------------------------------


def bounds_section(data: ReportData) -> Section | None:
    """Only of methods that lack a number somewhere."""
    known = data.full["status"].isin([*frames.MEASURED, "unreachable"])
    rows: list[Row] = []
    for method in sorted(data.full["method"][~known].unique()):
        ends = [_bounds(data, method, budget) for budget in data.budgets]
        rows.append([method_entry(method), *(f"{100 * low:.1f} to {100 * high:.1f}" for low, high in ends)])
    if not rows:
        return None
    text = (
        "What the mean over data sets could be at worst and at best, whatever the absent cells had given: guessing, or "
        "every image right."
    )
    head = ["method", *map(budget_text, data.budgets)]
    return Section("Bounds of what is absent", text, table(head, rows, data.source("bounds, no interval")))


def _bounds(data: ReportData, method: str, budget: float) -> tuple[float, float]:
    bounds = frames.worst_case_bounds(data.full, method, budget, data.chance)
    return bounds if bounds is not None else (min(data.chance.values(), default=0.0), 1.0)


def rank_section(data: ReportData) -> Section:
    """Mean ranks at each budget, and what Friedman's test says; a line instead where sets are too few for that."""
    title, sets = "Mean ranks", len(data.datasets)
    if sets < pairs.FEWEST:
        word = "set" if sets == 1 else "sets"
        why = f"None: {sets} data {word}; with fewer than {pairs.FEWEST} no test over sets can tell methods apart."
        return Section(title, why)
    at = {budget: frames.set_scores(data.points, budget) for budget in data.budgets}
    means = {budget: ranks.mean_ranks(scores) if scores and sets else {} for budget, (scores, sets) in at.items()}
    order = sorted(data.methods, key=lambda method: (_mean([m.get(method, math.inf) for m in means.values()]), method))
    rows: list[Row] = [
        [method_entry(method), *(f"{means[b][method]:.2f}" if method in means[b] else "–" for b in data.budgets)]
        for method in order
    ]
    rows += [["sets ranked", *(str(len(at[b][1])) for b in data.budgets)]]
    rows += [["Friedman p", *(_friedman(at[b][0]) for b in data.budgets)]]
    text = "1 is best; only sets on which every method has a number are ranked."
    head = ["method", *map(budget_text, data.budgets)]
    return Section(title, text, table(head, rows, data.source("no interval")))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _friedman(scores: Mapping[str, Sequence[float]]) -> str:
    if not scores or not min(map(len, scores.values())):
        return "n/a"
    test = ranks.friedman(scores, np.random.default_rng(0))
    return "n/a" if test.p is None else f"{test.p:.3f}"
