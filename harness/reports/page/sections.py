"""Tables that stand on the page alone: latency and parameters, cost by phase in full, diagnostics, what has no result.

Plain texts; escaping is the template's.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.reports.document.blocks import Block, Section, Table, block, text_table
from harness.reports.document.formatting import LONGEST, budget_text, shortened, si_text, three_digits, with_interval
from harness.reports.page.page_data import METRICS, Mean, Names
from harness.reports.report_data import ReportData
from harness.results.record import PhaseCost, Record
from harness.statistics import frames
from harness.suite import Suite

SHOWN: Mapping[str, Callable[[float], str]] = {
    "latency": three_digits,
    "params": si_text,
}  # the other metrics are in tables
FINE = ("ok", "unreachable", "suspicious")


def at_budgets(means: Sequence[Mean], named: Names) -> list[Section]:
    """A section each for the latency and the parameters of the choices; none where nothing is known."""
    sections = []
    for metric, show in SHOWN.items():
        values = {(m.dataset, m.method, m.budget): with_interval(m.interval, show) for m in means if m.metric == metric}
        blocks = [_block(name, values, named) for name in (None, *named.datasets)]
        note = "Mean over seeds; in brackets half the 95 % interval over seeds, n/a where seeds or spread are too few."
        shown = Table(
            ("method", *map(budget_text, named.budgets)), tuple(one for one in blocks if one is not None), note
        )
        sections += [Section(f"{METRICS[metric]}, by budget", table=shown, group="numbers")] if values else []
    return sections


def _block(dataset: str | None, values: Mapping[Any, str], named: Names) -> Block | None:
    if not any(key[0] == dataset for key in values):
        return None
    rows = [
        (method, *(values.get((dataset, method, budget), "–") for budget in named.budgets)) for method in named.methods
    ]
    return block(f"mean over {len(named.datasets)} data sets" if dataset is None else dataset, rows)


def ledger(records: Sequence[Record], methods: Sequence[str]) -> Table | None:
    """Means over the cells that have the phase."""
    blocks: list[Block] = []
    for method in methods:
        mine = [record for record in records if record.method == method and record.ledger]
        phases = dict.fromkeys(phase for record in mine for phase in record.ledger)
        rows = [_spent(phase, [r.ledger[phase] for r in mine if phase in r.ledger]) for phase in phases]
        if mine:
            total = sum(record.train_macs for record in mine) / len(mine)
            seconds = sum(record.train_seconds for record in mine) / len(mine)
            rows.append(("all phases", str(len(mine)), "", "", "", "", si_text(total), f"{seconds:.1f}"))
            blocks.append(block(method, rows))
    head = ("phase", "cells", "images", "steps", "forward MACs", "backward MACs", "MACs", "seconds")
    note = "Mean of a cell, which trains for all its budgets together. Seconds are those of the machine that ran it."
    return Table(head, tuple(blocks), note, caption="Cost of adaptation by phase") if blocks else None


def _spent(phase: str, spent: Sequence[PhaseCost]) -> tuple[str, ...]:
    def mean(key: str) -> float:
        return float(sum(getattr(one, key) for one in spent) / len(spent))

    forward, backward = mean("forward_macs"), mean("backward_macs")
    work = map(si_text, (forward, backward, forward + backward))
    return (phase, str(len(spent)), f"{mean('images'):,.0f}", f"{mean('steps'):,.0f}", *work, f"{mean('seconds'):.1f}")


# --- diagnostics --------------------------------------------------------------------------------------------------


def diagnostics(records: Sequence[Record], methods: Sequence[str]) -> Table | None:
    """Section of what methods report about themselves: means of numbers, sizes of lists, texts."""
    blocks: list[Block] = []
    for method in methods:
        by_key: dict[str, list[Any]] = defaultdict(list)
        for record in records:
            if record.method == method:
                for key, value in _flat(record.diagnostics):
                    by_key[key].append(value)
        rows = tuple((key, str(len(values)), _summed_up(values)) for key, values in sorted(by_key.items())[:60])
        if rows:
            blocks.append(block(method, rows))
    head = ("what", "cells", "mean (range), or values")
    return Table(head, tuple(blocks), left=len(head), caption="Diagnostics") if blocks else None


def _flat(value: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{before}{key} ")
        else:
            yield f"{before}{key}", inner


def _summed_up(values: Sequence[Any]) -> str:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        middle = f"{sum(numbers) / len(numbers):.4g}"
        return middle if low == high else f"{middle} ({low:.4g} to {high:.4g})"
    if all(isinstance(value, list) for value in values):
        sizes = sorted({len(value) for value in values})
        return f"{sizes[0]} to {sizes[-1]} entries" if len(sizes) > 1 else f"{sizes[0]} entries"
    return "; ".join(sorted({str(value)[:LONGEST] for value in values})[:5])


# --- failures -----------------------------------------------------------------------------------------------------


def failures(data: ReportData, suite: Suite) -> Table | None:
    """Every cell that has no number somewhere, with its command; cells without any point are missing."""
    points = data.points
    rows: list[tuple[str, ...]] = []
    bad = points[~points["status"].isin(FINE)].sort_values([*frames.CELL, "budget"])
    for key, group in bad.groupby(frames.CELL):
        for (status, reason), same in group.groupby(["status", group["reason"].fillna("")], sort=False):
            budgets = ", ".join(budget_text(b) for b in same["budget"])
            rows.append(_failure(suite, key, f"{status} at {budgets}", shortened(reason) or "–"))
    there = set(zip(*(points[key] for key in frames.CELL), strict=True))
    rows += [_failure(suite, key, "missing", "no record") for key in sorted(data.planned - there)]
    head = ("method", "data set", "seed", "status", "reason", "command")
    return text_table("Cells without a result", head, rows, code=(5,)) if rows else None


def _failure(suite: Suite, key: Any, status: str, reason: str) -> tuple[str, ...]:
    method, dataset, seed = map(str, key)
    return method, dataset, seed, status, reason, rerun(suite.name, method, dataset, seed)


def rerun(suite: str, method: str, dataset: str, seed: str) -> str:
    """The command that runs one cell, to be pasted into a shell."""
    names = ("--method", method, "--dataset", dataset, "--seed", seed)
    return shlex.join(("eavit-bench", "run", suite, *names))
