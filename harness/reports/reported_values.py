"""Reported values, kept apart from what was measured here: figures of papers, and cards of the methods."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.document.blocks import Entry, Section, table

FIELDS = {
    "title": "what it is",
    "paper": "paper",
    "code": "code",
    "elastic": "elastic",
    "step": "one step trains",
    "distillation": "distillation",
    "selection": "selection",
}


class ReportedValueError(ValueError):
    """A file of reported figures, or of cards, that is not of its form."""


def reported_sections(files: Mapping[str, str]) -> list[Section]:
    """Each file: ``# title: ...``, ``# source: ...``, then a CSV table whose first column names the row."""
    sections = []
    for place, text in sorted(files.items()):
        about = _said(place, text)
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        head, *rows = list(csv.reader(io.StringIO("\n".join(lines)))) or [[]]
        uneven = [row for row in rows if len(row) != len(head)]
        if uneven or not rows:
            raise ReportedValueError(
                f"{place}: {uneven[0] if uneven else 'no row'}: every row needs {len(head)} columns"
            )
        source = f"As reported by: {about['source']}. Not measured here: other data, backbone and schedule than above."
        sections.append(Section(f"As reported, not measured here: {about['title']}", "", table(head, rows, source)))
    return sections


def _said(place: str, text: str) -> dict[str, str]:
    marks = [line[1:].partition(":") for line in text.splitlines() if line.startswith("#")]
    about = {key.strip(): value.strip() for key, _, value in marks}
    absent = [key for key in ("title", "source") if not about.get(key)]
    if absent:
        raise ReportedValueError(f"{place}: has no line `# {absent[0]}: ...`: a reported figure needs its {absent[0]}")
    return about


def card_sections(held: Mapping[str, Mapping[str, Any]], methods: Sequence[str], source: str) -> list[Section]:
    """Cards of the methods that the report is about."""
    return [
        Section(f"Method card: {method}", "", table(["", "what its source says"], _card(held[method]), source, left=2))
        for method in sorted(methods)
        if method in held
    ]


def _card(card: Mapping[str, Any]) -> list[list[Entry | str]]:
    rows: list[list[Entry | str]] = [[label, str(card[key])] for key, label in FIELDS.items() if card.get(key)]
    parameters = card.get("parameters") or {}
    rows += [[Entry(str(key), "code"), _parameter(value)] for key, value in sorted(parameters.items())]
    for key, label in (("ours", "ours"), ("deviations", "deviation")):
        rows += [[label, str(line)] for line in card.get(key) or ()]
    return rows


def _parameter(value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) == 2:
        return f"{value[0]} ({value[1]})"
    return str(value)
