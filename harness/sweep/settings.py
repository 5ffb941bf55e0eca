"""Settings of a sweep: which cells run, where, and how much each may take."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.sweep.cell_job import ENTRY


@dataclass(frozen=True)
class Settings:
    """``runs``: the folder of jobs, logs and checkpoints of this suite. ``entry``: what runs one cell.

    ``fork``: cells are forked from a server where that is possible. ``memory_gib``: of one cell; None: what the machine
    has, a tenth less. ``unstarted``: why the cells of a method are kept as timeouts without being started.
    ``only_missing``: leave what was killed or skipped. ``max_hours``: then stop as if interrupted.
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


def default_workers(threads: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)
