"""Locks between real processes: killed, stopped, racing; with wrong clocks, torn files and folders that refuse."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.jobs.locks import Locks
from tests.harness.lock_holder import ROOT, LockHolder
from tests.harness.mounts import mounted


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """Of one process too; the file goes with the lock."""
    mine, other = Locks(tmp_path / "locks"), Locks(tmp_path / "locks")
    assert mine.holder("ab") is None
    assert mine.names() == []
    lock = mine.acquire("ab")
    assert lock is not None
    assert mine.acquire("ab") is None
    assert other.acquire("ab") is None
    assert other.acquire("cd") is not None
    assert other.holder("ab") == f"process {os.getpid()} on {socket.gethostname()}"
    assert mine.names() == ["ab", "cd"]
    lock.release()
    lock.release()  # nothing happens
    assert mine.names() == ["cd"]
    with other.acquire("ab") or pytest.fail("it is free"):
        assert mine.acquire("ab") is None
    assert mine.acquire("ab") is not None


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """Also before anybody has waited for that process, while the system still keeps its number."""
    mine = Locks(tmp_path)
    with LockHolder(tmp_path) as holder:
        assert holder.ask("take ab") == "yes"
        assert mine.acquire("ab") is None
        holder.process.kill()
        until = time.monotonic() + 2.0
        while (lock := mine.acquire("ab")) is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert mine.path("ab").exists()
        lock.release()
        assert mine.names() == []


def test_a_stopped_process_keeps_its_lock_and_is_named(tmp_path: Path) -> None:
    mine = Locks(tmp_path)
    with LockHolder(tmp_path) as holder:
        assert holder.ask("take ab") == "yes"
        os.kill(holder.process.pid, signal.SIGSTOP)
        try:
            time.sleep(0.5)
            assert mine.acquire("ab") is None
            assert mine.holder("ab") == f"process {holder.process.pid} on {socket.gethostname()}"
        finally:
            os.kill(holder.process.pid, signal.SIGCONT)
        assert holder.ask("release ab") == "released"
        assert mine.holder("ab") is None


@pytest.mark.parametrize("hours", [1, -1])
def test_clocks_that_differ_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    real, mine = time.time, Locks(tmp_path)
    with LockHolder(tmp_path) as holder:
        assert holder.ask("take ab") == "yes"
        monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
        os.utime(mine.path("ab"), (real() - 3600 * hours,) * 2)
        assert mine.acquire("ab") is None


def test_a_child_of_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = Locks(tmp_path).acquire("ab")
    assert lock is not None
    with subprocess.Popen(["sleep", "60"]) as child:
        lock.release()
        assert Locks(tmp_path).acquire("ab") is not None
        child.kill()


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"pid": 1}', b"[]", b"\xff\x00", b'{"pid": "x", "host": 3}', b"0" * 2000]
)
def test_a_file_that_names_nobody_is_a_lock_all_the_same(tmp_path: Path, content: bytes) -> None:
    mine = Locks(tmp_path)
    mine.path("ab").write_bytes(content)
    lock = mine.acquire("ab")
    assert lock is not None
    mine.path("ab").write_bytes(content)
    assert mine.acquire("ab") is None
    assert mine.holder("ab") == "a process that did not write its number"


@pytest.mark.parametrize("count", [2, 8])
def test_one_of_many_gets_a_lock(tmp_path: Path, count: int) -> None:
    with ExitStack() as stack:
        racers = [stack.enter_context(LockHolder(tmp_path)) for _ in range(count)]
        for racer in racers:
            assert racer.ask("take ffff") in {"yes", "no"}
        for turn in range(30 if count == 2 else 12):
            start = time.monotonic() + 0.03
            for racer in racers:
                racer.tell(f"race {turn:04x}@{start}")
            assert sorted(racer.answer() for racer in racers) == ["no"] * (count - 1) + ["yes"]


TURNS = """
import sys
from pathlib import Path
from harness.jobs.locks import Locks
locks, counter = Locks(Path(sys.argv[1]) / "locks"), Path(sys.argv[1]) / "counter"
done = 0
while done < 60:
    if (lock := locks.acquire("ab")) is not None:
        with lock:
            counter.write_text(str(int(counter.read_text()) + 1))
        done += 1
"""


def test_a_lock_that_is_removed_with_each_release_is_never_held_twice(tmp_path: Path) -> None:
    """Who opened the file before it was removed must not count as its holder."""
    (tmp_path / "counter").write_text("0")
    command, where = [sys.executable, "-c", TURNS, str(tmp_path)], os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(command, env=where) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "counter").read_text() == "240"


def test_a_folder_that_refuses_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="File exists|Not a directory"):
        Locks(tmp_path / "locks").acquire("ab")


def test_a_read_only_disk_is_an_error(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=1m") as place:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with pytest.raises(OSError, match="Read-only file system"):
            Locks(place).acquire("ab")


def test_a_full_disk_refuses_a_lock_and_keeps_those_that_are(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=64k,nr_inodes=3") as place:
        mine, other = Locks(place), Locks(place)
        lock = mine.acquire("ab")
        assert lock is not None
        (place / "ballast").touch()
        with pytest.raises(OSError, match="No space left on device"):
            mine.acquire("cd")
        assert other.acquire("ab") is None
        lock.release()
        assert other.acquire("ab") is not None
