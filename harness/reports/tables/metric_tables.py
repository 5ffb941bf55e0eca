"""Tables of the metrics that a suite names: one for each, its mean over seeds at each budget."""

from __future__ import annotations

import pandas as pd

from harness.reports.document.blocks import Block, Row, Section, Table, block, method_entry
from harness.reports.document.formatting import budget_text, three_digits, with_interval
from harness.reports.report_data import ReportData
from harness.reports.tables import aggregates
from harness.statistics import intervals

TEXT = (
    "Mean over seeds; in brackets half the 95 % interval over seeds, n/a where seeds or spread are too few. A metric "
    "does not say whether more or less is better: methods are in the order of their areas, and nothing is marked."
)


def metric_sections(data: ReportData) -> list[Section]:
    """A section for each metric, with the reasons of values that are missing."""
    values = data.metric_values
    names = dict.fromkeys(values["metric"].tolist()) if len(values) else {}
    return [_section(data, name, values[values["metric"] == name]) for name in names]


def _section(data: ReportData, name: str, values: pd.DataFrame) -> Section:
    blocks = tuple(_block(data, dataset, values[values["dataset"] == dataset]) for dataset in data.datasets)
    head = ("method", *map(budget_text, data.budgets))
    missing = values[values["value"].isna()]
    lines = tuple(
        f"No value of `{method}` on {dataset} ({len(group)} points): {reason}"
        for (method, dataset, reason), group in missing.groupby(["method", "dataset", "reason"])
    )
    return Section(f"Metric {name}", TEXT, Table(head, blocks, data.source("t over seeds, 95 %")), lines)


def _block(data: ReportData, dataset: str, values: pd.DataFrame) -> Block:
    rows: list[Row] = []
    for method in aggregates.by_area(data, dataset):
        mine = values[values["method"] == method].dropna(subset=["value"])
        entries = [
            _entry(mine.loc[mine["budget"] == budget, "value"].astype(float).tolist()) for budget in data.budgets
        ]
        rows.append([method_entry(method), *entries])
    return block(dataset, rows)


def _entry(values: list[float]) -> str:
    return with_interval(intervals.over_seeds(values), three_digits) if values else "–"
