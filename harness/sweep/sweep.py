"""The sweep: the cells of a plan that are not in the store yet, several at once, each failure a record."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from harness.jobs.files import FULL
from harness.jobs.job import Ending, Job, JobFolder, JobProgress
from harness.jobs.scheduler import Executor, RunningJob, Scheduler
from harness.plan import Cell
from harness.results import kept_models, record
from harness.results.cell_files import Outcome, StoreError, unwritable
from harness.results.record import USABLE, Record, Status
from harness.results.store import Store
from harness.suite import Suite
from harness.sweep import cell_job
from harness.sweep.cell_job import CellJob, ImpossibleOutcome
from harness.sweep.executors import on_this_machine
from harness.sweep.pending import NEEDS, Settings, is_answered, missing, with_dependents

RESUMED = frozenset({"killed", "timeout"})  # ended from outside: the next start finds its checkpoints


@dataclass
class Summary:
    """``records``: of all cells asked for that are there now; ``ran``: ids of cells whose process was started;
    ``elsewhere``: of those that another run on the same store did meanwhile; ``recovered``: of those whose outcome an
    earlier run had left in its folder.
    """

    records: dict[str, Record]
    ran: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)  # cell -> why its record could not be kept
    interrupted: bool = False
    elsewhere: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    out_of_time: bool = False


class Watcher(Protocol):
    """Listener to the progress of a run."""

    def begin(self, todo: Sequence[Cell], kept: int) -> None: ...
    def start(self, cell: Cell) -> None: ...
    def step(self, cell: Cell, step: JobProgress) -> None: ...
    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None: ...
    def tick(self) -> None: ...


def run(
    suite: Suite,
    cells: Sequence[Cell],
    store: Store,
    settings: Settings,
    watcher: Watcher,
    executor: Executor | None = None,
) -> Summary:
    """Run what is missing of ``cells``, which must hold the needs of each; on this machine without an ``executor``.

    Interrupted once, it ends what runs, keeps every complete cell and returns; the same call again does the rest.
    Several runs may work on one store: a cell that another one works on is left to it, and taken over if that one is
    gone. With ``force`` a cell runs once in all runs that saw it in the same state; a run that starts later does it
    again.
    """
    sweep = _Sweep(suite, cells, store, settings, watcher)
    used = executor or on_this_machine(suite, settings)
    sweep.slots = used.slots
    needs = {cell.id: cell.needs for cell in sweep.todo.values()}
    scheduler = Scheduler(needs, used, store.locks, sweep)
    until = math.inf if settings.max_hours is None else time.monotonic() + 3600 * settings.max_hours
    try:
        sweep.summary.out_of_time = not scheduler.run(until)
    except KeyboardInterrupt:
        sweep.summary.interrupted = True
    finally:
        try:
            scheduler.stop()
            sweep.keep_lost()
        finally:
            if executor is None:
                used.close()
    return sweep.summary


class _Sweep:
    """Callbacks of the scheduler for cells, in one call of :func:`run`."""

    slots = 1

    def __init__(self, suite: Suite, cells: Sequence[Cell], store: Store, settings: Settings, watcher: Watcher) -> None:
        self.suite, self.store, self.settings, self.watcher = _with_absolute_paths(suite), store, settings, watcher
        self.cells = {cell.id: cell for cell in cells}
        self.summary = Summary(store.records(self.cells))
        self.before = dict(self.summary.records)
        todo = missing(cells, self.before, settings)
        self.fresh = {cell.id for cell in todo}  # to be run whatever is there
        self.todo = with_dependents(cells, self.fresh)
        self.lost: list[Outcome] = []  # that could not be kept
        self._tell(watcher.begin, todo, len(cells) - len(todo))

    def prepare(self, name: str) -> Job | None:
        """The cell's job, unless what is there still answers it or it needs a cell that is not usable."""
        cell = self.cells[name]
        given = {self.cells[need].method: self._choices(need) for need in cell.needs}
        broken = [need for need in cell.needs if not self._is_usable(need)]
        if not broken and cell.id not in self.fresh and self.before[cell.id].given == given:
            return None
        answer = self.store.record(cell.id)
        if answer is not None and answer != self.before.get(cell.id) and is_answered(answer, given, broken):
            self.summary.records[cell.id] = answer
            self.summary.elsewhere.append(cell.id)
            self._finish(cell, answer.status, 0.0, answer.reason or "by another run")
            return None
        if broken:
            self._skip(cell, broken)
            return None
        if cell.method in self.settings.unstarted:
            reason = self.settings.unstarted[cell.method]
            self._keep(Outcome(self._failure(cell, "timeout", reason, record.now())), 0.0)
            return None
        return None if self._recover(cell, given) else self._job(cell, given)

    def started(self, name: str) -> None:
        self.summary.ran.append(name)
        self._tell(self.watcher.start, self.cells[name])

    def progressed(self, name: str, progress: JobProgress) -> None:
        self._tell(self.watcher.step, self.cells[name], progress)

    def finished(self, running: RunningJob, ending: Ending) -> None:
        cell = self.cells[running.job.id]
        outcome = cell_job.judge(cell, running.folder, ending)
        if not isinstance(outcome, Outcome):
            began = datetime.fromtimestamp(time.time() - running.seconds, UTC)
            outcome = Outcome(self._failure(cell, *outcome, began))
        peaks = [peak for peak in (outcome.record.peak_mib, running.peak_mib) if peak is not None]
        measured = {
            "attempts": max(outcome.record.attempts, running.job.attempt),  # a cluster counts losses too
            "peak_mib": round(max(peaks), 1) if peaks else None,
            "disk_mib": None if running.disk_mib is None else round(running.disk_mib, 3),
        }
        log = outcome.log if outcome.record.status in USABLE else ending.log
        self._keep(replace(outcome, record=outcome.record.model_copy(update=measured), log=log), running.seconds)

    def failed(self, job: Job, error: OSError) -> None:
        """A full disk: no job file, no log, no pipe."""
        reason = f"disk: {error.strerror}" if error.errno in FULL else f"could not be started: {error.strerror}"
        self._keep(Outcome(self._failure(self.cells[job.id], "failed", reason, record.now())), 0.0)

    def locked_out(self, name: str, error: OSError) -> None:
        self._lose(self.cells[name], str(unwritable(f"{self.store.locks.path(name)}: no lock can be made", error)), 0.0)

    def waiting(self, name: str, holder: str) -> None:
        self._tell(self.settings.warn, f"{self.cells[name].title}: {holder} works on it; waiting for that run")

    def tick(self) -> None:
        self._tell(self.watcher.tick)

    def keep_lost(self) -> None:
        """Try again to keep what could not be kept: the store was busy or its disk full."""
        for outcome in self.lost:
            cell, lock = self.cells[outcome.record.cell], None
            with contextlib.suppress(OSError):
                lock = self.store.locks.acquire(cell.id)
            if lock is not None:
                with lock, contextlib.suppress(StoreError):
                    self._write(outcome)
                    del self.summary.lost[cell.id]
                    self._tell(self.settings.warn, f"{cell.title}: its outcome was kept at the second attempt")

    def _is_usable(self, need: str) -> bool:
        answer = self.summary.records.get(need)
        return answer is not None and answer.status in USABLE

    def _choices(self, need: str) -> dict[str, str]:
        answer = self.summary.records.get(need)
        return answer.choices() if answer is not None else {}

    def _folder(self, cell: Cell) -> JobFolder:
        return JobFolder(self.settings.runs / cell.id)

    def _job(self, cell: Cell, given: Mapping[str, Mapping[str, str]]) -> Job:
        """The first start of the cell, unless the one before was ended from outside and did the same work."""
        earlier = self.before.get(cell.id)
        resumed = earlier is None or earlier.status in RESUMED
        attempt = 1 + (cell_job.earlier_start(self._folder(cell), cell, given) if resumed else 0)
        task = CellJob(cell, self.suite, given, self.settings.commit, attempt, keep=self.settings.keep)
        return cell_job.job_of(task, self.settings.entry, self.settings.memory_gib, self.settings.disk_gib)

    def _recover(self, cell: Cell, given: Mapping[str, Mapping[str, str]]) -> bool:
        """Keep the outcome that an earlier run has left in the cell's folder because it could not keep it."""
        attempt = cell_job.earlier_start(self._folder(cell), cell, given)
        if self.settings.force or not attempt:
            return False
        try:
            outcome = cell_job.outcome_of(cell, self._folder(cell))
        except (StoreError, ImpossibleOutcome):
            return False
        if outcome.record.status not in USABLE:
            return False
        self.summary.recovered.append(cell.id)
        self._keep(replace(outcome, record=outcome.record.model_copy(update={"attempts": attempt})), 0.0)
        return True

    def _skip(self, cell: Cell, broken: Sequence[str]) -> None:
        names = ", ".join(f"{self.cells[need].title} ({self._state(need)})" for need in broken)
        reason = f"{NEEDS}{names}"
        before = self.summary.records.get(cell.id)
        if before is not None and before.status == "skipped" and before.reason == reason:
            self._finish(cell, "skipped", 0.0, reason)
        else:
            self._keep(Outcome(self._failure(cell, "skipped", reason, record.now())), 0.0)

    def _state(self, need: str) -> str:
        answer = self.summary.records.get(need)
        return answer.status if answer is not None else "missing"

    def _failure(self, cell: Cell, status: Status, reason: str, began: datetime) -> Record:
        about = record.run_environment(
            self.suite.threads, self.settings.commit, workers=self.slots, processes=self.suite.processes
        )
        return record.failed_record(cell, status, reason, began=began, environment=about)

    def _keep(self, outcome: Outcome, seconds: float) -> None:
        cell = self.cells[outcome.record.cell]
        try:
            self._write(outcome)
        except StoreError as error:
            reason = str(error)
            if outcome.record.status in USABLE:
                self.lost.append(outcome)
                reason += f"; its outcome is left in {self._folder(cell).root} for the next run"
            self._lose(cell, reason, seconds)
        else:
            self._finish(cell, outcome.record.status, seconds, outcome.record.reason)

    def _write(self, outcome: Outcome) -> None:
        """Put the outcome into the store. What is left in the cell's folder then is no outcome that could be lost."""
        cell, usable = self.cells[outcome.record.cell], outcome.record.status in USABLE
        self.store.write(outcome)
        self.summary.records[cell.id] = outcome.record
        folder = self._folder(cell)
        if usable:
            self._take_model(cell, folder)
        shutil.rmtree(folder.root if usable else folder.out, ignore_errors=True)

    def _take_model(self, cell: Cell, folder: JobFolder) -> None:
        try:
            kept_models.take_model(folder.out / kept_models.FOLDER, self.settings.runs, cell.id)
        except OSError as error:
            self._tell(self.settings.warn, f"{cell.title}: its model could not be kept: {error.strerror}")

    def _lose(self, cell: Cell, reason: str, seconds: float) -> None:
        self.summary.lost[cell.id] = reason
        self.summary.records.pop(cell.id, None)
        self._finish(cell, "failed", seconds, reason)

    def _finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None:
        self._tell(self.watcher.finish, cell, status, seconds, reason)

    def _tell(self, listener: Callable[..., None], *what: object) -> None:
        """A listener that cannot write, for its terminal is gone or its disk full, does not end the sweep."""
        try:
            listener(*what)
        except OSError:
            pass
        except ValueError as error:
            if "closed file" not in str(error):
                raise


def _with_absolute_paths(suite: Suite) -> Suite:
    """A cell works in a scratch folder of its own: relative paths of data sets would lead elsewhere."""
    cwd = Path.cwd()
    datasets = tuple(
        entry if entry.path is None else entry.model_copy(update={"path": str(cwd / Path(entry.path).expanduser())})
        for entry in suite.datasets
    )
    return suite.model_copy(update={"datasets": datasets})
