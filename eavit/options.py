"""Checks of a method's options. Every message names the option, its value, what is allowed, and the nearest match."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

Table = TypeVar("Table")


def nearest_hint(value: str, known: Collection[str]) -> str:
    """The end of an error message: what was probably meant, or nothing."""
    near = get_close_matches(value, list(known), 1)
    return f"; nearest: {near[0]}" if near else ""


def allowed(option: str, value: str, known: Collection[str]) -> str:
    """The value, if it is one of ``known``."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"option {option}={value!r} is unknown; allowed: {', '.join(known)}{nearest_hint(str(value), known)}"
        )
    return value


def number(option: str, value: Any, interval: str) -> float:
    """The value, if it is a number in ``interval``.

    >>> number("warm", 0.5, "[0, 1)")
    0.5
    >>> number("warm", 1.0, "[0, 1)")
    Traceback (most recent call last):
    ValueError: option warm=1.0: must be a number in [0, 1)
    """
    low, high = map(float, interval[1:-1].split(","))
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    above = right and (low < value or (low == value and interval[0] == "["))
    if not (above and (value < high or (value == high and interval[-1] == "]"))):
        raise ValueError(f"option {option}={value!r}: must be a number in {interval}")
    return float(value)


def whole(option: str, value: Any, least: int) -> int:
    """The value, if it is a whole number from ``least`` up."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"option {option}={value!r}: must be a whole number from {least} up")
    return value


def switch(option: str, value: Any) -> bool:
    """The value, if it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"option {option}={value!r}: must be true or false")
    return value


def options_table(kind: type[Table], name: str, given: Mapping[str, Any] | Table) -> Table:
    """A table of options, as a suite writes it, as a value of the dataclass ``kind``, whose fields are its keys."""
    if isinstance(given, kind):
        return given
    return kind(**keyed(name, given, [field.name for field in fields(kind)]))  # type: ignore[arg-type]  # a dataclass


def keyed(name: str, given: Any, keys: Collection[str]) -> Mapping[str, Any]:
    """A table of options, if it has no other ``keys``."""
    if not isinstance(given, Mapping):
        raise ValueError(f"option {name}={given!r}: must be a table with any of {', '.join(keys)}")
    for key in given:
        if key not in keys:
            raise ValueError(f"option {name}.{key} is unknown; allowed: {', '.join(keys)}{nearest_hint(key, keys)}")
    return given


def refuse(others: Mapping[str, Any], known: Collection[str], renamed: Mapping[str, str]) -> None:
    """Raise ValueError on any other option; ``renamed``: earlier names of options, each with the name now."""
    for option, value in others.items():
        if option in renamed:
            raise ValueError(f"option {option}={value!r}: is written {renamed[option]} now")
        raise ValueError(f"option {option} is unknown; allowed: {', '.join(known)}{nearest_hint(option, known)}")
