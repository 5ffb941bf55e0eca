"""Records of older schemas, as plain values, to the schema of today: one step a version, nothing made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Raw = dict[str, Any]


class MigrationError(ValueError):
    """A record of a schema that no step leads on from."""


def migrate_to(version: int, raw: Raw) -> Raw:
    """``raw`` as a record of schema ``version``; it is not changed itself."""
    current = raw.get("schema_version")
    while current != version:
        if not isinstance(current, int) or current not in STEPS:
            raise MigrationError(f"no way from schema {current!r} to {version}; known: {', '.join(map(str, STEPS))}")
        raw = STEPS[current](raw)
        current = raw["schema_version"]
    return raw


def _first(raw: Raw) -> Raw:
    """Schema 2 counts the attempts at a cell and says what it took of memory and disk, which schema 1 did not note."""
    return {**raw, "schema_version": 2, "attempts": 1, "peak_mib": None, "disk_mib": None}


STEPS: Mapping[int, Callable[[Raw], Raw]] = {1: _first}
