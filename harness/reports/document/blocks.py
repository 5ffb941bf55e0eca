"""A report as values: sections of text and tables, the same for every form it is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Group = Literal["", "numbers", "comparison", "cost", "checks", "cells", "cards", "reported"]
Look = Literal["plain", "code", "best", "tie", "apart"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A cell of a table. ``best``: shown to be better than all others there; ``tie``: best, or not different from it;
    ``apart``: an interval that leaves out 0.
    """

    text: str
    look: Look = "plain"


Row = list[Entry | str]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows under a heading of their own; "": under none."""

    heading: str
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The first ``left`` columns are flush left. ``note``: what it counts and how to get from it to its cells."""

    head: tuple[str, ...]
    blocks: tuple[Block, ...]
    note: str = ""
    left: int = 1
    caption: str = ""

    @property
    def rows(self) -> tuple[tuple[Entry, ...], ...]:
        return tuple(row for block in self.blocks for row in block.rows)


@dataclass(frozen=True, slots=True)
class Section:
    """``points``: a list below the table. ``group``: where the section stands on the page."""

    title: str
    text: str = ""
    table: Table | None = None
    points: tuple[str, ...] = ()
    group: Group = ""


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    points: tuple[str, ...]
    sections: tuple[Section, ...] = ()


def table(
    head: Sequence[str], rows: Iterable[Sequence[Entry | str]], note: str = "", left: int = 1, caption: str = ""
) -> Table:
    """Plain text becomes plain entries; columns of one name are numbered."""
    return Table(numbered_names(head), (block("", rows),), note, left, caption)


def numbered_names(names: Sequence[str]) -> tuple[str, ...]:
    """``a, a`` as ``a, a (2)``."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 or not name else f"{name} ({seen[name]})")
    return tuple(numbered)


def text_table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "", code: Sequence[int] = ()
) -> Table:
    """All columns flush left, those of ``code`` no prose."""
    looked = ([Entry(text, "code") if at in code else text for at, text in enumerate(row)] for row in rows)
    return table(head, looked, note, len(head), caption)


def block(heading: str, rows: Iterable[Sequence[Entry | str]]) -> Block:
    return Block(heading, tuple(tuple(p if isinstance(p, Entry) else Entry(p) for p in row) for row in rows))


def method_entry(method: str) -> Entry:
    return Entry(method, "code")


def joined_lines(text: str) -> str:
    return " ".join(text.split())
