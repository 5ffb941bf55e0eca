"""Values of the metrics that a suite names: taken of the outputs that cells keep, and kept in ``metrics.csv``.

A value is taken once: as long as the metric's code and options are the same, a later report reads it from the file, so
that a committed folder without cells shows it too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness import code_digest
from harness.data.locations import PROJECT
from harness.jobs.call import CallError, call_each
from harness.messages import one_line
from harness.plan import by_content, canonical_digest
from harness.results.cell_files import OUTPUTS, StoreError
from harness.statistics.frames import MEASURED
from harness.suite import MetricSpec

NAME = "metrics.csv"
COLUMNS = ("suite", "method", "dataset", "seed", "budget", "metric", "value", "reason", "cell", "code")
ENTRY = "harness.metrics:measure_cells"
DEADLINE = 3600.0  # seconds for one metric on all cells
NOT_KEPT = "the cell keeps no outputs here"
LONGEST = 300  # characters of a reason

Answer = Mapping[str, Any]  # ``value`` or ``reason``


def gather_values(folder: Path, metrics: Sequence[MetricSpec], points: pd.DataFrame) -> pd.DataFrame:
    """One row for each metric and measured point, in the order of both. Metrics are called in a process apart."""
    measured = list(_points(points[points["status"].isin(MEASURED)]))
    codes = {spec.name: metric_code(spec) for spec in metrics}
    kept = _kept(folder / NAME) if metrics else {}

    def known(spec: MetricSpec, cell: str, budget: float) -> Answer | None:
        return kept.get((spec.name, codes[spec.name], cell, budget))

    wanted = [{cell for point, cell in measured if known(spec, cell, point[-1]) is None} for spec in metrics]
    rows = []
    for spec, taken in zip(metrics, _taken(folder, metrics, wanted), strict=True):
        for point, cell in measured:
            answer = known(spec, cell, point[-1]) or _answer(taken, cell, point[-1])
            rows.append((*point, spec.name, answer.get("value"), answer.get("reason"), cell, codes[spec.name]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def metric_code(spec: MetricSpec) -> str:
    """Digest of a metric's name in code, options and source: values with another one are of another metric."""
    return canonical_digest([spec.use, by_content(spec.options), code_digest.digest(spec.use)])[:16]


def values_csv(values: pd.DataFrame) -> str:
    """The table as text, the same for the same values."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([None if pd.isna(value) else value for value in row] for row in values.itertuples(index=False))
    return out.getvalue()


def _points(measured: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], str]]:
    columns = (measured[name].tolist() for name in ("suite", "method", "dataset", "seed", "budget", "cell"))
    for suite, method, dataset, seed, budget, cell in zip(*columns, strict=True):
        yield (suite, method, dataset, int(seed), float(budget)), cell


def _kept(path: Path) -> dict[tuple[str, str, str, float], Answer]:
    """Values by metric, code, cell and budget; StoreError for a file that holds none."""
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path, dtype={"metric": str, "code": str, "cell": str}).dropna(subset=["value"])
        columns = (table[name].tolist() for name in ("metric", "code", "cell", "budget", "value"))
        return {(m, code, cell, float(b)): {"value": float(v)} for m, code, cell, b, v in zip(*columns, strict=True)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: no table of metrics: {error}; delete it, `eavit-bench report` writes it") from None


def _taken(
    folder: Path, metrics: Sequence[MetricSpec], wanted: Sequence[Iterable[str]]
) -> list[Mapping[str, Mapping[str, Answer]] | str]:
    """Answers of each metric by cell and budget, or why there are none."""
    payloads = []
    for spec, cells in zip(metrics, wanted, strict=True):
        folders = {cell: folder / "cells" / cell for cell in sorted(cells)}
        there = {cell: str(path.absolute()) for cell, path in folders.items() if (path / OUTPUTS).is_file()}
        payloads.append({"use": spec.use, "options": spec.options, "cells": there})
    asked = [payload for payload in payloads if payload["cells"]]
    given = iter(call_each(ENTRY, asked, DEADLINE, PROJECT) if asked else [])
    answers = [next(given) if payload["cells"] else {} for payload in payloads]
    return [str(answer) if isinstance(answer, CallError) else answer for answer in answers]


def _answer(taken: Mapping[str, Mapping[str, Answer]] | str, cell: str, budget: float) -> Answer:
    if isinstance(taken, str):
        return {"reason": one_line(taken, LONGEST)}
    answer = taken.get(cell, {}).get(repr(budget), {"reason": NOT_KEPT})
    return answer if "value" in answer else {"reason": one_line(answer["reason"], LONGEST)}
