"""Jobs on this machine: in folders of their own, under short names."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.jobs.job import Job, JobLimits
from harness.jobs.local import LocalExecutor, short_name
from harness.jobs.processes import alive


@pytest.mark.parametrize("preload", [None, ["tests.harness.jobs.victims"]])
def test_no_process_survives_its_job(tmp_path: Path, preload: list[str] | None) -> None:
    """Sixty children in sessions of their own, a double fork, one that ignores signals; fresh and forked."""
    executor = LocalExecutor(tmp_path, 1, preload=preload, warn=pytest.fail)
    try:
        running = executor.start(Job("a", "tests.harness.jobs.victims:leave_processes_behind", None, JobLimits(60)))
        while not running.ended():
            time.sleep(0.01)
        pids = (running.folder.work / "pids").read_text().split()
        assert len(pids) == 62
        assert not [pid for pid in pids if alive(int(pid))]
        assert running.finish().reason == "exit code 0 without a result"
    finally:
        executor.close()


def test_a_killed_job_is_ended_with_all_it_started(tmp_path: Path) -> None:
    running = LocalExecutor(tmp_path, 1).start(
        Job("a", "tests.harness.jobs.victims:leave_processes_behind", "and wait", JobLimits(60))
    )
    pids = running.folder.work / "pids"
    until = time.monotonic() + 30
    while not (pids.exists() and pids.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    ending = running.finish()
    assert ending.status == "killed"
    assert not [pid for pid in pids.read_text().split() if alive(int(pid))]


def test_a_temporary_folder_is_the_scratch_folder_by_a_short_name(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    short = short_name(deep)
    assert len(str(short)) < 60
    assert short.resolve() == deep.resolve()
    assert short_name(deep) == short  # what a killed run left is taken up again
    short.unlink()
    short.symlink_to(tmp_path)  # not ours: nothing may be written where somebody else points
    assert short_name(deep) == deep
    short.unlink()
    assert short_name(Path("/tmp/near")) == Path("/tmp/near")
