"""Points to one page: accuracy by budget, cost, ladder, and where every number comes from.

What is missing or failed is a word, never a zero, and the page does not depend on the order of the points.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.evaluation.check_names import SANITY_CHECKS
from harness.reports import marking, reported_values, sanity
from harness.reports.document import blocks, latex
from harness.reports.document import markdown as marked
from harness.reports.document.blocks import Entry, Page, Row, Section, name, table
from harness.reports.document.formatting import number, share
from harness.reports.subject import Subject, short
from harness.reports.tables import aggregates, costs, differences, selector_comparison
from harness.statistics import frames, intervals

WORDS = tuple(status for status in frames.STATUSES if status not in frames.MEASURED)
OVER_SEEDS = "t over seeds, 95 %"
REASON = 300  # characters of one that are shown; the record has it whole


def markdown(subject: Subject) -> str:
    return marked.document(page(subject))


def tex(subject: Subject) -> str:
    return latex.document(page(subject))


def page(subject: Subject) -> Page:
    title = subject.title or subject.suite
    if subject.points.empty:
        return Page(title, (f"No cell has a record yet: {len(subject.planned)} planned.",))
    curves = subject.areas
    summary = frames.summary(subject.full)
    marks = marking.marks(subject.points, subject.unequal)
    found = [
        *(_dataset(subject, summary, curves, one, marks) for one in subject.datasets),
        aggregates.mean_over_sets(subject),
        aggregates.worst_case(subject),
        aggregates.ranking(subject),
        *differences.sections(subject),
        selector_comparison.nesting(subject.mine, subject.budgets, subject.source(OVER_SEEDS)),
        costs.cost(subject),
        costs.phases(subject),
        costs.economy(subject),
        _use(subject),
        _ladder(subject),
        _notes(subject),
        _cells(subject),
        *reported_values.cards(subject.cards, subject.methods, f"`cards.json` of suite `{subject.suite}`."),
        *reported_values.reported(subject.reported),
    ]
    return Page(title, _preamble(subject), tuple(section for section in found if section is not None))


def _preamble(subject: Subject) -> tuple[str, ...]:
    nothing = not subject.full["status"].isin(frames.MEASURED).any()
    guess = "as guessing" if subject.chance else "as 0"
    limit = f"; a cell whose training MACs are off the common ones by more than {100 * marking.TOLERANCE:g} % is "
    off = limit + "stamped unequal budget" if subject.regime == "equal_macs" else ""
    return (
        *(["**No cell succeeded**: there is no number to report."] if nothing else []),
        _denominator(subject),
        f"Regime: {subject.regime.replace('_', ' ')}{off}; budgets are shares of the full model's counted MACs.",
        f"Commit: {', '.join(short(commit) for commit in subject.commits)}.",
        "Test accuracy in %, mean over seeds, in brackets half the 95 % t interval over seeds (n/a: 1 seed, or seeds "
        "that agree to the last digit, give none).",
        "Area: mean accuracy in % over log2 MACs between the smallest and the largest budget, by steps; an "
        f"unreachable budget counts {guess}.",
        "**Bold**: better than every other method there, each by a paired 95 % t interval over seeds above 0. ≈: the "
        "best mean and those whose interval against it holds 0. Suspicious and unequal ones are not in the running.",
        *_few(subject),
    )


def _few(subject: Subject) -> list[str]:
    """What two seeds are worth is easily forgotten."""
    if subject.full["seed"].nunique() != 2:
        return []
    return ["With 2 seeds an interval reaches 12.7 standard errors to each side: there ≈ says little."]


def _denominator(subject: Subject) -> str:
    """For example "18 of 20 cells complete; 1 oom; 1 missing"."""
    found = frames.denominator(subject.points, subject.planned)
    rest = "".join(f"; {count} {state}" for state, count in found.states.items() if state != "ok")
    seeds = ", ".join(str(seed) for seed in sorted(subject.full["seed"].unique()))
    return f"{found.whole} of {found.planned} cells complete{rest}. Seeds: {seeds}."


# --- accuracy ---------------------------------------------------------------------------------------------------

Marked = dict[tuple[str, float], marking.Marks]


def _dataset(subject: Subject, summary: pd.DataFrame, areas: pd.DataFrame, one: str, marks: Marked) -> Section:
    here, curves = summary[summary["dataset"] == one], areas[areas["dataset"] == one]
    rows: list[Row] = []
    for method in aggregates.ranked(curves):
        at = {float(row["budget"]): row for row in here[here["method"] == method].to_dict("records")}
        off = sum(key[:2] == (method, one) for key in subject.unequal)
        shown = [_shown(at[b], _look(marks, one, b, method), off) for b in subject.budgets]
        rows.append([name(method), *shown, _spread([float(v) for v in curves[curves["method"] == method]["area"]])])
    sizes = sorted({int(n) for n in subject.full.loc[subject.full["dataset"] == one, "n"].dropna()})
    images = f" ({', '.join(map(str, sizes))} test images)" if sizes else ""
    head = ["method", *map(share, subject.budgets), "area"]
    silent = {b: marks[one, b].why for b in subject.budgets if (one, b) in marks and marks[one, b].why}
    why = tuple(f"Nothing is marked at {share(budget)}: {reason}." for budget, reason in silent.items())
    return Section(one + images, "", table(head, rows, subject.source(OVER_SEEDS, one)), why)


def _look(marks: Marked, dataset: str, budget: float, method: str) -> blocks.Look:
    found = marks.get((dataset, budget))
    return found.look(method) if found is not None else "plain"


def _shown(row: Mapping[Any, Any], look: blocks.Look, off: int) -> Entry:
    parts = []
    if row["seeds"]:
        parts.append(number(float(row["mean"]), None if math.isnan(row["half"]) else float(row["half"])))
        parts += [f"unequal budget ({off})"] if off else []
    parts += [_word(status, row) for status in ("suspicious", *WORDS) if row[status]]
    return Entry(", ".join(parts), look)


def _word(status: str, row: Mapping[Any, Any]) -> str:
    """With the number of seeds; a budget that no seed reaches is a fact about the method and needs none."""
    every = sum(int(row[other]) for other in frames.STATUSES)
    return status if status == "unreachable" and row[status] == every else f"{status} ({row[status]})"


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "missing"
    return number(sum(known) / len(known), intervals.over_seeds(known).half)


# --- budgets, ladder, notes, cells ------------------------------------------------------------------------------


def _use(subject: Subject) -> Section | None:
    values = frames.use(subject.points)
    if values.empty:
        return None
    rows: list[Row] = []
    for method, group in values.groupby("method"):
        shares = [_share(group.loc[group["budget"] == budget, "use"]) for budget in subject.budgets]
        rows.append([name(str(method)), *shares, str(int((group["use"] > 1 + frames.SLACK).sum()))])
    text = "Mean share of the budget that the choices use, in %, and the number of choices over their budget (law: 0)."
    head = ["method", *map(share, subject.budgets), "over"]
    return Section("Use of budgets", text, table(head, rows, subject.source()))


def _share(values: pd.Series) -> str:
    known = values.dropna()
    return f"{100 * known.mean():.1f}" if len(known) else "–"


def _ladder(subject: Subject) -> Section | None:
    """Which rungs were run, by method, and every one that failed or stays open with its reason."""
    if not subject.rungs:
        return None
    counts = sanity.tally(subject.rungs)
    methods = sorted({rung.method for rung in subject.rungs})
    rows: list[Row] = [[rung, *(_counted(counts.get((rung, method))) for method in methods)] for rung in SANITY_CHECKS]
    odd = [rung for rung in subject.rungs if rung.outcome in ("failed", "undecided")]
    lines = tuple(
        f"{rung.outcome}: {rung.name}, `{rung.method}` on {rung.dataset}, seed {rung.seed} (`{rung.cell}`): {rung.why}"
        for rung in odd
    )
    text = "Cells that passed each rung, of those on which it was run; a failed rung makes a point suspicious."
    shown = table(["rung", *methods], rows, subject.source("95 %, over images"))
    return Section("Sanity ladder", text, shown, lines)


def _counted(counts: dict[sanity.Outcome, int] | None) -> str:
    run = sum(counts.values()) - counts["not run"] if counts else 0
    if not counts or not run:
        return "not run"
    return f"{counts['passed']} of {run}" + (f", {counts['undecided']} open" if counts["undecided"] else "")


def _notes(subject: Subject) -> Section | None:
    """Why a point is not plain ``ok``: one line a reason, with the places it holds for."""
    odd = subject.full[subject.full["status"] != "ok"].copy()
    odd["reason"] = [_reason(text) for text in odd["reason"]]
    lines = []
    for (status, method, dataset, reason), group in odd.groupby(["status", "method", "dataset", "reason"]):
        budgets = ", ".join(share(budget) for budget in sorted(group["budget"].unique()))
        seeds = ", ".join(str(seed) for seed in sorted(group["seed"].unique()))
        why = f": {reason}" if str(reason) else ""
        lines.append(f"{status}, `{method}` on {dataset} at {budgets} (seeds {seeds}){why}")
    for (method, dataset, seed), by in sorted(subject.unequal.items()):
        lines.append(f"unequal budget, `{method}` on {dataset}, seed {seed}: {100 * by:+.1f} % MACs")
    return Section("Not plain", points=tuple(lines)) if lines else None


def _reason(text: object) -> str:
    return blocks.one_line(text)[:REASON] if isinstance(text, str) else ""


def _cells(subject: Subject) -> Section:
    rows: list[Row] = []
    for (method, dataset), group in subject.full.dropna(subset=["cell"]).groupby(["method", "dataset"]):
        cells = group.drop_duplicates(["seed", "cell"]).sort_values(["seed", "cell"])
        ids = ", ".join(f"{seed}: `{cell}`" for seed, cell in zip(cells["seed"], cells["cell"], strict=True))
        rows.append([name(str(method)), str(dataset), ids])
    head = ["method", "data set", "seed: cell"]
    return Section("Cells", "", table(head, rows, subject.source(), left=3))


# --- CSV --------------------------------------------------------------------------------------------------------

COLUMNS = (
    "suite", "regime", "dataset", "method", "budget", "seeds", "mean", "low", "high", "interval", "why", "mark", "macs",
    *frames.STATUSES, "unequal", "cells", "commits",
)  # fmt: skip


def table_csv(subject: Subject) -> str:
    """The accuracy tables for other programs: a row a (data set, method, budget), with the cells it is made of."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    if not subject.points.empty:
        marks = marking.marks(subject.points, subject.unequal)
        summary = frames.summary(subject.full).sort_values(["dataset", "method", "budget"])
        writer.writerows(_row(subject, row, marks) for _, row in summary.iterrows())
    return out.getvalue()


def _row(subject: Subject, row: pd.Series, marks: Marked) -> list[object]:
    dataset, method, budget = str(row["dataset"]), str(row["method"]), float(row["budget"])
    full = subject.full
    here = full[(full["dataset"] == dataset) & (full["method"] == method) & (full["budget"] == budget)]
    measured = frames.accuracies(here)["accuracy"].tolist()
    cells = [f"{seed}:{cell}" for seed, cell in zip(here["seed"], here["cell"], strict=True) if isinstance(cell, str)]
    ends = ["" if math.isnan(row[key]) else f"{row[key]:.6f}" for key in ("mean", "low", "high")]
    off = sum(key[:2] == (method, dataset) for key in subject.unequal)
    return [
        subject.suite, subject.regime, dataset, method, repr(budget), int(row["seeds"]), *ends, "t over seeds",
        intervals.over_seeds(measured).why, {"plain": ""}.get(look := _look(marks, dataset, budget, method), look),
        "" if math.isnan(row["macs"]) else f"{row['macs']:.0f}", *(int(row[status]) for status in frames.STATUSES),
        off, " ".join(cells), " ".join(subject.commits),
    ]  # fmt: skip
