"""Printable forms of text from strangers: file names, choice keys, reasons. Nothing here reaches a terminal raw."""

from __future__ import annotations

from pathlib import Path

FORMULA = ("=", "+", "-", "@")  # spreadsheets take a cell of a CSV that starts so for a formula


def quoted(name: str | Path) -> str:
    r"""``name`` as it is if every character is printable, else as a Python string.

    >>> quoted("cat/1.png"), quoted("cat\x1b[2J/1.png")
    ('cat/1.png', "'cat\\x1b[2J/1.png'")
    """
    text = str(name)
    return text if text.isprintable() else repr(text)


def one_line(text: str, limit: int = 1000) -> str:
    r"""Printable text on one line: white space joined, other characters escaped, cut at ``limit`` characters.

    >>> one_line("no luck\n at \x1b[31m\ud800"), one_line("=1+1"), one_line("a" * 9, limit=4)
    ('no luck at \\x1b[31m\\ud800', "'=1+1'", 'aaa…')
    """
    line = " ".join(text[: 2 * limit].split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    line = repr(line) if line.startswith(FORMULA) else line
    return line if len(line) <= limit else line[: limit - 1] + "…"
