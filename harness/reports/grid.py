"""A report as values: sections of text and tables, the same for every form it is written in; and Markdown of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Look = Literal["plain", "code", "best", "tie"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A place of a table. ``best``: shown to be better than all others there; ``tie``: best, or not told apart."""

    text: str
    look: Look = "plain"


Row = list[Entry | str]


@dataclass(frozen=True, slots=True)
class Table:
    """The first ``left`` columns are flush left. ``source``: what it counts and how to get from it to its cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    source: str
    left: int = 1


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    text: str = ""
    table: Table | None = None
    points: tuple[str, ...] = ()  # a list, below


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    points: tuple[str, ...]
    sections: tuple[Section, ...] = ()


def table(head: Sequence[str], rows: Iterable[Sequence[Entry | str]], source: str, left: int = 1) -> Table:
    """Plain text becomes plain entries."""
    entries = (tuple(place if isinstance(place, Entry) else Entry(place) for place in row) for row in rows)
    return Table(tuple(head), tuple(entries), source, left)


def name(method: str) -> Entry:
    return Entry(method, "code")


# --- numbers as text --------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def number(mean: float, half: float | None) -> str:
    """Of accuracies: percent, half the interval in brackets."""
    return f"{100 * mean:.1f} ({'n/a' if half is None else f'±{100 * half:.1f}'})"


def giga(macs: float) -> str:
    value = macs / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def one_line(text: str) -> str:
    return " ".join(text.split())


# --- Markdown ---------------------------------------------------------------------------------------------------

LOOKS = {"plain": "{}", "code": "`{}`", "best": "**{}**", "tie": "{} ≈"}


def markdown(page: Page) -> str:
    blocks = [f"# {escaped(page.title)}", _list(page.points), *map(_section, page.sections)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escaped(text: str) -> str:
    """One line that cannot break out of its heading, list or table."""
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")


def _section(section: Section) -> str:
    parts = [f"## {escaped(section.title)}", escaped(section.text)]
    if section.table is not None:
        source = escaped(section.table.source)
        parts += [_grid(section.table), f"<sub>{source}</sub>" if source else ""]
    return "\n\n".join(part for part in [*parts, _list(section.points)] if part)


def _list(points: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(point)}" for point in points)


def _grid(shown: Table) -> str:
    """Readable as plain text too."""
    rows = [[_place(entry) for entry in row] for row in shown.rows]
    head = [escaped(word) for word in shown.head]
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    rule = ["-" * width if at < shown.left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(_padded(row, widths, shown.left))} |" for row in [head, rule, *rows])


def _place(entry: Entry) -> str:
    return LOOKS[entry.look].format(escaped(entry.text))


def _padded(row: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    pairs = enumerate(zip(row, widths, strict=True))
    return [text.ljust(width) if at < left else text.rjust(width) for at, (text, width) in pairs]
