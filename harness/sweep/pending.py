"""Pending cells: by what is kept of them, by what they need, and by what another run kept meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from harness.plan import Cell
from harness.results.record import AGAIN, USABLE, Record, Status
from harness.sweep.settings import Settings

NEEDS = "needs "  # how the reason of a cell begins that was skipped because of another one


class KeptCell(Protocol):
    """State of a cell in a store: a record, or its summary."""

    @property
    def status(self) -> Status: ...


def is_pending(kept: KeptCell | None, settings: Settings) -> bool:
    """Return whether a cell has to run, by what the store holds of it."""
    if kept is None or settings.force:
        return True
    if settings.only_missing:
        return False
    return kept.status in AGAIN or (settings.retry_failed and kept.status not in USABLE)


def missing(cells: Iterable[Cell], kept: Mapping[str, KeptCell], settings: Settings) -> list[Cell]:
    return [cell for cell in cells if is_pending(kept.get(cell.id), settings)]


def with_dependents(cells: Sequence[Cell], missing: Iterable[str]) -> dict[str, Cell]:
    """Cells to run, and those kept ones whose needs run again: if what these choose changes, they are stale."""
    pending = set(missing)
    for cell in cells:
        if pending.intersection(cell.needs):
            pending.add(cell.id)
    return {cell.id: cell for cell in cells if cell.id in pending}


def is_answered(by: Record, given: Mapping[str, Mapping[str, str]], broken: Sequence[str]) -> bool:
    """Return whether a record that another run kept meanwhile is the one that this run would have to make."""
    if by.status in USABLE:
        return not broken and by.given == given
    return bool(broken) == (by.status == "skipped" and by.reason.startswith(NEEDS))
