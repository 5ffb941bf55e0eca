"""Checks of a method's options, with the nearest allowed value."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def allowed(option: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        near = get_close_matches(value, list(known), 1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"option {option}={value!r} is unknown; allowed: {', '.join(known)}{hint}")
    return value
