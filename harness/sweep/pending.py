"""Settings of a sweep, and the cells that are pending under them: by what is kept of them, what they need, and what
another run kept meanwhile.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.plan import Cell
from harness.results.record import AGAIN, USABLE, Record, Status
from harness.sweep.cell_job import ENTRY

NEEDS = "needs "  # how the reason of a cell begins that was skipped because of another one


@dataclass(frozen=True)
class Settings:
    """``runs``: the folder of jobs, logs and checkpoints of this suite. ``entry``: what runs one cell.

    ``fork``: cells are forked from a server where that is possible. ``memory_gib``: of one cell; None: what the machine
    has, a tenth less. ``unstarted``: why the cells of a method are kept as timeouts without being started.
    ``only_missing``: leave what was killed or skipped. ``max_hours``: then stop as if interrupted. ``keep``: keep the
    adapted models of the cells that run.
    """

    runs: Path
    workers: int
    entry: str = ENTRY
    fork: bool = True
    retry_failed: bool = False
    force: bool = False
    commit: str | None = None
    warn: Callable[[str], None] = warnings.warn
    only_missing: bool = False
    max_hours: float | None = None
    memory_gib: float | None = None
    disk_gib: float = 50.0
    unstarted: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False


def default_workers(threads: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


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
