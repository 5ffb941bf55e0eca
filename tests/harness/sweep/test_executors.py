"""Cells on this machine: limited, started from nothing or from their checkpoints, in one process or in several."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.jobs.job import Job, JobFolder
from harness.jobs.processes import alive
from harness.results import record
from harness.results.cell_files import Outcome
from harness.results.record import Status
from harness.results.store import Store
from harness.sweep import cell_job, executors
from harness.sweep.cell_job import ENTRY, CellJob
from harness.sweep.pending import Settings
from tests.harness import small
from tests.harness.small import FAKES, acts
from tests.harness.sweep.stub_sweeps import cells_of, run, statuses, stubs


def test_a_cell_over_its_memory_is_ended_and_others_go_on(tmp_path: Path) -> None:
    hoards, good = acts("hoards", act="hoard", mib=400), acts("good")
    summary = run(stubs(*hoards, *good), tmp_path, memory_gib=0.25)
    assert statuses(summary) == {"hoards": "oom", "good": "ok"}
    kept = next(kept for kept in summary.records.values() if kept.method == "hoards")
    assert kept.reason.endswith(f"256 allowed (peak {kept.peak_mib:.0f} MiB)")
    assert kept.peak_mib is not None
    assert kept.peak_mib > 256
    helpers = (tmp_path / "runs" / kept.cell / "work" / "helper").read_text().split()
    assert not any(alive(int(helper)) for helper in helpers)


def test_a_cell_over_its_disk_is_ended_and_what_it_wrote_removed(tmp_path: Path) -> None:
    fills, good = acts("fills", act="fill", mib=30), acts("good")
    summary = run(stubs(*fills, *good), tmp_path, disk_gib=20 / 1024)
    assert statuses(summary) == {"fills": "failed", "good": "ok"}
    kept = next(kept for kept in summary.records.values() if kept.method == "fills")
    assert re.fullmatch(r"disk: its folder took [23]\d MiB, 20 allowed", kept.reason)
    assert kept.disk_mib is not None
    assert 20 < kept.disk_mib < 31
    assert not (tmp_path / "runs" / kept.cell / "work").exists()
    assert (tmp_path / "runs" / kept.cell / "log.txt").exists()


def test_a_full_disk_when_a_cell_starts_costs_that_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = JobFolder.write

    def full(self: JobFolder, job: Job) -> None:
        if job.title.startswith("a "):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, job)

    monkeypatch.setattr(JobFolder, "write", full)
    summary = run(stubs(*acts("a", "b")), tmp_path)
    assert statuses(summary) == {"a": "failed", "b": "ok"}
    assert {record.reason for record in summary.records.values()} == {"disk: No space left on device", ""}


@pytest.mark.parametrize(
    ("status", "same_given", "attempt"),
    [(None, True, 3), ("killed", True, 3), ("timeout", True, 3), ("failed", True, 1), ("killed", False, 1)],
)
def test_a_start_goes_on_where_the_last_one_was_ended_from_outside(
    tmp_path: Path, status: Status | None, same_given: bool, attempt: int
) -> None:
    """Only then: checkpoints of another work are removed, as those of a work that failed by itself."""
    suite = stubs(*acts("a", act="exit", code=1))
    (cell,) = cells_of(suite)
    store = Store(tmp_path / "results")
    store.prepare()
    if status is not None:
        store.write(Outcome(record.failed_record(cell, status, "", began=record.now(), environment={})))
    given = {} if same_given else {"other": {"1.0": "k"}}
    folders = JobFolder(tmp_path / "runs" / cell.id)
    folders.write(cell_job.job_of(CellJob(cell=cell, suite=suite, given=given, attempt=2), "x:y", None, 1.0))
    folders.work.mkdir()
    (folders.work / "starts").write_text("xx")
    ended = run(suite, tmp_path, retry_failed=True)
    assert ended.records[cell.id].attempts == attempt
    assert (folders.work / "starts").read_text() == "x" * attempt


def test_several_processes_train_one_cell_and_one_tells_of_it(tmp_path: Path) -> None:
    """Ranks sum a number, over the loopback device alone."""
    suite = small.suite(methods=[{"use": f"{FAKES}:together"}], processes=2)
    summary = run(suite, tmp_path, entry=ENTRY, workers=1)
    (kept,) = summary.records.values()
    assert (kept.status, kept.reason) == ("ok", "")
    assert kept.environment["processes"] == 2
    told = {"sum": 3.0, "address": "127.0.0.1", "scratch": "scratch"}
    assert told.items() <= kept.diagnostics.items()


def test_a_fork_server_that_is_given_is_used_for_another_suite(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "runs", workers=1)
    first = executors.on_this_machine(small.suite(), settings)
    assert first.server is not None
    assert executors.on_this_machine(small.suite(name="other"), settings, first.server).server is first.server
    assert executors.on_this_machine(small.suite(), replace(settings, fork=False), first.server).server is first.server


def test_only_our_modules_are_imported_before_any_cell() -> None:
    """A stranger's module is imported in the process of its own cell, where all that it does ends with the cell."""

    def preloaded(*uses: str, backbone: str = "back.bone:f") -> list[str]:
        suite = stubs(*({"name": f"m{i}", "use": use} for i, use in enumerate(uses)), backbone={"use": backbone})
        return executors.preloaded(suite, "a.module:run")

    assert preloaded("a.b:x", "a.b:y") == ["a.module"]
    assert preloaded("eavit.methods:x", "a.b:y", backbone="timm:create_model") == ["a.module", "timm", "eavit.methods"]
    assert preloaded("eavit_like:x", "a.b:y", backbone="eavit.weights:pico") == ["a.module", "eavit.weights"]
