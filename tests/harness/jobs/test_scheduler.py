"""The scheduler with a pretended executor: order, slots, locks, and what its client is told."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.jobs import scheduler
from harness.jobs.job import Ending, Job, JobFolder, JobLimits, JobProgress
from harness.jobs.locks import Locks
from harness.jobs.scheduler import RunningJob, Scheduler, deferred_interrupts, dependents


class Pretended:
    """A job that has ended as soon as it is looked at, or never."""

    peak_mib = disk_mib = None
    seconds = 0.0

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder, self.asked, self.killed = job, JobFolder(folder / job.id), False, False

    def ended(self) -> bool:
        return self.killed or self.job.payload != "hangs"

    def progress(self) -> JobProgress | None:
        return JobProgress("train", 1, 2) if self.job.payload == "tells" else None

    def ask_to_end(self) -> None:
        self.asked = True

    def kill(self) -> None:
        self.killed = True

    def finish(self) -> Ending:
        return Ending("killed" if self.killed else "ok")


class PretendedExecutor:
    def __init__(self, folder: Path, slots: int) -> None:
        self.folder, self.slots, self.started = folder, slots, list[Pretended]()

    def start(self, job: Job) -> RunningJob:
        if job.payload == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        self.started.append(Pretended(job, self.folder))
        return self.started[-1]

    def close(self) -> None: ...


class Client:
    """Keeps what it is told. ``payloads``: those of jobs by name; None: there is nothing to run."""

    def __init__(self, locks: Locks, payloads: dict[str, str | None], tick: Callable[[], None] | None = None) -> None:
        self.locks, self.payloads, self.heard = locks, payloads, list[tuple[str, str]]()
        self._tick = tick or (lambda: None)

    def prepare(self, name: str) -> Job | None:
        assert self.locks.acquire(name) is None, "its lock is held"
        payload = self.payloads.get(name, "")
        return None if payload is None else Job(name, "x:y", payload, JobLimits(60))

    def started(self, name: str) -> None:
        self.heard.append(("started", name))

    def progressed(self, name: str, progress: JobProgress) -> None:
        self.heard.append(("progressed", name))

    def finished(self, running: RunningJob, ending: Ending) -> None:
        assert self.locks.acquire(running.job.id) is None, "its lock is held until its outcome is kept"
        self.heard.append((f"finished {ending.status}", running.job.id))

    def failed(self, job: Job, error: OSError) -> None:
        self.heard.append((f"failed {error.strerror}", job.id))

    def locked_out(self, name: str, error: OSError) -> None:
        self.heard.append(("locked out", name))

    def waiting(self, name: str, holder: str) -> None:
        self.heard.append((f"waiting for {holder}", name))

    def tick(self) -> None:
        self._tick()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PAUSE", 0.001)
    monkeypatch.setattr(scheduler, "RETRY", 0.01)


def test_needs_come_first_and_those_that_most_wait_for(tmp_path: Path) -> None:
    locks, executor = Locks(tmp_path / "locks"), PretendedExecutor(tmp_path, 1)
    client = Client(locks, {"b": None, "c": "tells", "e": "full"})
    needs: dict[str, tuple[str, ...]] = {"a": (), "b": (), "c": (), "d": ("c",), "e": ("d",)}
    assert Scheduler(needs, executor, locks, client).run()
    assert client.heard == [
        ("started", "c"), ("progressed", "c"), ("finished ok", "c"),
        ("started", "d"), ("finished ok", "d"),
        ("started", "a"), ("finished ok", "a"),
        ("failed No space left on device", "e"),
    ]  # fmt: skip
    assert locks.names() == []


def test_slots_are_not_exceeded_and_the_time_is_kept(tmp_path: Path) -> None:
    locks, executor = Locks(tmp_path / "locks"), PretendedExecutor(tmp_path, 2)
    client = Client(locks, dict.fromkeys("abc", "hangs"))
    at_work = Scheduler(dict.fromkeys("abc", ()), executor, locks, client)
    assert not at_work.run(time.monotonic() + 0.1)
    assert [one.job.id for one in executor.started] == ["a", "b"]
    assert locks.names() == ["a", "b"]


def test_stopped_it_asks_then_kills_and_frees_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "GRACE", 0.1)
    locks, executor = Locks(tmp_path / "locks"), PretendedExecutor(tmp_path, 2)
    client = Client(locks, {"a": "hangs", "b": "hangs"})
    at_work = Scheduler({"a": (), "b": ()}, executor, locks, client)
    at_work.run(time.monotonic() + 0.05)
    executor.started[1].job = Job("b", "x:y", "done meanwhile", JobLimits(60))
    monkeypatch.setattr(executor.started[1], "kill", lambda: None)
    at_work.stop()
    assert all(one.asked for one in executor.started)
    assert client.heard[2:] == [("finished ok", "b")], "a job that is killed has no outcome, one that was done has"
    assert locks.names() == []
    assert at_work.running == {}


def test_a_job_of_another_process_is_waited_for_and_its_holder_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PATIENCE", 0.05)
    locks, executor = Locks(tmp_path / "locks"), PretendedExecutor(tmp_path, 2)
    other = locks.acquire("a")
    assert other is not None
    until = time.monotonic() + 0.2
    client = Client(locks, {}, lambda: other.release() if time.monotonic() > until else None)
    assert Scheduler({"a": (), "b": ("a",)}, executor, locks, client).run()
    assert client.heard[0][0].startswith(f"waiting for process {os.getpid()} on ")
    assert client.heard[1:] == [("started", "a"), ("finished ok", "a"), ("started", "b"), ("finished ok", "b")]


def test_a_lock_that_cannot_be_made_costs_its_job(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    locks = Locks(tmp_path / "locks")
    client = Client(locks, {})
    assert Scheduler({"a": (), "b": ("a",)}, PretendedExecutor(tmp_path, 2), locks, client).run()
    assert client.heard == [("locked out", "a"), ("locked out", "b")]


@given(st.lists(st.sets(st.integers(0, 7)), max_size=8))
def test_dependents_are_counted_at_any_distance(sets: list[set[int]]) -> None:
    needs = {str(i): [str(need) for need in sets[i] if need < i] for i in range(len(sets))}

    def behind(name: str) -> set[str]:
        direct = {other for other in needs if name in needs[other]}
        return direct.union(*map(behind, direct))

    assert dependents(needs) == {name: len(behind(name)) for name in needs}


def interrupted(times: int) -> list[str]:
    """What is done of some work that is interrupted, and of what follows it."""
    done: list[str] = []
    with contextlib.suppress(KeyboardInterrupt):
        with deferred_interrupts():
            for number in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                done.append(f"work {number}")
        done.append("what follows")
    return done


def test_an_interrupt_is_raised_when_the_work_is_complete() -> None:
    assert interrupted(0) == ["what follows"]
    assert interrupted(1) == ["work 0"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_is_raised_at_once() -> None:
    assert interrupted(2) == ["work 0"]


def test_without_an_interrupt_and_in_other_threads_nothing_happens() -> None:
    done: list[str] = []

    def work() -> None:
        with deferred_interrupts():
            done.append("work")

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"] * 2
