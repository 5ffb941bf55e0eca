"""Where cells run and who is told, as far as the engine knows: three protocols."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Protocol

from harness.execution.children import Step, Verdict
from harness.execution.job import Job
from harness.plan import Cell
from harness.results.record import Status


class Watcher(Protocol):
    """Who is told how a run goes."""

    def begin(self, todo: Sequence[Cell], kept: int) -> None: ...
    def start(self, cell: Cell) -> None: ...
    def step(self, cell: Cell, step: Step) -> None: ...
    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None: ...
    def tick(self) -> None: ...


class Running(Protocol):
    """A cell that was started. ``peak_mib`` and ``disk_mib``: the most its processes and its folder took so far."""

    @property
    def cell(self) -> Cell: ...
    @property
    def seconds(self) -> float: ...
    @property
    def peak_mib(self) -> float | None: ...
    @property
    def disk_mib(self) -> float | None: ...
    def ended(self) -> bool: ...
    def step(self) -> Step | None: ...
    def kill(self, number: signal.Signals = signal.SIGKILL) -> None: ...
    def verdict(self) -> Verdict:
        """After the end, or to make it so: waits until nothing of the cell runs any more."""


class Place(Protocol):
    """Where cells run: this machine, or a cluster."""

    @property
    def slots(self) -> int:
        """How many cells may run at once just now; a cluster's may change."""

    def start(self, cell: Cell, job: Job) -> Running:
        """``job.attempt == 1`` starts from nothing: checkpoints of an earlier life of the cell are removed."""

    def close(self) -> None: ...
