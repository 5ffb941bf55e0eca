"""The way back from the page's numbers: what failed and its command, the suite's setup, provenance, cells."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.reports.document.blocks import Table, prose
from harness.reports.document.formatting import share, text
from harness.results.record import Record
from harness.statistics import frames
from harness.suite import Suite

FINE = ("ok", "unreachable", "suspicious")


def command(suite: str, method: str, dataset: str, seed: object) -> str:
    words = (
        "eavit-bench",
        "run",
        f"suites/{suite}.toml",
        "--method",
        method,
        "--dataset",
        dataset,
        "--seed",
        str(seed),
    )
    return shlex.join(words)


def failures(points: pd.DataFrame, suite: Suite, planned: Iterable[tuple[str, str, int]]) -> Table | None:
    """Every cell that has no number somewhere, with its command; cells without any point are missing."""
    there = set(zip(points["method"], points["dataset"], points["seed"], strict=True))
    bad = points[~points["status"].isin(FINE)]
    rows: list[tuple[str, ...]] = []

    def add(key: Sequence[Any], status: str, reason: str) -> None:
        method, dataset, seed = str(key[0]), str(key[1]), str(key[2])
        rows.append((method, dataset, seed, status, reason, command(suite.name, method, dataset, seed)))

    for key, group in bad.groupby(frames.CELL, sort=False):
        for (status, reason), same in group.groupby(["status", group["reason"].fillna("")], sort=False):
            budgets = ", ".join(share(b) for b in same["budget"])
            add(tuple(key), f"{status} at {budgets}", text(reason) or "–")
    for key in planned:
        if key not in there:
            add(key, "missing", "no record")
    head = ("method", "data set", "seed", "status", "reason", "command")
    return prose("Cells without a result", head, rows, code=(5,)) if rows else None


def unreachable(points: pd.DataFrame) -> list[str]:
    here = points[points["status"] == "unreachable"]
    told = []
    for (method, dataset), group in here.groupby(["method", "dataset"], sort=False):
        budgets = ", ".join(share(b) for b in sorted(group["budget"].unique()))
        told.append(f"{method} on {dataset} at {budgets}")
    return told


def setup(suite: Suite) -> list[Table]:
    rows = [("backbone", suite.backbone.use, _json(suite.backbone.options))]
    for method in suite.methods:
        after = f"; after {', '.join(method.after)}" if method.after else ""
        rows.append((method.name, method.use, _json(method.options) + after))
    schedule = [(key, str(value)) for key, value in suite.schedule.model_dump().items()]
    size = f"{suite.input.size} × {suite.input.size}, {suite.input.channels} channels"
    common = [("regime", suite.regime.replace("_", " ")), ("images", size), *schedule, ("threads", str(suite.threads))]
    return [
        prose("Methods and backbone", ("name", "code", "options"), rows, code=(1, 2)),
        prose("Schedule, the same for all methods", ("key", "value"), common),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else "–"


def provenance(records: Sequence[Record]) -> list[Table]:
    """Commits, code, data and machines, each with the number of its cells."""
    where: Counter[tuple[str, str]] = Counter()
    code: Counter[tuple[str, str, str]] = Counter()
    data: Counter[tuple[str, str, str, str]] = Counter()
    for record in records:
        where.update((key, str(value)) for key, value in record.environment.items() if value is not None)
        digests, method = record.identity.get("code"), record.identity.get("method")
        if isinstance(digests, Mapping):
            use = method.get("use") if isinstance(method, Mapping) else None
            named = {"method": str(use or record.method), "backbone": "backbone"}
            code.update((named.get(str(part), str(part)), str(part), str(digest)) for part, digest in digests.items())
        sizes, labels = record.data.get("sizes"), record.data.get("classes")
        shown = ", ".join(f"{k} {v}" for k, v in sizes.items()) if isinstance(sizes, Mapping) else "–"
        count = str(len(labels)) if isinstance(labels, list) else "–"
        data[record.dataset, str(record.data.get("fingerprint") or "–"), shown, count] += 1
    tables = [prose("Versions and machines", ("what", "value", "cells"), _counted(where), code=(1,))]
    if code:
        tables.append(prose("Digests of the code", ("code", "part", "digest", "cells"), _counted(code), code=(0, 2)))
    head = ("data set", "fingerprint", "images", "classes", "cells")
    return [*tables, prose("Data", head, _counted(data), code=(1,))]


def _counted(found: Mapping[Any, int]) -> list[tuple[str, ...]]:
    return [(*key, str(count)) for key, count in sorted(found.items())]


def cells(points: pd.DataFrame) -> Table:
    rows = []
    for (method, dataset), group in points.groupby(["method", "dataset"], sort=False):
        seeds = group.drop_duplicates("seed").sort_values("seed")
        ids = ", ".join(f"{seed}: {text(cell) or '–'}" for seed, cell in zip(seeds["seed"], seeds["cell"], strict=True))
        rows.append((str(method), str(dataset), ids))
    return prose("Cells, by seed", ("method", "data set", "seed: cell"), rows, code=(2,))
