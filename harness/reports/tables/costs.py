"""Cost of training by phase, and the number of sizes from which one elastic family costs less than separate models."""

from __future__ import annotations

from collections.abc import Sequence

from harness.reports.document.blocks import Row, Section, method_entry, table
from harness.reports.document.formatting import giga_text
from harness.reports.report_data import ReportData
from harness.results.record import Record
from harness.statistics import frames

SEARCH = "search"
COSTS = ("train_macs", "train_seconds")


def cost_section(data: ReportData) -> Section:
    """Training is a cell's: every one of its rows repeats the total for all its budgets."""
    cells = data.full.groupby(frames.CELL, as_index=False)[list(COSTS)].max()
    rows: list[Row] = []
    for (method, dataset), group in cells.groupby(["method", "dataset"]):
        known = group.dropna(subset=["train_macs"])
        macs = giga_text(known["train_macs"].mean()) if len(known) else "missing"
        seconds = f"{known['train_seconds'].mean():.1f}" if len(known) else "missing"
        resumed = sum((method, dataset, seed) in data.resumed for seed in group["seed"])
        seconds += f", {resumed} resumed" if resumed else ""
        rows.append([method_entry(str(method)), str(dataset), macs, seconds, f"{len(known)} of {len(group)}"])
    text = (
        "One cell trains for all its budgets together; means over cells. Seconds are of the machine that ran them; "
        "those of resumed cells include work that was repeated."
    )
    shown = table(["method", "data set", "GMACs", "seconds", "cells"], rows, data.source(), left=2)
    return Section("Cost of training", text, shown)


def phase_section(data: ReportData) -> Section | None:
    """GMACs of each phase, search apart from what trains; only where records were kept."""
    by_place: dict[tuple[str, str], list[Record]] = {}
    for record in data.ordered_records:
        if record.ledger:
            by_place.setdefault((record.method, record.dataset), []).append(record)
    if not by_place:
        return None
    phases = sorted({phase for records in by_place.values() for one in records for phase in one.ledger} - {SEARCH})
    rows: list[Row] = [
        [method_entry(method), dataset, *(_macs(records, [phase]) for phase in phases), _macs(records, phases),
         _macs(records, [SEARCH])]
        for (method, dataset), records in by_place.items()
    ]  # fmt: skip
    text = "GMACs by phase, forward and backward, means over cells; search is not part of the sum."
    head = ["method", "data set", *phases, "sum without search", SEARCH]
    return Section("Cost by phase", text, table(head, rows, data.source(), left=2))


def _macs(records: Sequence[Record], phases: Sequence[str]) -> str:
    if not any(phase in record.ledger for record in records for phase in phases):
        return "–"
    return giga_text(sum(record.macs_of(*phases) for record in records) / len(records))


def break_even_section(data: ReportData) -> Section | None:
    """Every elastic family against every method that trains a model for each size."""
    elastic = [method for method in data.methods if method not in data.alone]
    rows: list[Row] = [
        [method_entry(family), method_entry(one), *(_break_even(data, family, one, column) for column in COSTS)]
        for family in elastic
        for one in data.alone
    ]
    if not rows:
        return None
    text = (
        "The number of sizes from which one elastic adaptation costs less than training each size alone; in brackets "
        "over seeds. A model alone costs the mean of the sizes that were trained."
    )
    head = ["elastic", "each size alone", "by training MACs", "by seconds"]
    interval = "these sets, 95 %; counted where seeds agree"
    return Section("Break-even", text, table(head, rows, data.source(interval), left=2))


def _break_even(data: ReportData, family: str, alone: str, column: str) -> str:
    return frames.cost_break_even(data.points, family, alone, column).text
