"""Provenance of the page's numbers: the suite's setup, and commits, code, data and machines of its cells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.document.blocks import Table, text_table
from harness.results.record import Record
from harness.suite import Suite


def setup(suite: Suite) -> list[Table]:
    rows = [("backbone", suite.backbone.use, _json(suite.backbone.options))]
    for method in suite.methods:
        after = f"; after {', '.join(method.after)}" if method.after else ""
        rows.append((method.name, method.use, _json(method.options) + after))
    schedule = [(key, str(value)) for key, value in suite.schedule.model_dump().items()]
    size = f"{suite.input.size} × {suite.input.size}, {suite.input.channels} channels"
    common = [("regime", suite.regime.replace("_", " ")), ("images", size), *schedule, ("threads", str(suite.threads))]
    return [
        text_table("Methods and backbone", ("name", "code", "options"), rows, code=(1, 2)),
        text_table("Schedule, the same for all methods", ("key", "value"), common),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else "–"


def provenance(records: Sequence[Record]) -> list[Table]:
    """Commits, code, data and machines, each with the number of its cells."""
    where: Counter[tuple[str, str]] = Counter()
    code: Counter[tuple[str, str, str]] = Counter()
    data: Counter[tuple[str, str, str, str]] = Counter()
    for record in records:
        where.update((key, str(value)) for key, value in record.environment.items() if isinstance(value, str | int))
        digests, method = record.identity.get("code"), record.identity.get("method")
        if isinstance(digests, Mapping):
            use = method.get("use") if isinstance(method, Mapping) else None
            named = {"method": str(use or record.method), "backbone": "backbone"}
            code.update((named.get(str(part), str(part)), str(part), str(digest)) for part, digest in digests.items())
        sizes, labels = record.data.get("sizes"), record.data.get("classes")
        shown = ", ".join(f"{k} {v}" for k, v in sizes.items()) if isinstance(sizes, Mapping) else "–"
        count = str(len(labels)) if isinstance(labels, list) else "–"
        data[record.dataset, str(record.data.get("fingerprint") or "–"), shown, count] += 1
    tables = [text_table("Versions and machines", ("what", "value", "cells"), _counted(where), code=(1,))]
    if code:
        tables.append(
            text_table("Digests of the code", ("code", "part", "digest", "cells"), _counted(code), code=(0, 2))
        )
    head = ("data set", "fingerprint", "images", "classes", "cells")
    return [*tables, text_table("Data", head, _counted(data), code=(1,))] if records else []


def _counted(counts: Mapping[Any, int]) -> list[tuple[str, ...]]:
    return [(*key, str(count)) for key, count in sorted(counts.items())]
