"""Which cells have to run: by what is kept of them, by what they need, and by what another run put there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from harness.plan import Cell
from harness.results.record import AGAIN, USABLE, Record, Status

NEEDS = "needs "  # how the reason of a cell begins that was skipped for another one


class Asked(Protocol):
    """How a person asks for cells."""

    @property
    def force(self) -> bool: ...
    @property
    def retry_failed(self) -> bool: ...
    @property
    def only_missing(self) -> bool: ...


class Known(Protocol):
    """What a store says of a cell: a record, or its summary."""

    @property
    def status(self) -> Status: ...


def wanted(kept: Known | None, asked: Asked) -> bool:
    """Whether a cell has to run, by what the store holds of it."""
    if kept is None or asked.force:
        return True
    if asked.only_missing:
        return False
    return kept.status in AGAIN or (asked.retry_failed and kept.status not in USABLE)


def missing(cells: Iterable[Cell], kept: Mapping[str, Known], asked: Asked) -> list[Cell]:
    return [cell for cell in cells if wanted(kept.get(cell.id), asked)]


def with_users(cells: Sequence[Cell], fresh: set[str]) -> dict[str, Cell]:
    """Cells to run, and those kept ones whose needs run again: if what they were given changes, they are stale."""
    todo: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in fresh or any(need in todo for need in cell.needs):
            todo[cell.id] = cell
    return todo


def waiting(cells: Iterable[Cell]) -> dict[str, int]:
    """How many cells wait, at any distance, for each."""
    users: dict[str, set[str]] = {}
    for cell in reversed(list(cells)):
        behind = users.setdefault(cell.id, set())
        for need in cell.needs:
            users.setdefault(need, set()).update({cell.id}, behind)
    return {cell: len(behind) for cell, behind in users.items()}


def answers(answer: Record, given: Mapping[str, Mapping[str, str]], broken: Sequence[str]) -> bool:
    """Whether what another run has put there since this one looked is what this one would have to do."""
    if answer.status in USABLE:
        return not broken and answer.given == given
    return bool(broken) == (answer.status == "skipped" and answer.reason.startswith(NEEDS))
