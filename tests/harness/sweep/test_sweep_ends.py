"""The sweep's own end and its company: killed, interrupted, out of time, on a full disk, two on one store.

Nothing outlives a run and nothing whole is lost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.commands.progress import Lines, Tally
from harness.jobs import scheduler
from harness.jobs.job import JobFolder
from harness.jobs.processes import alive
from harness.results import cell_files, maintenance
from harness.results.cell_files import Outcome, StoreError
from harness.results.store import Store
from harness.sweep import cell_job
from harness.sweep.cell_job import CellJob
from tests.harness import small
from tests.harness.small import acts
from tests.harness.sweep.stub_sweeps import (
    STUB,
    Heard,
    cells_of,
    driver,
    gone,
    rows,
    run,
    runner,
    statuses,
    stubs,
    wait_for,
)


def test_killed_in_mid_suite_and_run_again_gives_the_points_of_a_whole_run(tmp_path: Path) -> None:
    methods = acts("a", "b", "c", seconds=0.3)
    methods[2]["after"] = ["a"]
    suite = stubs(*methods, seeds=[0, 1])
    run(suite, tmp_path / "whole")
    expected = rows(suite, tmp_path / "whole")
    for trial, moment in enumerate((0.2, 0.9)):
        folder = tmp_path / f"killed{trial}"
        at_work = driver(folder, *methods)
        until = time.monotonic() + 20
        while not list(folder.glob("runs/*/job.json")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(moment)
        at_work.kill()
        at_work.wait()
        done = Store(folder / "results").records()
        assert len(done) < 6, "the kill came after the end: nothing was tested"
        again = Heard()
        summary = run(suite, folder, again)
        assert len(again.started) + len(summary.recovered) == 6 - len(done)
        assert rows(suite, folder) == expected


def test_no_child_outlives_a_killed_run(tmp_path: Path) -> None:
    at_work = driver(tmp_path, *acts("a", act="hang"))
    (work,) = cells_of(stubs(*acts("a", act="hang"), seeds=[0]))
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / work.id / "work" / "pids").split()]
    assert alive(pids[0])
    at_work.kill()
    at_work.wait()
    assert gone(pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_it_keeps_whole_cells_and_ends_its_children(tmp_path: Path, number: signal.Signals) -> None:
    (quick,), (hangs,) = acts("quick"), acts("hangs", act="hang")
    at_work = driver(tmp_path, quick, hangs)
    cell = next(cell for cell in cells_of(stubs(quick, hangs)) if cell.method == "hangs")
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / cell.id / "work" / "pids").split()]
    quick_cell = cells_of(stubs(quick))[0].id
    wait_for(tmp_path / "results" / "cells" / quick_cell / "sha256")
    at_work.send_signal(number)
    out, _ = at_work.communicate(timeout=15)
    assert out.split()[0] == b"True"
    assert quick_cell in Store(tmp_path / "results").records()
    assert not any(alive(pid) for pid in pids)
    assert "hangs" not in {record.method for record in Store(tmp_path / "results").records().values()}


def test_interrupted_twice_it_ends_at_once_and_leaves_no_child(tmp_path: Path) -> None:
    at_work = driver(tmp_path, *acts("stubborn", act="stubborn"))
    cell = cells_of(stubs(*acts("stubborn", act="stubborn")))[0]
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / cell.id / "work" / "pids").split()]
    at_work.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    at_work.send_signal(signal.SIGINT)
    at_work.communicate(timeout=15)
    assert at_work.returncode != 0
    assert time.monotonic() - began < 0.8 * scheduler.GRACE
    assert not any(alive(pid) for pid in pids)


def test_after_its_hours_a_run_stops_as_if_interrupted(tmp_path: Path) -> None:
    (quick,), (hangs,), (later,) = acts("quick"), acts("hangs", act="hang"), acts("later")
    suite = stubs(quick, hangs, {**later, "after": ["hangs"]})
    began = time.monotonic()
    summary = run(suite, tmp_path, max_hours=2.5 / 3600)
    assert time.monotonic() - began < 10
    assert summary.out_of_time
    assert not summary.interrupted
    assert statuses(summary) == {"quick": "ok"}
    pids = next((tmp_path / "runs").glob("*/work/pids")).read_text().split()
    assert not any(alive(int(pid)) for pid in pids)
    assert not run(stubs(quick), tmp_path, max_hours=1.0).out_of_time


@pytest.mark.parametrize("force", [False, True])
def test_two_runs_on_one_store_train_each_cell_once_and_both_know_all(tmp_path: Path, force: bool) -> None:
    methods = acts("a", "b", "c", seconds=0.3, count=str(tmp_path / "count"))
    methods[2]["after"] = ["a"]
    suite = stubs(*methods, seeds=[0, 1])
    expected = sorted(cell.id for cell in cells_of(suite))
    if force:
        run(suite, tmp_path)
        for file in (tmp_path / "count").iterdir():
            file.unlink()
    both = [runner(tmp_path, methods, workers=1, force=force) for _ in range(2)]
    told = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted(file.name for file in (tmp_path / "count").iterdir()) == expected, "one training of each"
    assert [records for records, _, _ in told] == [expected] * 2
    (_, ran, elsewhere), (_, ran_too, elsewhere_too) = told
    assert ran and ran_too, "both had work"
    assert sorted(ran + ran_too) == expected
    assert set(elsewhere) <= set(ran_too)
    assert set(elsewhere_too) <= set(ran)
    assert not list((tmp_path / "results" / "locks").iterdir()), "released"


def test_a_cell_whose_run_was_killed_is_taken_over_by_one_that_waits(tmp_path: Path) -> None:
    methods = acts("a", act="hang-once", count=str(tmp_path / "count"))
    first = runner(tmp_path, methods, workers=2)
    wait_for(tmp_path / "runs" / cells_of(stubs(*methods))[0].id / "work" / "pids")
    second = runner(tmp_path, methods, workers=2)
    time.sleep(1)
    assert second.poll() is None, "it waits for what the first one is at"
    first.kill()
    first.wait()
    began = time.monotonic()
    records, ran, elsewhere = json.loads(second.communicate(timeout=30)[0])
    assert time.monotonic() - began < 15, "a process of this machine is seen to be gone: no patience is needed"
    assert len(records) == len(ran) == 2
    assert elsewhere == []
    attempts = {record.attempts for record in Store(tmp_path / "results").records().values()}
    assert attempts == {2}


def test_a_stopped_run_keeps_its_cell_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is ended: then the cell is free at once, whatever it had stopped at."""
    monkeypatch.setattr(scheduler, "PATIENCE", 0.2)
    methods = acts("a", act="hang-once")
    first = runner(tmp_path, methods, seeds=[0])
    wait_for(tmp_path / "runs" / cells_of(stubs(*methods))[0].id / "work" / "pids")
    first.send_signal(signal.SIGSTOP)
    warned: list[str] = []

    def end(text: str) -> None:
        warned.append(text)
        first.kill()

    summary = run(stubs(*methods), tmp_path, warn=end)
    first.wait()
    assert len(warned) == 1
    assert warned[0].startswith(f"a · digits · seed 0: process {first.pid} on ")
    assert warned[0].endswith(" works on it; waiting for that run")
    assert statuses(summary) == {"a": "ok"}
    assert (summary.ran, summary.elsewhere) == (list(summary.records), [])


def test_an_outcome_that_cannot_be_kept_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has room again when the run ends."""
    write, refusals = Store.write, ["a"]

    def refuse(self: Store, outcome: Any) -> None:
        if outcome.record.method in refusals:
            refusals.remove(outcome.record.method)
            raise StoreError("the disk is full")
        write(self, outcome)

    monkeypatch.setattr(Store, "write", refuse)
    warned: list[str] = []
    summary = run(stubs(*acts("a", "b")), tmp_path, warn=warned.append)
    assert warned == ["a · digits · seed 0: its outcome was kept at the second attempt"]
    assert statuses(summary) == {"a": "ok", "b": "ok"}
    assert not summary.lost
    assert set(Store(tmp_path / "results").records()) == set(summary.records)
    assert not any((tmp_path / "runs").iterdir())


def test_an_outcome_that_cannot_be_kept_is_taken_in_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write

    def refuse(self: Store, outcome: Any) -> None:
        if outcome.record.method == "a":
            raise StoreError("the disk is full")
        write(self, outcome)

    monkeypatch.setattr(Store, "write", refuse)
    suite = stubs(*acts("a", "b", count=str(tmp_path / "count")))
    summary = run(suite, tmp_path)
    assert statuses(summary) == {"b": "ok"}
    (cell, reason), *_ = summary.lost.items()
    assert reason == f"the disk is full; its outcome is left in {tmp_path}/runs/{cell} for the next run"
    monkeypatch.undo()
    again = run(suite, tmp_path)
    assert statuses(again) == {"a": "ok", "b": "ok"}
    assert (again.ran, again.recovered) == ([], [cell])
    assert len(list((tmp_path / "count").iterdir())) == 2, "one training of each"
    assert not any((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("change", ["forced", "other choices", "damaged", "kept"])
def test_what_is_left_in_a_folder_is_taken_in_only_if_it_is_what_the_run_would_do(tmp_path: Path, change: str) -> None:
    suite = stubs(*acts("a"))
    (cell,) = cells_of(suite)
    folder = JobFolder(tmp_path / "runs" / cell.id)
    given = {"b": {"1.0": "k"}} if change == "other choices" else {}
    folder.write(cell_job.job_of(CellJob(cell=cell, suite=suite, given=given), STUB, None, 1.0))
    cell_files.save_outcome(Outcome(small.record_of(cell, correct=1)), folder.result)
    if change == "damaged":
        (folder.result / "sha256").unlink()
    if change == "kept":
        store = Store(tmp_path / "results")
        store.prepare()
        store.write(Outcome(small.record_of(cell, correct=2)))
    summary = run(suite, tmp_path, force=change == "forced")
    assert summary.recovered == []
    assert summary.ran == ([] if change == "kept" else [cell.id])
    assert summary.records[cell.id].points[0].correct != 1


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_a_listener_that_cannot_write_does_not_end_the_sweep(tmp_path: Path, stream: str) -> None:
    (bad,), (good,) = acts("bad", act="exit", code=1), acts("good")
    with Path("/dev/full" if stream == "full" else os.devnull).open("wb", buffering=0) as out:
        if stream == "closed":
            out.close()
        summary = run(stubs(bad, good), tmp_path, Lines(Tally(2), lambda text: print(out.write(text.encode()))))
    assert statuses(summary) == {"bad": "failed", "good": "ok"}
    assert not summary.interrupted


def test_files_that_a_cell_leaves_are_a_reason_and_the_sweep_and_its_store_go_on(tmp_path: Path) -> None:
    suite = stubs(*acts("hostile", act="hostile"), *acts("good"))
    summary = run(suite, tmp_path)
    assert statuses(summary) == {"hostile": "failed", "good": "ok"}
    reason = next(record.reason for record in summary.records.values() if record.method == "hostile")
    assert reason.startswith("its outcome cannot be read: not whole (record.json: not a regular file)")
    store = Store(tmp_path / "results", warn=pytest.fail)
    faults = {fault.what for fault in maintenance.verify(store)}
    assert all("identity does not hash" in fault for fault in faults), "stubs have no code and no data"
    assert len(maintenance.merge(Store(tmp_path / "other"), [store]).written) == 2
    assert len(rows(suite, tmp_path)) == 4


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The store on 4 MiB: what does not fit any more is lost and said, what is there stays whole."""
    place = tmp_path / "results"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.decode().strip()}")
    try:
        suite = stubs(*acts("a"), *acts("fills", act="fill-away", to=str(place)), *acts("c"))
        summary = run(suite, tmp_path, workers=1)
        assert statuses(summary) == {"a": "ok"}
        lost = {next(cell.method for cell in cells_of(suite) if cell.id == one) for one in summary.lost}
        assert lost == {"fills", "c"}
        assert all("the disk is full" in why for why in summary.lost.values())
        assert not list((place / "cells").glob(".tmp-*"))
        (place / "ballast").unlink()
        assert set(statuses(run(stubs(*acts("a", "c")), tmp_path)).values()) == {"ok"}
    finally:
        subprocess.run(["umount", str(place)], check=True)
