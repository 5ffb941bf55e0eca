"""The engine: the cells of a plan that are not in the store yet, several processes at once, each failure a record."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.execution import job
from harness.execution.due import NEEDS, answers, missing, waiting, with_users
from harness.execution.job import Folders, Job
from harness.execution.local import COMMAND, Local, Means
from harness.execution.places import Place, Running, Watcher
from harness.plan import Cell
from harness.processes.lifeline import unhurried
from harness.results import record
from harness.results.leases import Lease, LeaseLost, Leases
from harness.results.record import USABLE, Record, Status
from harness.results.store import Outcome, Store, StoreError
from harness.suite import Suite

__all__ = ["Place", "Running", "Settings", "Summary", "Watcher", "default_workers", "missing", "run"]

GRACE = 3.0  # seconds between asking children to end and ending them
PAUSE = 0.05  # seconds between two looks at what runs
POLL = 0.5  # seconds between two looks at a cell that another run is at
RESUMED = frozenset({"killed", "timeout"})  # ended from outside: the next start finds its checkpoints
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Settings:
    """``runs``: the folder of jobs, logs and checkpoints of this suite. ``command`` runs one cell.

    ``entry``: the module whose ``main`` does what ``command`` does; if named, a nursery may run cells in its place.
    Left out, it is known for the default command alone. ``memory_gib``: of one cell; None: what the machine has, a
    tenth less. ``only_missing``: leave what was killed or skipped. ``max_hours``: then stop as if interrupted once.
    """

    runs: Path
    workers: int
    command: Sequence[str] = COMMAND
    retry_failed: bool = False
    force: bool = False
    commit: str | None = None
    entry: str | None = None
    warn: Callable[[str], None] = warnings.warn
    only_missing: bool = False
    max_hours: float | None = None
    memory_gib: float | None = None
    disk_gib: float = 50.0

    @property
    def means(self) -> Means:
        return Means(self.runs, self.workers, self.command, self.entry, self.memory_gib, self.disk_gib, self.warn)


@dataclass
class Summary:
    """``records``: of all cells asked for that are there now; ``ran``: ids of cells whose process was started;
    ``elsewhere``: of those that another run on the same store did meanwhile.
    """

    records: dict[str, Record]
    ran: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)  # cell -> why its record could not be kept
    interrupted: bool = False
    elsewhere: list[str] = field(default_factory=list)
    out_of_time: bool = False


def default_workers(threads: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def run(
    suite: Suite,
    cells: Sequence[Cell],
    store: Store,
    settings: Settings,
    watcher: Watcher,
    place: Place | None = None,
) -> Summary:
    """Run what is missing of ``cells``, which must hold the needs of each, at ``place``: on this machine, if None.

    Interrupted once, it ends what runs, keeps every whole cell and returns; the same call again does the rest. Several
    runs may work on one store: a cell that another one is at is left to it and taken over only if that one is gone.
    With ``force`` a cell runs once in all runs that saw it in the same state; a run that starts later does it again.
    """
    with store.leases() as leases:
        at_work = _Run(suite, cells, store, settings, watcher, leases)
        at_work.place = place or Local(suite, at_work.todo.values(), settings.means)
        try:
            at_work.loop()
        except KeyboardInterrupt:
            at_work.summary.interrupted = True
        finally:
            try:
                at_work.stop()
            finally:
                if place is None:
                    at_work.place.close()
        return at_work.summary


@dataclass
class _Started:
    """A cell at work, and by which right."""

    running: Running
    lease: Lease
    attempt: int


class _Run:
    """The state of one call of :func:`run`."""

    place: Place

    def __init__(
        self, suite: Suite, cells: Sequence[Cell], store: Store, settings: Settings, watcher: Watcher, leases: Leases
    ) -> None:
        self.suite, self.store, self.settings, self.watcher, self.leases = suite, store, settings, watcher, leases
        self.cells = {cell.id: cell for cell in cells}
        self.summary = Summary(store.records(self.cells))
        self.before = dict(self.summary.records)
        todo = missing(cells, self.before, settings)
        self.fresh = {cell.id for cell in todo}  # to be run whatever is there
        self.todo = with_users(cells, self.fresh)
        self.urgency = waiting(self.todo.values())
        self.left_alone: dict[str, float] = {}  # cells that another run is at -> when to look again
        self.started: list[_Started] = []
        self.until = math.inf if settings.max_hours is None else time.monotonic() + 3600 * settings.max_hours
        watcher.begin(todo, len(cells) - len(todo))

    def loop(self) -> None:
        while self.todo or self.started:
            if time.monotonic() >= self.until:
                self.summary.out_of_time = True
                return
            self._start()
            self._watch()
            if self.started or self.todo:
                time.sleep(PAUSE)

    def stop(self) -> None:
        """End what still runs: asked first, then killed; a second interrupt kills at once."""
        for one in self.started:
            one.running.kill(signal.SIGTERM)
        until = time.monotonic() + GRACE
        try:
            while time.monotonic() < until and any(not one.running.ended() for one in self.started):
                time.sleep(PAUSE)
        finally:
            for one in self.started:
                one.running.kill()
            for one in self.started:
                outcome, *_ = one.running.verdict()
                if outcome is not None:  # it was done before it was asked to end
                    self._keep(one, outcome)
            self.started = []

    def _start(self) -> None:
        busy = set(self.todo) | {one.running.cell.id for one in self.started}
        ready = [cell for cell in self.todo.values() if not busy.intersection(cell.needs)]
        for cell in sorted(ready, key=lambda cell: -self.urgency[cell.id]):  # stable: else in the order of the plan
            if len(self.started) >= self.place.slots:
                return
            if time.monotonic() >= self.left_alone.get(cell.id, 0.0):
                self._consider(cell)

    def _consider(self, cell: Cell) -> None:
        """Take the cell on, unless what is there still answers it or another run is at it."""
        given = {self.cells[need].method: self._choices(need) for need in cell.needs}
        broken = [need for need in cell.needs if not self._usable(need)]
        if not broken and cell.id not in self.fresh and self.before[cell.id].given == given:
            del self.todo[cell.id]
            return
        try:
            lease = self.leases.take(cell.id)
        except StoreError as error:  # a full disk: what runs may make room, this cell is told as lost
            del self.todo[cell.id]
            self._lose(cell, str(error), 0.0)
            return
        if lease is None:
            self.left_alone[cell.id] = time.monotonic() + POLL
            return
        self.left_alone.pop(cell.id, None)
        del self.todo[cell.id]
        answer = self.store.record(cell.id)
        if answer is not None and answer != self.before.get(cell.id) and answers(answer, given, broken):
            lease.release()
            self._take_over(cell, answer)
        elif broken:
            self._skip(cell, broken, lease)
        else:
            self._spawn(cell, given, lease)

    def _take_over(self, cell: Cell, answer: Record) -> None:
        self.summary.records[cell.id] = answer
        self.summary.elsewhere.append(cell.id)
        self.watcher.finish(cell, answer.status, 0.0, answer.reason or "by another run")

    def _usable(self, need: str) -> bool:
        kept = self.summary.records.get(need)
        return kept is not None and kept.status in USABLE

    def _choices(self, need: str) -> dict[str, str]:
        kept = self.summary.records.get(need)
        return kept.choices() if kept is not None else {}

    def _spawn(self, cell: Cell, given: Mapping[str, Mapping[str, str]], lease: Lease) -> None:
        task = Job(
            cell=cell,
            suite=_placed(self.suite, Path.cwd()),
            given=given,
            commit=self.settings.commit,
            attempt=self._attempt(cell, given),
            workers=self.place.slots,
        )
        try:
            running = self.place.start(cell, task)
        except OSError as error:  # a full disk: no job file, no log, no pipe
            reason = f"disk: {error.strerror}" if error.errno in FULL else f"could not be started: {error.strerror}"
            outcome = Outcome(self._failure(cell, "failed", reason, record.now()))
            self._write(cell, outcome, lease, 0.0)
            return
        self.started.append(_Started(running, lease, task.attempt))
        self.summary.ran.append(cell.id)
        self.watcher.start(cell)

    def _attempt(self, cell: Cell, given: Mapping[str, Mapping[str, str]]) -> int:
        """Which start of the cell this is: the first, unless the one before was ended from outside and its checkpoints
        are of the same work.
        """
        kept = self.before.get(cell.id)
        try:
            earlier = job.read(Folders(self.settings.runs / cell.id).job)
        except job.JobError:
            return 1
        goes_on = kept is None or kept.status in RESUMED
        return earlier.attempt + 1 if goes_on and earlier.given == given and earlier.cell.id == cell.id else 1

    def _watch(self) -> None:
        for one in list(self.started):
            if step := one.running.step():
                self.watcher.step(one.running.cell, step)
            if one.running.ended():
                with unhurried():
                    self.started.remove(one)
                    self._settle(one)
        self.watcher.tick()

    def _settle(self, one: _Started) -> None:
        outcome, status, reason, log = one.running.verdict()
        if outcome is None:
            began = datetime.fromtimestamp(time.time() - one.running.seconds, UTC)
            outcome = Outcome(self._failure(one.running.cell, status, reason, began))
        if outcome.record.status not in USABLE:
            outcome = Outcome(outcome.record, outcome.bitmaps, log)
        self._keep(one, outcome)

    def _skip(self, cell: Cell, broken: Sequence[str], lease: Lease) -> None:
        names = ", ".join(f"{self.cells[need].title} ({self._state(need)})" for need in broken)
        reason = f"{NEEDS}{names}"
        before = self.summary.records.get(cell.id)
        if before is not None and before.status == "skipped" and before.reason == reason:
            lease.release()
            self.watcher.finish(cell, "skipped", 0.0, reason)
        else:
            self._write(cell, Outcome(self._failure(cell, "skipped", reason, record.now())), lease, 0.0)

    def _state(self, need: str) -> str:
        kept = self.summary.records.get(need)
        return kept.status if kept is not None else "missing"

    def _failure(self, cell: Cell, status: Status, reason: str, began: datetime) -> Record:
        about = record.environment(
            self.suite.threads, self.settings.commit, workers=self.place.slots, processes=self.suite.processes
        )
        return record.failure(cell, status, reason, began=began, environment=about)

    def _keep(self, one: _Started, outcome: Outcome) -> None:
        peaks = [peak for peak in (outcome.record.peak_mib, one.running.peak_mib) if peak is not None]
        seen = {
            "attempts": max(outcome.record.attempts, one.attempt),  # a cluster counts losses too
            "peak_mib": round(max(peaks), 1) if peaks else None,
            "disk_mib": None if one.running.disk_mib is None else round(one.running.disk_mib, 3),
        }
        kept = Outcome(outcome.record.model_copy(update=seen), outcome.bitmaps, outcome.log)
        self._write(one.running.cell, kept, one.lease, one.running.seconds)

    def _write(self, cell: Cell, outcome: Outcome, lease: Lease, seconds: float) -> None:
        status = outcome.record.status
        try:
            self.store.write(outcome, lease)
        except LeaseLost as error:
            self.settings.warn(f"{cell.title}: {error}")
            self.todo[cell.id] = cell  # what the other run makes of it is waited for
            self.left_alone[cell.id] = 0.0
            return
        except StoreError as error:
            lease.release()
            self._lose(cell, str(error), seconds)
            return
        self.summary.records[cell.id] = outcome.record
        if status in USABLE:
            shutil.rmtree(self.settings.runs / cell.id, ignore_errors=True)
        lease.release()
        self.watcher.finish(cell, status, seconds, outcome.record.reason)

    def _lose(self, cell: Cell, reason: str, seconds: float) -> None:
        self.summary.lost[cell.id] = reason
        self.summary.records.pop(cell.id, None)
        self.watcher.finish(cell, "failed", seconds, reason)


def _placed(suite: Suite, cwd: Path) -> Suite:
    """The suite with the paths of its data sets made absolute: a cell works in a scratch folder of its own."""
    datasets = tuple(
        entry if entry.path is None else entry.model_copy(update={"path": str(cwd / Path(entry.path).expanduser())})
        for entry in suite.datasets
    )
    return suite.model_copy(update={"datasets": datasets})
