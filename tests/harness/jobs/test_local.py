"""Jobs on this machine: in folders of their own, under short names."""

from __future__ import annotations

import tempfile
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


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_temporary_folder_is_the_scratch_folder_by_a_short_name(tmp_path: Path, temporary: Path) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    short = short_name(deep)
    assert short.parent == temporary
    assert short.resolve() == deep.resolve()
    assert short_name(deep) != short  # a name that a killed run left is never used again
    assert short_name(Path("/tmp/near")) == Path("/tmp/near")
    temporary.rename(tmp_path / "gone")
    assert short_name(deep) == deep  # where no link can be made


def test_short_names_of_lost_folders_are_removed_when_an_executor_closes(tmp_path: Path, temporary: Path) -> None:
    """Names that are in use, of other runs' folders and of other programs stay."""
    root, other = tmp_path / ("deep" * 20), tmp_path / ("else" * 20)
    lost, used, of_others = root / "a" / "scratch", root / "b" / "scratch", other / "a" / "scratch"
    used.mkdir(parents=True)
    short_name(lost)
    stay = {short_name(used), short_name(of_others), temporary / "link", temporary / "jobs-file"}
    (temporary / "link").symlink_to(lost)
    (temporary / "jobs-file").touch()
    LocalExecutor(root, 1).close()
    assert set(temporary.iterdir()) == stay
