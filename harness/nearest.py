"""The nearest allowed word, for messages that say what a person may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 100  # characters of a word that are compared


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word most like ``word``, or None when nothing is alike."""
    known = {name.lower(): name for name in allowed}
    matches = get_close_matches(word.lower()[:LONGEST], list(known), n=1, cutoff=0.5)
    return known[matches[0]] if matches else None


def choices(word: str, allowed: Iterable[str]) -> str:
    """``allowed: a, b, c; nearest: b``: the tail of every message about an unknown word."""
    names = list(allowed)
    near = nearest(word, names)
    return f"allowed: {', '.join(names) or 'none'}" + (f"; nearest: {near}" if near else "")
