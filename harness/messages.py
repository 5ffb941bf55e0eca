"""Words of messages: printable forms of text from strangers, and the allowed word that a person may have meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

FORMULA = ("=", "+", "-", "@")  # spreadsheets take a cell of a CSV that starts so for a formula
LONGEST = 100  # characters of a word that are compared
NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?")


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


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word most like ``word``, of numbers the nearest by value; None when nothing is alike.

    >>> nearest("hydravt", ["ofa", "hydravit"]), nearest("0.35", ["0.2", "0.4", "0.8", "all"]), nearest("x", ["0.2"])
    ('hydravit', '0.4', None)
    """
    allowed = list(allowed)
    numbers = [name for name in allowed if NUMBER.fullmatch(name)]
    if numbers and NUMBER.fullmatch(word):
        return min(numbers, key=lambda name: abs(float(name) - float(word)))
    known = {name.lower(): name for name in allowed}
    matches = get_close_matches(word.lower()[:LONGEST], list(known), n=1, cutoff=0.5)
    return known[matches[0]] if matches else None


def choices(word: str, allowed: Iterable[str]) -> str:
    """``allowed: a, b, c; nearest: b``: the tail of every message about an unknown word."""
    names = list(allowed)
    near = nearest(word, names)
    return f"allowed: {', '.join(names) or 'none'}" + (f"; nearest: {near}" if near else "")
