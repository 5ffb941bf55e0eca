"""A table as plain texts, and how numbers are written in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

LONGEST = 600  # characters of a reason


@dataclass(frozen=True)
class Table:
    """``groups``: a heading, "" for none, and its rows, headed by the first column. ``right``: the others are numbers.

    ``code``: columns that are no prose.
    """

    caption: str
    head: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    right: bool = True
    note: str = ""
    code: tuple[int, ...] = ()


def plain(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], **settings: Any) -> Table:
    return Table(caption, tuple(head), (("", tuple(tuple(row) for row in rows)),), **settings)


def percent(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"


def giga(value: float) -> str:
    """Three digits with the SI prefix."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def plain_number(value: float) -> str:
    return f"{value:.3g}"


def percent_plain(budget: float) -> str:
    return f"{100 * budget:g}\u00a0%"


def text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)[:LONGEST]
