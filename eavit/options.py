"""Checks of a method's options, with the nearest allowed value."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def nearest(value: str, known: Collection[str]) -> str:
    """The end of an error message: what was probably meant, or nothing."""
    near = get_close_matches(value, list(known), 1)
    return f"; nearest: {near[0]}" if near else ""


def allowed(option: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        raise ValueError(f"option {option}={value!r} is unknown; allowed: {', '.join(known)}{nearest(value, known)}")
    return value
