"""Jobs on this machine: in folders of their own, under short names."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from harness.jobs.fork_server import ForkServer
from harness.jobs.job import Job, JobLimits, JobProgress
from harness.jobs.local import LocalExecutor, describe_exit, read_progress, short_name
from harness.jobs.processes import alive


@pytest.mark.parametrize("preload", [None, ["tests.harness.jobs.victims"]])
def test_no_process_survives_its_job(tmp_path: Path, preload: list[str] | None) -> None:
    """Sixty children in sessions of their own, a double fork, one that ignores signals; fresh and forked."""
    server = None if preload is None else ForkServer(preload, pytest.fail)
    executor = LocalExecutor(tmp_path, 1, server=server)
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
    """Names that are in use, of other machines and of other programs stay."""
    lost, used = (tmp_path / ("deep" * 20) / name / "scratch" for name in "ab")
    used.mkdir(parents=True)
    mine = short_name(lost)
    stay = {short_name(used), temporary / "jobs-ffffffff-01234567", temporary / "link", mine.with_name(f"{mine.name}x")}
    for link in (temporary / "jobs-ffffffff-01234567", temporary / "link"):
        link.symlink_to(lost)
    mine.with_name(f"{mine.name}x").touch()
    LocalExecutor(tmp_path, 1).close()
    assert set(temporary.iterdir()) == stay


@pytest.mark.parametrize(
    ("code", "tail", "status", "reason"),
    [
        (1, "", "failed", "exit code 1 without a result"),
        (0, "No space left on device", "failed", "exit code 0 without a result"),
        (-9, "", "killed", "killed from outside by SIGKILL; memory may have run out"),
        (-15, "", "killed", "killed from outside by SIGTERM; memory may have run out"),
        (-6, "", "failed", "crashed with SIGABRT"),
        (-64, "", "failed", "crashed with SIGRTMAX"),
        (-6, "what():  std::bad_alloc\n", "oom", "memory could not be allocated; crashed with SIGABRT"),
        (
            1,
            "numpy.MemoryError: 3 GiB\n",
            "oom",
            "memory could not be allocated; exit code 1 without a result",
        ),
        (1, "OSError: No space left on device\n", "failed", "disk: No space left on device; exit code 1"),
        (1, "No space left on device" + "." * 3000, "failed", "exit code 1 without a result"),
    ],
)
def test_every_end_has_a_status_and_a_reason(code: int, tail: str, status: str, reason: str) -> None:
    found = describe_exit(code, tail)
    assert found[0] == status
    assert found[1].startswith(reason)


def test_the_newest_complete_line_is_the_progress(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    assert read_progress(path, 0) == (0, None)
    path.write_text('{"phase": "a", "done": 1, "total": 3}\n{"phase": "b", "done": 2, "total": 3}\n{"pha')
    start, progress = read_progress(path, 0)
    assert progress == JobProgress("b", 2, 3)
    assert read_progress(path, start) == (start, None)
    with path.open("a") as file:
        file.write('se": "c", "done": 3, "total": 3}\n')
    assert read_progress(path, start)[1] == JobProgress("c", 3, 3)


@pytest.mark.parametrize(
    "line",
    [
        '{"phase": "a", "done": Infinity, "total": 1}',
        '{"phase": "a", "done": 1e999, "total": 1}',
        '{"phase": "a", "done": NaN, "total": 1}',
        "[" * 50_000,
        '{"phase": "a", "done": ' + "9" * 5000 + ', "total": 1}',
        '{"phase": "a"}',
        "[1]",
        "\x00",
    ],
)
def test_a_line_of_anything_else_is_no_progress(tmp_path: Path, line: str) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text(line + "\n")
    assert read_progress(path, 0) == (len(line) + 1, None)


def test_a_file_that_is_no_file_or_endless_is_no_progress(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        assert read_progress(tmp_path / name, 0)[1] is None
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 8 << 30)
    with (tmp_path / "huge").open("ab") as file:
        file.write(b'\n{"phase": "a", "done": 1, "total": 1}\n')
    assert read_progress(tmp_path / "huge", 0)[1] == JobProgress("a", 1, 1)
