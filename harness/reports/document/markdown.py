"""A report as Markdown that is readable as plain text too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.reports.document.blocks import Entry, Page, Section, Table, joined_lines

LOOKS = {"plain": "{}", "code": "`{}`", "best": "**{}**", "tie": "{} ≈", "apart": "{} ≠"}


def to_markdown(page: Page) -> str:
    blocks = [f"# {markdown_escaped(page.title)}", _list(page.points), *map(_section, page.sections)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def markdown_escaped(text: str) -> str:
    """One line that cannot break out of its heading, list or table."""
    return joined_lines(text).replace("|", "\\|").replace("<", "&lt;")


def _section(section: Section) -> str:
    parts = [f"## {markdown_escaped(section.title)}", markdown_escaped(section.text)]
    if section.table is not None:
        note = markdown_escaped(section.table.note)
        parts += [_grid(section.table), f"<sub>{note}</sub>" if note else ""]
    return "\n\n".join(part for part in [*parts, _list(section.points)] if part)


def _list(points: Iterable[str]) -> str:
    return "\n".join(f"- {markdown_escaped(point)}" for point in points)


def _grid(shown: Table) -> str:
    rows = [[_place(entry) for entry in row] for row in shown.rows]
    head = [markdown_escaped(word) for word in shown.head]
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    rule = ["-" * width if at < shown.left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(_padded(row, widths, shown.left))} |" for row in [head, rule, *rows])


def _place(entry: Entry) -> str:
    return LOOKS[entry.look].format(markdown_escaped(entry.text))


def _padded(row: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    pairs = enumerate(zip(row, widths, strict=True))
    return [text.ljust(width) if at < left else text.rjust(width) for at, (text, width) in pairs]
