"""Aggregates over all data sets: the mean of their means, its bounds where cells are absent, and mean ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.reports import marking
from harness.reports.document.blocks import Entry, Row, Section, name, table
from harness.reports.document.formatting import number, share
from harness.reports.report_data import ReportData
from harness.statistics import frames, intervals, pairs, ranks


def ranked(curves: pd.DataFrame) -> list[str]:
    """Methods by mean area, best first; those without one last, by name."""
    means = {str(method): group["area"].mean() for method, group in curves.groupby("method")}
    return sorted(means, key=lambda method: (math.isnan(means[method]), -means[method], method))


def mean_over_sets(data: ReportData) -> Section | None:
    datasets, budgets = data.datasets, data.budgets
    if len(datasets) < 2:
        return None
    curves, values = data.areas, frames.accuracies(data.points)
    marks = marking.overall(data.points, data.unequal)
    rows: list[Row] = []
    for method in ranked(curves):
        mine = values[values["method"] == method]
        shown = [_at(mine[mine["budget"] == budget], data, marks.get(budget), method) for budget in budgets]
        area, _ = _over_sets(_by_set(curves[curves["method"] == method].dropna(), "area", datasets))
        rows.append([name(method), *shown, area])
    text = (
        f"Mean of the means of these {len(datasets)} data sets; in brackets half the 95 % interval over seeds within "
        "sets (Satterthwaite t), which says nothing about other data sets."
    )
    source = data.source("these sets, Satterthwaite t, 95 %")
    head = ["method", *map(share, budgets), "area"]
    return Section("Mean over data sets", text, table(head, rows, source), _silent(marks))


def _at(measured: pd.DataFrame, data: ReportData, marks: marking.Marks | None, method: str) -> Entry:
    text, complete = _over_sets(_by_set(measured, "accuracy", data.datasets))
    odd = int((measured["status"] == "suspicious").sum())
    off = sum(cell in data.unequal for cell in zip(*(measured[key] for key in frames.CELL), strict=True))
    words = [f"suspicious ({odd})"] * bool(odd) + [f"unequal budget ({off})"] * bool(off)
    return Entry(", ".join([text, *words]), marks.look(method) if marks is not None and complete else "plain")


def _silent(marks: dict[float, marking.Marks]) -> tuple[str, ...]:
    return tuple(
        f"Nothing is marked at {share(budget)}: {found.why}." for budget, found in sorted(marks.items()) if found.why
    )


def _by_set(rows: pd.DataFrame, column: str, datasets: Sequence[str]) -> list[list[float]]:
    return [[float(value) for value in rows.loc[rows["dataset"] == one, column]] for one in datasets]


def _over_sets(values: list[list[float]]) -> tuple[str, bool]:
    there = sum(bool(group) for group in values)
    if there < len(values):
        return f"{there} of {len(values)} sets", False
    found = intervals.these_sets(values)
    return number(sum(sum(group) / len(group) for group in values) / len(values), found.half), True


# --- bounds and ranks -------------------------------------------------------------------------------------------


def worst_case(data: ReportData) -> Section | None:
    """Only of methods that lack a number somewhere."""
    known = data.full["status"].isin([*frames.MEASURED, "unreachable"])
    rows: list[Row] = []
    for method in sorted(data.full["method"][~known].unique()):
        ends = [_bounds(data, method, budget) for budget in data.budgets]
        rows.append([name(method), *(f"{100 * low:.1f} to {100 * high:.1f}" for low, high in ends)])
    if not rows:
        return None
    text = (
        "What the mean over data sets could be at worst and at best, whatever the absent cells had given: guessing, or "
        "every image right."
    )
    head = ["method", *map(share, data.budgets)]
    return Section("Bounds of what is absent", text, table(head, rows, data.source("bounds, no interval")))


def _bounds(data: ReportData, method: str, budget: float) -> tuple[float, float]:
    chance = data.chance
    found = frames.worst_case(data.full, method, budget, chance)
    return found if found is not None else (min(chance.values(), default=0.0), 1.0)


def ranking(data: ReportData) -> Section:
    """Mean ranks at each budget, and what Friedman's test says; a line instead where sets are too few for that."""
    title, sets = "Mean ranks", len(data.datasets)
    if sets < pairs.FEWEST:
        word = "set" if sets == 1 else "sets"
        why = f"None: {sets} data {word}; with fewer than {pairs.FEWEST} no test over sets can tell methods apart."
        return Section(title, why)
    at = {budget: frames.scores(data.points, budget) for budget in data.budgets}
    means = {budget: ranks.mean_ranks(scores) if scores and named else {} for budget, (scores, named) in at.items()}
    order = sorted(data.methods, key=lambda method: (_mean([m.get(method, math.inf) for m in means.values()]), method))
    rows: list[Row] = [
        [name(method), *(f"{means[b][method]:.2f}" if method in means[b] else "–" for b in data.budgets)]
        for method in order
    ]
    rows += [["sets ranked", *(str(len(at[b][1])) for b in data.budgets)]]
    rows += [["Friedman p", *(_friedman(at[b][0]) for b in data.budgets)]]
    text = "1 is best; only sets on which every method has a number are ranked."
    return Section(title, text, table(["method", *map(share, data.budgets)], rows, data.source("no interval")))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _friedman(scores: dict[str, list[float]]) -> str:
    if not scores or not min(map(len, scores.values())):
        return "n/a"
    found = ranks.friedman(scores, np.random.default_rng(0))
    return "n/a" if found.p is None else f"{found.p:.3f}"
