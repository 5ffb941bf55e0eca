"""TOML files as plain values. A file may be hostile: every fault is one message with its place."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LARGEST = 4 * 2**20  # bytes of a file
DEEPEST = 20  # tables and arrays inside each other
INTEGERS = range(-(2**63), 2**63)  # what TOML promises to keep
SHOWN = 80  # characters of a value in a message


class TomlError(ValueError):
    """A file that cannot be read as TOML: what is wrong, after file and line."""


def read(file: Path) -> dict[str, Any]:
    """The values of a UTF-8 file, with or without a byte order mark. OSError where the file cannot be opened."""
    with file.open("rb") as opened:
        raw = opened.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise TomlError(f"{file}: larger than {LARGEST} bytes")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise TomlError(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, at, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        number = int(line.group(1)) if at and line else text.count("\n") + 1
        raise TomlError(f"{file}:{number}: not TOML: {message}") from None
    except RecursionError:
        raise TomlError(f"{file}:{_line(text, RecursionError)}: nested too deeply") from None
    except ValueError:
        raise TomlError(f"{file}:{_line(text, ValueError)}: an integer of too many digits") from None


def _line(text: str, kind: type[Exception]) -> int:
    """The line in which the shortest beginning of ``text`` ends that cannot be read for a fault of this kind."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        try:
            tomllib.loads(text[:middle])
            fails = False
        except (RecursionError, ValueError) as error:
            fails = isinstance(error, kind) and not isinstance(error, tomllib.TOMLDecodeError)
        low, high = (low, middle) if fails else (middle + 1, high)
    return text.count("\n", 0, low) + 1


def unsupported_values(raw: object, at: tuple[int | str, ...] = ()) -> Iterator[str]:
    """``key path: message`` for values that TOML can write and records cannot keep."""
    place = key_path(at)
    if len(at) > DEEPEST:
        yield f"{place}: nested more than {DEEPEST} levels deep"
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from unsupported_values(value, (*at, key))
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from unsupported_values(value, (*at, index))
    elif isinstance(raw, float) and not math.isfinite(raw):
        yield f"{place}: {raw}: only finite numbers are allowed"
    elif isinstance(raw, int) and raw not in INTEGERS:
        yield f"{place}: {shown(raw)}: only integers of 64 bits are allowed"
    elif raw is not None and not isinstance(raw, str | int | float):
        yield f"{place}: {raw}: dates and times are not allowed; write a string"


def key_path(parts: tuple[int | str, ...]) -> str:
    """``("methods", 1, "use")`` as ``methods[1].use``."""
    names = (str(part) if re.fullmatch(r"[\w-]{1,80}", str(part)) else shown(part) for part in parts)
    text = "".join(
        f"[{name}]" if isinstance(part, int) else f".{name}" for part, name in zip(parts, names, strict=True)
    )
    return text.removeprefix(".") or "the file"


def shown(value: object) -> str:
    """A value as messages show it: on one line, without control characters, cut if it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
