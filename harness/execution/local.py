"""Cells on this machine: each a process of its own, forked from a nursery where that is possible."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.execution import children, job
from harness.execution.children import Bounds, Child
from harness.execution.job import Folders, Job
from harness.plan import Cell
from harness.processes import bounds, forked
from harness.suite import Suite

ENTRY = "harness.evaluation.execute"
COMMAND = (sys.executable, "-m", ENTRY)
OWN = "eavit"  # the package that comes with the bench: imported for all cells, whichever need it
LAUNCHER = ("torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node")
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


@dataclass(frozen=True)
class Means:
    """What cells run with. ``command`` runs one; ``entry``: the module whose ``main`` does the same, for a nursery.

    ``runs``: the folder of jobs, logs and checkpoints. ``memory_gib``: None is what the machine has, a tenth less.
    """

    runs: Path
    workers: int
    command: Sequence[str] = COMMAND
    entry: str | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None
    warn: Callable[[str], None] = warnings.warn

    @property
    def memory_mib(self) -> float | None:
        return bounds.machine_mib() if self.memory_gib is None else 1024 * self.memory_gib


class Local:
    """A place for cells of one suite. ``cells``: those that may be started, for what a nursery imports."""

    def __init__(self, suite: Suite, cells: Iterable[Cell], means: Means) -> None:
        self.suite, self.means, self.slots = suite, means, means.workers
        self._nursery = _nursery(suite, cells, means)

    def start(self, cell: Cell, task: Job) -> Child:
        """The first attempt starts from nothing; another one finds the checkpoints of those before."""
        folders = Folders((self.means.runs / cell.id).resolve())
        for folder in (folders.scratch, folders.out, *([folders.work] if task.attempt == 1 else [])):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (folders.scratch, folders.out, folders.work):
            folder.mkdir(parents=True, exist_ok=True)
        task = replace(task, memory_mib=self.means.memory_mib)  # this machine's, wherever the job comes from
        job.write(task, folders.job)
        environment = children.environment(self.suite.threads, os.environ, Path.cwd())
        processes, disk = self.suite.processes, self.means.disk_gib
        limits = Bounds(self.suite.timeout_minutes * 60, task.memory_mib, None if disk is None else 1024 * disk)
        if processes == 1:
            return children.start(cell, folders, self.means.command, environment, limits, self._nursery)
        command = several(self.means.command, processes)
        return children.start(cell, folders, command, {**environment, **LOOPBACK}, limits)

    def close(self) -> None:
        """To be called when nothing that was started here runs any more."""
        if self._nursery is not None:
            self._nursery.close()


def several(command: Sequence[str], processes: int) -> list[str]:
    """``python -m MODULE`` in that many processes that know of each other."""
    python, *rest = command
    return [python, "-m", *LAUNCHER, str(processes), *rest]


def _nursery(suite: Suite, cells: Iterable[Cell], means: Means) -> forked.Nursery | None:
    entry = means.entry or (ENTRY if tuple(means.command) == COMMAND else None)
    if entry is None or suite.processes > 1 or not forked.available():
        return None
    return forked.Nursery(entry, shared(suite, cells), means.warn)


def shared(suite: Suite, cells: Iterable[Cell]) -> list[str]:
    """The modules that may be imported before any cell.

    A stranger's module is, only if every cell imports it anyway: what its import does to torch must not depend on
    which other methods a suite names.
    """
    modules = {suite.method(cell.method).use.partition(":")[0] for cell in cells}
    methods = modules if len(modules) == 1 else {name for name in modules if name.partition(".")[0] == OWN}
    return list(dict.fromkeys([suite.backbone.use.partition(":")[0], *sorted(methods)]))
