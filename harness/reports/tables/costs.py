"""Cost of training by phase, and the number of sizes from which one elastic family costs less than separate models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.reports.document.blocks import Row, Section, name, table
from harness.reports.document.formatting import giga
from harness.reports.report_data import ReportData
from harness.results.record import Record, Spent
from harness.statistics import frames

SEARCH = "search"


def cost(data: ReportData) -> Section:
    """Training is a cell's: every one of its rows repeats the total for all its budgets."""
    cells = data.full.groupby(frames.CELL, as_index=False)[["train_macs", "train_seconds"]].max()
    rows: list[Row] = []
    for (method, dataset), group in cells.groupby(["method", "dataset"]):
        spent = group.dropna(subset=["train_macs"])
        macs = giga(spent["train_macs"].mean()) if len(spent) else "missing"
        seconds = f"{spent['train_seconds'].mean():.1f}" if len(spent) else "missing"
        again = sum((method, dataset, seed) in data.resumed for seed in group["seed"])
        seconds += f", {again} resumed" if again else ""
        rows.append([name(str(method)), str(dataset), macs, seconds, f"{len(spent)} of {len(group)}"])
    text = (
        "One cell trains for all its budgets together; means over cells. Seconds are of the machine that ran them; "
        "those of resumed cells include work that was repeated."
    )
    shown = table(["method", "data set", "GMACs", "seconds", "cells"], rows, data.source(), left=2)
    return Section("Cost of training", text, shown)


def phases(data: ReportData) -> Section | None:
    """GMACs of each phase, search apart from what trains; only where records were kept."""
    kept: dict[tuple[str, str], list[Record]] = {}
    for record in data.ordered_records:
        if record.ledger:
            kept.setdefault((record.method, record.dataset), []).append(record)
    if not kept:
        return None
    names = sorted({phase for records in kept.values() for record in records for phase in record.ledger} - {SEARCH})
    rows: list[Row] = []
    for (method, dataset), records in sorted(kept.items()):
        shares = [_phase(records, [phase]) for phase in names]
        rows.append([name(method), dataset, *shares, _phase(records, names), _phase(records, [SEARCH])])
    text = "GMACs by phase, forward and backward, means over cells; search is not part of the sum."
    head = ["method", "data set", *names, "sum without search", SEARCH]
    return Section("Cost by phase", text, table(head, rows, data.source(), left=2))


def _phase(records: Sequence[Record], names: Sequence[str]) -> str:
    if not any(phase in record.ledger for record in records for phase in names):
        return "–"
    return giga(sum(_macs(record.ledger, names) for record in records) / len(records))


def _macs(ledger: Mapping[str, Spent], names: Sequence[str]) -> float:
    found = [ledger[phase] for phase in names if phase in ledger]
    return sum(spent.forward_macs + spent.backward_macs for spent in found)


def break_even(data: ReportData) -> Section | None:
    """Every elastic family against every method that trains a model for each size."""
    alone = data.alone
    elastic = [method for method in data.methods if method not in alone]
    rows: list[Row] = [
        [name(family), name(one), *(_even(data.points, family, one, column) for column in COSTS)]
        for family in elastic
        for one in alone
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


COSTS = ("train_macs", "train_seconds")


def _even(points: pd.DataFrame, family: str, one: str, column: str) -> str:
    return frames.break_even(points, family, one, column).text
