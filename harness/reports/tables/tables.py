"""Points to one page: accuracy by budget, cost, sanity checks, and where every number comes from.

What is missing or failed is a word, never a zero, and the page does not depend on the order of the points.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.evaluation.check_names import SANITY_CHECKS
from harness.reports import marking, reported_values, sanity
from harness.reports.document import blocks, formatting
from harness.reports.document.blocks import Entry, Group, Page, Row, Section, method_entry, table
from harness.reports.document.formatting import accuracy_text, budget_text
from harness.reports.report_data import ReportData, short_commit
from harness.reports.tables import aggregates, costs, differences, metric_tables, selector_comparison
from harness.statistics import frames, intervals

WORDS = tuple(status for status in frames.STATUSES if status not in frames.MEASURED)
OVER_SEEDS = "t over seeds, 95 %"
REASON = 300  # characters of one that are shown; the record has it whole


def report_page(data: ReportData) -> Page:
    title = data.title or data.suite
    if data.points.empty:
        return Page(title, (f"No cell has a record yet: {len(data.planned)} planned.", *data.notices))
    groups: dict[Group, Sequence[Section | None]] = {
        "numbers": [
            *(_accuracy_section(data, dataset) for dataset in data.datasets),
            aggregates.mean_section(data),
            aggregates.bounds_section(data),
            aggregates.rank_section(data),
            *metric_tables.metric_sections(data),
        ],
        "comparison": [
            *differences.comparison_sections(data),
            selector_comparison.nesting_section(data.ordered_records, data.budgets, data.source(OVER_SEEDS)),
        ],
        "cost": [
            costs.cost_section(data),
            costs.phase_section(data),
            costs.break_even_section(data),
            _budget_section(data),
        ],
        "checks": [_check_section(data), _note_section(data)],
        "cells": [_cell_section(data)],
        "cards": reported_values.card_sections(data.cards, data.methods, f"`cards.json` of suite `{data.suite}`."),
        "reported": reported_values.reported_sections(data.reported),
    }
    sections = (replace(one, group=group) for group, several in groups.items() for one in several if one is not None)
    return Page(title, _preamble(data), tuple(sections))


def _preamble(data: ReportData) -> tuple[str, ...]:
    nothing = not data.full["status"].isin(frames.MEASURED).any()
    limit = f"; a cell whose training MACs are off the common ones by more than {100 * marking.TOLERANCE:g} % is "
    off = limit + "marked unequal budget" if data.regime == "equal_macs" else ""
    return (
        *(["**No cell succeeded**: there is no number to report."] if nothing else []),
        _denominator(data),
        *data.notices,
        f"Regime: {data.regime.replace('_', ' ')}{off}; budgets are shares of the full model's counted MACs.",
        f"Commit: {', '.join(short_commit(commit) for commit in data.commits)}.",
        f"Test {data.score.title} in %, mean over seeds, in brackets half the 95 % t interval over seeds, or its ends "
        "where it is cut at 0 or 100 (n/a: there is none for 1 seed, nor for seeds that agree to the last digit).",
        f"Area: {data.area_definition}, in %; of a method that does not reach the smaller budgets, over those from the "
        "one named beside it on. Methods are ordered by it, such a method by its lead there over the mean of those "
        "that reach all budgets.",
        "**Bold**: better than every other method there, each by a paired 95 % t interval over seeds above 0. ≈: the "
        "best mean and those whose interval against it holds 0. Methods that are suspicious or unequal there are no "
        "candidates.",
        *_few(data),
        *([] if data.score.per_image else [OF_THE_SPLIT]),
    )


OF_THE_SPLIT = (
    "The score is of the whole test split, in which no single image is right or wrong: intervals are over seeds alone, "
    "and no test pairs images."
)


def _few(data: ReportData) -> list[str]:
    """Warning about the width of intervals over few seeds."""
    if data.full["seed"].nunique() != 2:
        return []
    reach = f"more than {100 * formatting.WIDE:g} points to each side"
    return [
        "With 2 seeds an interval reaches 12.7 standard errors to each side: there ≈ says little. Where that is "
        f"{reach}, “2 seeds” stands in its place: the seeds differ, and no more can be said without a third."
    ]


def _denominator(data: ReportData) -> str:
    """Completeness of the cells, such as "18 of 20 cells complete; 1 oom; 1 missing. Seeds: 0, 1."."""
    seeds = ", ".join(str(seed) for seed in sorted(data.full["seed"].unique()))
    return f"{data.denominator.text}. Seeds: {seeds}."


# --- accuracy ---------------------------------------------------------------------------------------------------


def _accuracy_section(data: ReportData, dataset: str) -> Section:
    summary, areas = (frame[frame["dataset"] == dataset] for frame in (data.summary, data.areas))
    rows: list[Row] = []
    for method in aggregates.by_area(data, dataset):
        at = {float(row["budget"]): row for row in summary[summary["method"] == method].to_dict("records")}
        area = _area_text(areas.loc[areas["method"] == method, "area"].tolist())
        area = aggregates.area_text(data, method, area)
        rows.append([method_entry(method), *(_accuracy_entry(data, at[budget]) for budget in data.budgets), area])
    sizes = sorted({int(n) for n in data.full.loc[data.full["dataset"] == dataset, "n"].dropna()})
    images = f" ({', '.join(map(str, sizes))} test images)" if sizes else ""
    shown = table(["method", *map(budget_text, data.budgets), "area"], rows, data.source(OVER_SEEDS, dataset))
    marks = {budget: data.marks[dataset, budget] for budget in data.budgets if (dataset, budget) in data.marks}
    return Section(dataset + images, "", shown, aggregates.reasons_without_marks(marks))


def _accuracy_entry(data: ReportData, row: Mapping[Any, Any]) -> Entry:
    parts = []
    if row["seeds"]:
        parts.append(accuracy_text(_interval(row)))
        parts += [f"unequal budget ({count})"] if (count := _unequal(data, row)) else []
    every = sum(int(row[status]) for status in frames.STATUSES)
    for status in ("suspicious", *WORDS):
        # A budget that no seed reaches is a fact about the method and needs no number.
        whole = status == "unreachable" and row[status] == every
        parts += [status if whole else f"{status} ({row[status]})"] if row[status] else []
    return Entry(", ".join(parts), _look(data, row))


def _interval(row: Mapping[Any, Any]) -> intervals.Interval:
    """The interval of a row of the summary, not cut."""
    mean, half = float(row["mean"]), float(row["half"])
    low, high = (None, None) if math.isnan(half) else (mean - half, mean + half)
    return intervals.Interval(mean, low, high, "t over seeds", n=int(row["seeds"]))


def _unequal(data: ReportData, row: Mapping[Any, Any]) -> int:
    return sum(key[:2] == (row["method"], row["dataset"]) for key in data.unequal)


def _look(data: ReportData, row: Mapping[Any, Any]) -> blocks.Look:
    marks = data.marks.get((row["dataset"], row["budget"]))
    return marks.look(row["method"]) if marks is not None else "plain"


def _area_text(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return accuracy_text(intervals.over_seeds(known)) if known else "missing"


# --- budgets, sanity checks, notes, cells -----------------------------------------------------------------------


def _budget_section(data: ReportData) -> Section | None:
    values = frames.budget_use(data.points)
    if values.empty:
        return None
    rows: list[Row] = []
    for method, group in values.groupby("method"):
        shares = [_share(group.loc[group["budget"] == budget, "use"]) for budget in data.budgets]
        rows.append([method_entry(str(method)), *shares, str(int((group["use"] > 1 + frames.SLACK).sum()))])
    text = (
        "Mean share of the budget that the choices use, in %, and the number of choices over their budget (must be 0)."
    )
    head = ["method", *map(budget_text, data.budgets), "over"]
    return Section("Use of budgets", text, table(head, rows, data.source()))


def _share(values: pd.Series) -> str:
    known = values.dropna()
    return f"{100 * known.mean():.1f}" if len(known) else "–"


def _check_section(data: ReportData) -> Section | None:
    """Checks that were run, by method, and every one that failed or is undecided with its reason."""
    if not data.checks:
        return None
    counts = sanity.count_outcomes(data.checks)
    methods = sorted({check.method for check in data.checks})
    rows: list[Row] = [
        [check, *(_passed(counts.get((check, method))) for method in methods)] for check in SANITY_CHECKS
    ]
    lines = tuple(
        f"{one.outcome}: {one.name}, `{one.method}` on {one.dataset}, seed {one.seed} (`{one.cell}`): {one.why}"
        for one in data.checks
        if one.outcome in ("failed", "undecided")
    )
    text = "Cells that passed each check, of those on which it was run; a failed check makes a point suspicious."
    shown = table(["check", *methods], rows, data.source("95 %, over images"))
    return Section("Sanity checks", text, shown, lines)


def _passed(counts: dict[sanity.Outcome, int] | None) -> str:
    run = sum(counts.values()) - counts["not run"] if counts else 0
    if not counts or not run:
        return "not run"
    return f"{counts['passed']} of {run}" + (f", {counts['undecided']} open" if counts["undecided"] else "")


def _note_section(data: ReportData) -> Section | None:
    """Reasons of points that are not ``ok``: one line a reason, with the places where it holds."""
    noted = data.full[data.full["status"] != "ok"].copy()
    noted["reason"] = [_reason(text) for text in noted["reason"]]
    lines = []
    for (status, method, dataset, reason), group in noted.groupby(["status", "method", "dataset", "reason"]):
        budgets = ", ".join(budget_text(budget) for budget in sorted(group["budget"].unique()))
        seeds = ", ".join(str(seed) for seed in sorted(group["seed"].unique()))
        why = f": {reason}" if str(reason) else ""
        lines.append(f"{status}, `{method}` on {dataset} at {budgets} (seeds {seeds}){why}")
    for (method, dataset, seed), by in sorted(data.unequal.items()):
        lines.append(f"unequal budget, `{method}` on {dataset}, seed {seed}: {100 * by:+.1f} % MACs")
    return Section("Notes on points", points=tuple(lines)) if lines else None


def _reason(text: object) -> str:
    return blocks.joined_lines(text)[:REASON] if isinstance(text, str) else ""


def _cell_section(data: ReportData) -> Section:
    rows: list[Row] = []
    for (method, dataset), group in data.full.dropna(subset=["cell"]).groupby(["method", "dataset"]):
        cells = group.drop_duplicates(["seed", "cell"]).sort_values(["seed", "cell"])
        ids = ", ".join(f"{seed}: `{cell}`" for seed, cell in zip(cells["seed"], cells["cell"], strict=True))
        rows.append([method_entry(str(method)), str(dataset), ids])
    head = ["method", "data set", "seed: cell"]
    return Section("Cells", "", table(head, rows, data.source(), left=3))


# --- CSV --------------------------------------------------------------------------------------------------------

COLUMNS = (
    "suite", "regime", "dataset", "method", "budget", "seeds", "mean", "low", "high", "interval", "why", "mark", "macs",
    *frames.STATUSES, "unequal", "cells", "commits",
)  # fmt: skip


def table_csv(data: ReportData) -> str:
    """The accuracy tables for other programs: a row a (data set, method, budget), with the cells it is made of."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    if not data.points.empty:
        keys = ["dataset", "method", "budget"]
        known = data.full.dropna(subset="cell")
        cells = known.assign(cell=known["seed"].astype(str) + ":" + known["cell"]).groupby(keys)["cell"].agg(list)
        measured = frames.accuracies(data.full).groupby(keys)["accuracy"].agg(list)
        for row in data.summary.sort_values(keys).to_dict("records"):
            key = tuple(row[name] for name in keys)
            writer.writerow(_csv_row(data, row, cells.get(key, []), measured.get(key, [])))
    return out.getvalue()


def _csv_row(data: ReportData, row: Mapping[Any, Any], cells: Sequence[str], measured: Sequence[float]) -> list[object]:
    """``cells`` and ``measured``: seed and cell, and accuracy, of the points that the row sums up."""
    dataset, method, budget = str(row["dataset"]), str(row["method"]), float(row["budget"])
    ends = ["" if math.isnan(row[key]) else f"{row[key]:.6f}" for key in ("mean", "low", "high")]
    why, look = intervals.over_seeds(measured).why, _look(data, row)
    return [
        data.suite, data.regime, dataset, method, repr(budget), int(row["seeds"]), *ends, "t over seeds", why,
        "" if look == "plain" else look, "" if math.isnan(row["macs"]) else f"{row['macs']:.0f}",
        *(int(row[status]) for status in frames.STATUSES), _unequal(data, row), " ".join(cells), " ".join(data.commits),
    ]  # fmt: skip
