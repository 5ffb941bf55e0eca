"""The engine: the cells of a plan that are not in the store yet, several processes at once, each failure a record."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from harness import children, forked, job, record
from harness.children import Child, Step
from harness.job import Folders, Job
from harness.plan import Cell
from harness.record import AGAIN, USABLE, Record, Status
from harness.store import Outcome, Store, StoreError
from harness.suite import Suite

ENTRY = "harness.execute"
COMMAND = (sys.executable, "-m", ENTRY)
OWN = "eavit"  # the package that comes with the bench: imported for all cells, whichever need it
GRACE = 3.0  # seconds between asking children to end and ending them


class Watcher(Protocol):
    """Who is told how a run goes."""

    def begin(self, todo: Sequence[Cell], kept: int) -> None: ...
    def start(self, cell: Cell) -> None: ...
    def step(self, cell: Cell, step: Step) -> None: ...
    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None: ...
    def tick(self) -> None: ...


@dataclass(frozen=True)
class Settings:
    """``runs``: the folder of jobs, logs and checkpoints of this suite. ``command`` runs one cell.

    ``entry``: the module whose ``main`` does what ``command`` does; if named, a nursery may run cells in its place.
    Left out, it is known for the default command alone.
    """

    runs: Path
    workers: int
    command: Sequence[str] = COMMAND
    retry_failed: bool = False
    force: bool = False
    commit: str | None = None
    entry: str | None = None
    warn: Callable[[str], None] = warnings.warn


@dataclass
class Summary:
    """``records``: of all cells asked for that are there now; ``ran``: ids of cells whose process was started."""

    records: dict[str, Record]
    ran: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)  # cell -> why its record could not be kept
    interrupted: bool = False


def default_workers(threads: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def wanted(kept: Record | None, retry_failed: bool, force: bool) -> bool:
    """Whether a cell has to run, by what the store holds of it."""
    if kept is None or force or kept.status in AGAIN:
        return True
    return retry_failed and kept.status not in USABLE


def missing(cells: Iterable[Cell], kept: Mapping[str, Record], retry_failed: bool, force: bool) -> list[Cell]:
    return [cell for cell in cells if wanted(kept.get(cell.id), retry_failed, force)]


def run(suite: Suite, cells: Sequence[Cell], store: Store, settings: Settings, watcher: Watcher) -> Summary:
    """Run what is missing of ``cells``, which must hold the needs of each.

    Interrupted once, it ends its children, keeps every whole cell and returns; the same call again does the rest.
    """
    with store.lock():
        at_work = _Run(suite, cells, store, settings, watcher)
        try:
            at_work.loop()
        except KeyboardInterrupt:
            at_work.summary.interrupted = True
        finally:
            at_work.stop()
        return at_work.summary


class _Run:
    """The state of one call of :func:`run`."""

    def __init__(self, suite: Suite, cells: Sequence[Cell], store: Store, settings: Settings, watcher: Watcher) -> None:
        self.suite, self.store, self.settings, self.watcher = suite, store, settings, watcher
        self.cells = {cell.id: cell for cell in cells}
        self.summary = Summary(store.records(self.cells))
        todo = missing(cells, self.summary.records, settings.retry_failed, settings.force)
        self.fresh = {cell.id for cell in todo}  # to be run whatever is there
        self.todo = _with_users(cells, self.fresh)
        self.urgency = _waiting(self.todo.values())
        self.running: list[Child] = []
        self.nursery = _nursery(suite, self.todo.values(), settings)
        watcher.begin(todo, len(cells) - len(todo))

    def loop(self) -> None:
        while self.todo or self.running:
            self._start()
            self._watch()
            if self.running:
                time.sleep(0.05)

    def stop(self) -> None:
        """End what still runs: asked first, then killed; a second interrupt kills at once."""
        for child in self.running:
            child.kill(signal.SIGTERM)
        until = time.monotonic() + GRACE
        try:
            while time.monotonic() < until and any(not child.ended() for child in self.running):
                time.sleep(0.05)
        finally:
            for child in self.running:
                child.kill()
                child.process.wait()
                outcome, *_ = child.verdict()
                if outcome is not None:  # it was done before it was asked to end
                    self._keep(child.cell, outcome, child.seconds)
            self.running = []
            if self.nursery is not None:
                self.nursery.close()

    def _start(self) -> None:
        ready = [cell for cell in self.todo.values() if not any(need in self.todo for need in cell.needs)]
        ready = [cell for cell in ready if not self._pending(cell)]
        order = sorted(ready, key=lambda cell: -self.urgency[cell.id])  # stable: else in the order of the plan
        for cell in order:
            if len(self.running) >= self.settings.workers:
                return
            del self.todo[cell.id]
            given = {self.cells[need].method: self._choices(need) for need in cell.needs}
            broken = [need for need in cell.needs if not self._usable(need)]
            if broken:
                self._skip(cell, broken)
            elif cell.id in self.fresh or self.summary.records[cell.id].given != given:
                self._spawn(cell, given)

    def _pending(self, cell: Cell) -> bool:
        return any(child.cell.id in cell.needs for child in self.running)

    def _usable(self, need: str) -> bool:
        kept = self.summary.records.get(need)
        return kept is not None and kept.status in USABLE

    def _choices(self, need: str) -> dict[str, str]:
        kept = self.summary.records.get(need)
        return kept.choices() if kept is not None else {}

    def _spawn(self, cell: Cell, given: Mapping[str, Mapping[str, str]]) -> None:
        folders = Folders((self.settings.runs / cell.id).resolve())
        kept = self.summary.records.get(cell.id)
        stale = [folders.scratch, folders.out]
        if kept is not None and kept.status not in {"killed", "timeout"}:
            stale.append(folders.work)  # its checkpoints led to what is now thrown away
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (folders.scratch, folders.out, folders.work):
            folder.mkdir(parents=True, exist_ok=True)
        job.write(
            Job(cell=cell, suite=_placed(self.suite, Path.cwd()), given=given, commit=self.settings.commit), folders.job
        )
        environment = children.environment(self.suite.threads, os.environ, Path.cwd())
        limit = self.suite.timeout_minutes * 60
        self.running.append(children.start(cell, folders, self.settings.command, environment, limit, self.nursery))
        self.summary.ran.append(cell.id)
        self.watcher.start(cell)

    def _watch(self) -> None:
        for child in list(self.running):
            if step := child.step():
                self.watcher.step(child.cell, step)
            if child.ended():
                self.running.remove(child)
                self._settle(child)
        self.watcher.tick()

    def _settle(self, child: Child) -> None:
        outcome, status, reason, log = child.verdict()
        if outcome is None:
            began = datetime.fromtimestamp(time.time() - child.seconds, UTC)
            outcome = Outcome(self._failure(child.cell, status, reason, began))
        if outcome.record.status not in USABLE:
            outcome = Outcome(outcome.record, outcome.bitmaps, log)
        self._keep(child.cell, outcome, child.seconds)

    def _skip(self, cell: Cell, broken: Sequence[str]) -> None:
        names = ", ".join(f"{self.cells[need].title} ({self._state(need)})" for need in broken)
        reason = f"needs {names}"
        before = self.summary.records.get(cell.id)
        if before is not None and before.status == "skipped" and before.reason == reason:
            self.watcher.finish(cell, "skipped", 0.0, reason)
        else:
            self._keep(cell, Outcome(self._failure(cell, "skipped", reason, record.now())), 0.0)

    def _state(self, need: str) -> str:
        kept = self.summary.records.get(need)
        return kept.status if kept is not None else "missing"

    def _failure(self, cell: Cell, status: Status, reason: str, began: datetime) -> Record:
        about = record.environment(self.suite.threads, self.settings.commit)
        return record.failure(cell, status, reason, began=began, environment=about)

    def _keep(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        try:
            self.store.write(outcome)
            self.summary.records[cell.id] = outcome.record
        except StoreError as error:
            self.summary.lost[cell.id] = str(error)
            self.summary.records.pop(cell.id, None)
        status = "failed" if cell.id in self.summary.lost else outcome.record.status
        if outcome.record.status in USABLE and cell.id not in self.summary.lost:
            shutil.rmtree(self.settings.runs / cell.id, ignore_errors=True)
        self.watcher.finish(cell, status, seconds, self.summary.lost.get(cell.id) or outcome.record.reason)


def _nursery(suite: Suite, cells: Iterable[Cell], settings: Settings) -> forked.Nursery | None:
    entry = settings.entry or (ENTRY if tuple(settings.command) == COMMAND else None)
    if entry is None or not forked.available():
        return None
    return forked.Nursery(entry, _shared(suite, cells), settings.warn)


def _shared(suite: Suite, cells: Iterable[Cell]) -> list[str]:
    """The modules that may be imported before any cell.

    A stranger's module is, only if every cell imports it anyway: what its import does to torch must not depend on
    which other methods a suite names.
    """
    modules = {suite.method(cell.method).use.partition(":")[0] for cell in cells}
    methods = modules if len(modules) == 1 else {name for name in modules if name.partition(".")[0] == OWN}
    return list(dict.fromkeys([suite.backbone.use.partition(":")[0], *sorted(methods)]))


def _placed(suite: Suite, cwd: Path) -> Suite:
    """The suite with the paths of its data sets made absolute: a cell works in a scratch folder of its own."""
    datasets = tuple(
        entry if entry.path is None else entry.model_copy(update={"path": str(cwd / Path(entry.path).expanduser())})
        for entry in suite.datasets
    )
    return suite.model_copy(update={"datasets": datasets})


def _with_users(cells: Sequence[Cell], fresh: set[str]) -> dict[str, Cell]:
    """Cells to run, and those kept ones whose needs run again: if what they were given changes, they are stale."""
    todo: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in fresh or any(need in todo for need in cell.needs):
            todo[cell.id] = cell
    return todo


def _waiting(cells: Iterable[Cell]) -> dict[str, int]:
    """How many cells wait, at any distance, for each."""
    users: dict[str, set[str]] = {}
    for cell in reversed(list(cells)):
        behind = users.setdefault(cell.id, set())
        for need in cell.needs:
            users.setdefault(need, set()).update({cell.id}, behind)
    return {cell: len(behind) for cell, behind in users.items()}
