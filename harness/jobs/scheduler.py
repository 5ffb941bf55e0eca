"""Runs jobs in the order that their needs allow, several at once, each under its lock."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from harness.jobs.job import Ending, Job, JobFolder, JobProgress
from harness.jobs.locks import Lock, Locks

GRACE = 3.0  # seconds between asking jobs to end and killing them
PAUSE = 0.05  # seconds between two looks at what runs
RETRY = 0.5  # seconds between two looks at a job that another process works on
PATIENCE = 10.0  # seconds without anything to do, but for jobs of other processes, after which that is reported


class RunningJob(Protocol):
    """A job that was started. ``peak_mib`` and ``disk_mib``: the most that its processes and its folder took so far."""

    @property
    def job(self) -> Job: ...
    @property
    def folder(self) -> JobFolder: ...
    @property
    def seconds(self) -> float: ...
    @property
    def peak_mib(self) -> float | None: ...
    @property
    def disk_mib(self) -> float | None: ...
    def ended(self) -> bool: ...
    def progress(self) -> JobProgress | None: ...
    def ask_to_end(self) -> None: ...
    def kill(self) -> None: ...
    def finish(self) -> Ending:
        """Return how the job ended; end it if it still runs. Its result, if it left one, is in its folder."""


class Executor(Protocol):
    @property
    def slots(self) -> int:
        """Number of jobs that can run at once now; that of a cluster may change."""

    def start(self, job: Job) -> RunningJob:
        """Raise OSError where it cannot be started, such as on a full disk."""

    def close(self) -> None: ...


class SchedulerClient(Protocol):
    """Callbacks of a scheduler, for code that knows what the jobs are about. Each is called under the job's lock."""

    def prepare(self, name: str) -> Job | None:
        """The job, whose needs are done now; None: there is nothing to run."""

    def started(self, name: str) -> None: ...
    def progressed(self, name: str, progress: JobProgress) -> None: ...
    def finished(self, running: RunningJob, ending: Ending) -> None: ...
    def failed(self, job: Job, error: OSError) -> None:
        """It could not be started."""

    def locked_out(self, name: str, error: OSError) -> None:
        """Its lock cannot be taken, by nobody: the disk is full or read-only."""

    def waiting(self, name: str, holder: str) -> None:
        """There has been nothing else to do for long but to wait for this job, which ``holder`` works on."""

    def tick(self) -> None: ...


def dependents(needs: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Number of jobs that wait, at any distance, for each. ``needs``: those of each job, which is named after them."""
    users: dict[str, set[str]] = {}
    for name in reversed(list(needs)):
        behind = users.setdefault(name, set())
        for need in needs[name]:
            users.setdefault(need, set()).update({name}, behind)
    return {name: len(behind) for name, behind in users.items()}


@dataclass
class _Held:
    running: RunningJob
    lock: Lock


class Scheduler:
    """``needs``: the jobs to run, each with those it needs and named after them."""

    def __init__(
        self, needs: Mapping[str, Sequence[str]], executor: Executor, locks: Locks, client: SchedulerClient
    ) -> None:
        self.pending, self.running = dict(needs), dict[str, _Held]()
        self._executor, self._locks, self._client = executor, locks, client
        self._urgency = dependents(needs)
        self._retry: dict[str, float] = {}  # jobs that another process works on -> when to look again
        self._idle_since, self._reported = time.monotonic(), set[str]()

    def run(self, until: float = math.inf) -> bool:
        """Run until all are done; False: the time ``until`` came first, and some may still run."""
        while self.pending or self.running:
            if time.monotonic() >= until:
                return False
            self._start()
            self._watch()
            self._tell_holders()
            if self.pending or self.running:
                time.sleep(PAUSE)
        return True

    def stop(self) -> None:
        """End what still runs: asked first, then killed. A second interrupt kills at once. Finished jobs count."""
        held = list(self.running.values())
        for one in held:
            one.running.ask_to_end()
        until = time.monotonic() + GRACE
        try:
            while time.monotonic() < until and any(not one.running.ended() for one in held):
                time.sleep(PAUSE)
        finally:
            for one in held:
                one.running.kill()
            for name, one in list(self.running.items()):
                ending = one.running.finish()
                del self.running[name]
                if ending.status == "ok":
                    self._client.finished(one.running, ending)
                one.lock.release()

    def _start(self) -> None:
        busy = {*self.pending, *self.running}
        ready = [name for name, needs in self.pending.items() if not busy.intersection(needs)]
        for name in sorted(ready, key=lambda name: -self._urgency[name]):  # stable: else in the order given
            if len(self.running) >= self._executor.slots:
                return
            if time.monotonic() >= self._retry.get(name, 0.0):
                self._consider(name)

    def _consider(self, name: str) -> None:
        try:
            lock = self._locks.acquire(name)
        except OSError as error:
            del self.pending[name]
            self._client.locked_out(name, error)
            return
        if lock is None:
            self._retry[name] = time.monotonic() + RETRY
            return
        del self.pending[name]
        self._idle_since = time.monotonic()
        try:
            running = self._launch(name)
        except BaseException:
            lock.release()
            raise
        if running is None:
            lock.release()
        else:
            self.running[name] = _Held(running, lock)
            self._client.started(name)

    def _launch(self, name: str) -> RunningJob | None:
        job = self._client.prepare(name)
        if job is None:
            return None
        try:
            return self._executor.start(job)
        except OSError as error:
            self._client.failed(job, error)
            return None

    def _watch(self) -> None:
        for name, one in list(self.running.items()):
            if progress := one.running.progress():
                self._client.progressed(name, progress)
            if one.running.ended():
                with deferred_interrupts():
                    ending = one.running.finish()
                    del self.running[name]
                    self._client.finished(one.running, ending)
                    one.lock.release()
        self._client.tick()

    def _tell_holders(self) -> None:
        """Name the process of another run when there is nothing to do but to wait for it."""
        now = time.monotonic()
        if self.running:
            self._idle_since = now
        if now - self._idle_since < PATIENCE:
            return
        for name in self._retry.keys() & self.pending.keys() - self._reported:
            if (holder := self._locks.holder(name)) is not None:
                self._reported.add(name)
                self._client.waiting(name, holder)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt for a signal when this is left, so that what is in it is completed; a second at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    received: list[int] = []

    def defer(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    try:
        for number in handlers:
            signal.signal(number, defer)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt
