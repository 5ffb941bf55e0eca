"""Small files that are replaced as a whole, and digests of files and values."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_values(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole: a reader sees the old one or the new one."""
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise OSError(error.errno or errno.EIO, f"{path.name} could not be written: {reason}") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values as a whole, with their digest under ``sha256``."""
    write_text(path, json.dumps({**values, "sha256": digest_of_values(values)}, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Values that :func:`write_json` wrote; ValueError if they are damaged or were changed by hand."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; {kind} must have it") from None
    except ValueError as error:
        raise ValueError(f"{path}: damaged, no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: damaged: must be a JSON object, not {type(values).__name__}")
    if values.pop("sha256", None) != digest_of_values(values):
        raise ValueError(f"{path}: changed or damaged: its SHA-256 does not match; make it again")
    return values


def check_version(path: Path, values: Mapping[str, Any], kind: str, newest: int) -> None:
    """Raise ValueError on a file of another kind, or of a newer format version than this one reads."""
    if values.get("format") != kind:
        raise ValueError(f"{path}: format: {values.get('format')!r} is not {kind!r}; is it the right file?")
    version = values.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"{path}: format_version: {version!r} must be a whole number from 1 to {newest}")
    if version > newest:
        raise ValueError(
            f"{path}: format_version: {version} is newer than {newest}, the newest this eavit reads; update eavit"
        )
