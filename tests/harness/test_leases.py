"""Leases between real processes: killed, stopped, racing; with torn files, wrong clocks and folders that refuse."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results import leases as rooms
from harness.results.leases import LeaseLost, Leases, Process, StoreError
from harness.results.store import Store
from tests.harness.leaser import ROOT, Leaser
from tests.harness.mounts import mounted
from tests.harness.stored import CELLS, outcome

BEAT, PATIENCE = 0.05, 0.4
CELL = CELLS[0].id


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Leases]:
    with Leases(tmp_path / "leases", beat=BEAT, patience=PATIENCE) as leases:
        yield leases


def wait_for_lease(leases: Leases, cell: str, most: float = 5.0) -> float:
    """Seconds until ``cell`` could be taken."""
    began = time.monotonic()
    while leases.take(cell) is None:
        assert time.monotonic() - began < most
        time.sleep(0.02)
    return time.monotonic() - began


def test_a_lease_is_held_by_one(mine: Leases) -> None:
    with Leases(mine.folder, beat=BEAT, patience=PATIENCE) as other:
        lease = mine.take("ab")
        assert lease is not None
        assert lease.holds()
        assert mine.take("ab") is None
        until = time.monotonic() + 2 * PATIENCE  # it lives as long as its owner, however long that is
        while time.monotonic() < until:
            assert other.take("ab") is None
            time.sleep(0.05)
        lease.release()
        assert not lease.holds()
        assert other.take("ab") is not None
        lease.release()  # not ours: nothing happens
        assert mine.take("ab") is None


def test_closing_releases_all(mine: Leases) -> None:
    with Leases(mine.folder, beat=BEAT, patience=PATIENCE) as other:
        assert [other.take(cell) is not None for cell in ("aa", "bb")] == [True, True]
    assert not list(mine.folder.glob("*.json"))
    assert mine.take("aa") is not None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_owner_is_followed_at_once(tmp_path: Path) -> None:
    """Also before anybody has waited for it, while the system still keeps its number."""
    with Leaser(tmp_path, 1.0, 600.0) as owner, Store(tmp_path).leases(beat=1.0, patience=600.0) as mine:
        assert owner.ask(f"take {CELL}") == "yes"
        assert mine.take(CELL) is None
        assert mine.others() == {CELL: False}
        owner.process.kill()
        assert wait_for_lease(mine, CELL, most=2.0) < 2.0


def test_a_number_that_another_process_has_now_is_no_owner(mine: Leases) -> None:
    here = Process.here()
    assert here.start is not None
    assert not here.gone()
    assert Process(here.boot, here.pid, here.start - 1).gone()
    assert not Process("0" * 12, here.pid, here.start - 1).gone()  # of another machine: nothing is known
    assert not Process(here.boot, here.pid, None).gone()
    assert Process.parse(str(here)) == here


def test_a_stopped_owner_loses_its_lease_and_may_not_write(tmp_path: Path) -> None:
    with Leaser(tmp_path, BEAT, PATIENCE) as owner, Store(tmp_path).leases(beat=BEAT, patience=PATIENCE) as mine:
        Store(tmp_path).prepare()
        assert owner.ask(f"take {CELL}") == "yes"
        assert mine.take(CELL) is None
        os.kill(owner.process.pid, signal.SIGSTOP)
        try:
            assert wait_for_lease(mine, CELL) >= PATIENCE - 0.1
        finally:
            os.kill(owner.process.pid, signal.SIGCONT)
        assert owner.ask(f"holds {CELL}") == "no"
        refused = owner.ask(f"write {CELL}")
        assert refused.startswith(f"LeaseLost cell {CELL}: another runner took it over")
        assert Store(tmp_path).ids() == []
        assert not list((tmp_path / "cells").glob(".tmp*"))
        time.sleep(4 * BEAT)  # the beats of the old owner leave the lease of the new one alone
        assert mine.others() == {}
        assert (tmp_path / "leases" / f"{CELL}.json").exists()


def test_a_write_under_a_lost_lease_leaves_what_the_other_wrote(tmp_path: Path, mine: Leases) -> None:
    store = Store(tmp_path, warn=pytest.fail)
    store.prepare()
    with Leases(mine.folder, beat=BEAT, patience=PATIENCE) as other:
        late = mine.take(CELL)
        assert late is not None
        (mine.folder / f"{CELL}.json").unlink()
        early = other.take(CELL)
        assert early is not None
        store.write(outcome(CELLS[0], "first"), early)
        early.release()
        with pytest.raises(LeaseLost):
            store.write(outcome(CELLS[0], "second"), late)
        kept = store.read(CELL)
        assert kept is not None
        assert kept.log == "first"


def test_beats_are_for_leases_that_are_still_ours(mine: Leases) -> None:
    lease = mine.take("ab")
    assert lease is not None
    path = mine.folder / "ab.json"
    first = path.read_bytes()
    time.sleep(4 * BEAT)
    assert path.read_bytes() != first
    with mine.locked():
        content = rooms._Content("another's", Process("0" * 12, 7, 8), 3).encode()
        path.write_bytes(content)
    time.sleep(4 * BEAT)
    assert path.read_bytes() == content
    assert not lease.holds()
    lease.release()
    assert path.read_bytes() == content


def test_a_lock_that_was_removed_is_no_lock(mine: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removed between opening and locking: whoever comes later would lock another file of that name."""
    assert mine.take("ab") is not None
    path, real, turns = mine.folder / ".lock", fcntl.flock, [True]

    def late(handle: int, how: int) -> None:
        if turns and turns.pop():
            path.unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with mine.locked():
        monkeypatch.undo()
        with path.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("hours", [1, -1])
def test_clocks_that_differ_change_nothing(mine: Leases, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    real = time.time
    with Leases(mine.folder, beat=BEAT, patience=PATIENCE) as other:
        assert other.take("ab") is not None
        assert mine.take("ab") is None
        monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
        os.utime(mine.folder / "ab.json", (real() - 3600 * hours,) * 2)
        assert mine.take("ab") is None
        time.sleep(3 * BEAT)
        assert mine.take("ab") is None


def test_a_pause_of_the_observer_is_no_silence_of_the_owner(mine: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    """All runners frozen together, as a suspended machine does, find each other alive when they wake."""
    with Leases(mine.folder, beat=BEAT, patience=PATIENCE) as other:
        assert other.take("ab") is not None
        assert mine.take("ab") is None
        real, jump = time.monotonic, 10_000.0
        monkeypatch.setattr(time, "monotonic", lambda: real() + jump)
        assert mine.take("ab") is None
        monkeypatch.undo()


@pytest.mark.parametrize("content", [b"", b"{", b'{"beat": 1}', b"[]", b"\xff\x00", b'{"token": "x", "boot": 3}'])
def test_a_torn_lease_is_stale_after_patience(mine: Leases, content: bytes) -> None:
    mine.folder.mkdir()
    (mine.folder / "ab.json").write_bytes(content)
    assert mine.take("ab") is None
    assert wait_for_lease(mine, "ab") >= PATIENCE - 0.1


@pytest.fixture(scope="module")
def lease_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with Leases(tmp_path_factory.mktemp("leases")) as leases:
        leases.take("ab")
        return (leases.folder / "ab.json").read_bytes()


@settings(max_examples=60)
@given(cut=st.floats(0, 1), place=st.floats(0, 1), bit=st.integers(0, 7), how=st.sampled_from(["cut", "flip"]))
def test_a_lease_cut_or_flipped_anywhere_never_crashes(
    lease_file: bytes, tmp_path_factory: pytest.TempPathFactory, cut: float, place: float, bit: int, how: str
) -> None:
    content = bytearray(lease_file[: int(cut * len(lease_file))] if how == "cut" else lease_file)
    if how == "flip":
        content[int(place * (len(content) - 1))] ^= 1 << bit
    folder = tmp_path_factory.mktemp("cut")
    (folder / "ab.json").write_bytes(content)
    leases = Leases(folder)
    try:
        leases.others()
        lease = leases.take("ab")  # a flip may name a process that is gone: taken at once
        assert lease is None or lease.holds()
    finally:
        leases.close()


@pytest.mark.parametrize("count", [2, 8])
def test_one_of_many_gets_a_lease_fresh_or_stale(tmp_path: Path, count: int) -> None:
    rounds = 30 if count == 2 else 12
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with ExitStack() as stack:
        racers = [stack.enter_context(Leaser(tmp_path, 1.0, 60.0)) for _ in range(count)]
        for racer in racers:
            assert racer.ask("take ffff") in {"yes", "no"}
        for turn in range(rounds):
            cell = f"{turn:04x}"
            if turn % 2:
                here = Process.here()
                text = rooms._Content("dead", Process(here.boot, gone.pid, 1), 3).encode()
                (tmp_path / "leases" / f"{cell}.json").write_bytes(text)
            start = time.monotonic() + 0.03
            for racer in racers:
                racer.tell(f"race {cell}@{start}")
            assert sorted(racer.answer() for racer in racers) == ["no"] * (count - 1) + ["yes"]


def test_one_of_many_threads_gets_what_became_stale_by_silence(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    folder.mkdir()
    (folder / "ab.json").write_bytes(b"{}")
    racers = [Leases(folder, beat=BEAT, patience=PATIENCE) for _ in range(8)]
    won: list[int] = []

    def race(number: int) -> None:
        until = time.monotonic() + 3 * PATIENCE
        while time.monotonic() < until:
            if racers[number].take("ab") is not None:
                won.append(number)
            time.sleep(0.01)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for racer in racers:
        racer.close()
    assert len(won) == 1


RUNNER = """
import sys, time
from pathlib import Path
from harness.plan import Cell
from harness.results.record import failure, now
from harness.results.store import Outcome, Store
store, ids = Store(Path(sys.argv[1]), warn=sys.exit), sys.argv[2:]
store.prepare()
with store.leases(beat=0.1, patience=60.0) as leases:
    while len(store.summaries(ids)) < len(ids):
        for id in ids:
            lease = leases.take(id)
            if lease is None:
                continue
            if store.record(id) is None:
                print(id, flush=True)
                time.sleep(0.01)
                cell = Cell(id, "s", "m", "d", 0, (), {"budgets": [1.0]})
                store.write(Outcome(failure(cell, "failed", "done", began=now(), environment={})), lease)
            lease.release()
"""


def test_runners_on_one_store_do_each_cell_once(tmp_path: Path) -> None:
    ids = [f"{number:016x}" for number in range(24)]
    command, where = [sys.executable, "-c", RUNNER, str(tmp_path)], os.environ | {"PYTHONPATH": str(ROOT)}
    runners = [
        subprocess.Popen([*command, *order], stdout=subprocess.PIPE, text=True, env=where)
        for order in (ids, ids, ids[::-1])
    ]
    told = [runner.communicate(timeout=60)[0].split() for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0, 0]
    assert sorted(cell for one in told for cell in one) == ids
    assert set(Store(tmp_path, warn=pytest.fail).records()) == set(ids)
    assert not list((tmp_path / "leases").glob("*.json"))


def test_a_folder_that_refuses_is_told(tmp_path: Path, mine: Leases) -> None:
    (tmp_path / "leases").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"no lease of cell ab can be written: File exists|Not a directory"):
        mine.take("ab")


def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=1m") as place:
        (place / "leases").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with Leases(place / "leases") as leases, pytest.raises(StoreError, match="Read-only file system"):
            leases.take("ab")


def test_a_full_disk_refuses_a_lease_and_keeps_those_that_are(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=64k") as place:
        with Leases(place, beat=BEAT, patience=PATIENCE) as mine, Leases(place, beat=BEAT, patience=PATIENCE) as other:
            assert mine.take("ab") is not None
            fill(place / "ballast")
            with pytest.raises(StoreError, match="no lease of cell cd can be written: the disk is full"):
                mine.take("cd")
            assert not list(place.glob("*.tmp"))
            until = time.monotonic() + 2 * PATIENCE
            while time.monotonic() < until:  # beats need no room
                assert other.take("ab") is None
                time.sleep(0.05)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)


@pytest.mark.parametrize("name", ["", "../ab", "a/b", "AB", "å", "a b", "a" * 65, "a" * 300, "ab\n"])
def test_only_ids_become_paths(mine: Leases, name: str) -> None:
    with pytest.raises(StoreError, match="is no cell id"):
        mine.take(name)


def test_a_lock_that_nobody_gives_back_does_not_hang(mine: Leases) -> None:
    assert mine.take("ab") is not None
    with mine.locked(), Leases(mine.folder, beat=0.01, patience=0.05) as other:
        assert other.take("cd") is None


def test_a_beat_must_be_shorter_than_patience(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a beat must be shorter"):
        Leases(tmp_path, beat=2.0, patience=1.0)
