"""What is known of a job from outside: its end, and the progress that it tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.jobs.endings import describe_exit, read_progress
from harness.jobs.job import JobProgress


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
