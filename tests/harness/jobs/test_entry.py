"""The entry of a process: exit codes, output that is written, memory that is limited."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.jobs.job import Job, JobFolder, JobLimits
from tests.harness.lock_holder import ROOT


def ended(folder: Path, way: str, memory_mib: float | None = None) -> subprocess.CompletedProcess[str]:
    JobFolder(folder).write(Job("j", "tests.harness.jobs.victims:leave", way, JobLimits(60, memory_mib)))
    command = [sys.executable, "-m", "harness.jobs.entry", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("way", "code", "out", "err"),
    [
        ("none", 0, "from Python\nfrom C\n", ""),
        ("seven", 7, "from Python\nfrom C\n", ""),
        ("exit 300", 44, "from Python\nfrom C\n", ""),
        ("words", 1, "from Python\nfrom C\n", "the last words\n"),
        ("raise", 1, "from Python\nfrom C\n", "ZeroDivisionError: division by zero\n"),
        ("interrupt", 1, "from Python\nfrom C\n", "KeyboardInterrupt\n"),
    ],
)
def test_every_end_is_that_of_an_interpreter(tmp_path: Path, way: str, code: int, out: str, err: str) -> None:
    done = ended(tmp_path, way)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (code, sorted(out.splitlines()))
    assert done.stderr.endswith(err)


def test_threads_that_are_left_are_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    assert ended(tmp_path, "thread").returncode == 0
    assert time.monotonic() - began < 40


def test_memory_is_limited(tmp_path: Path) -> None:
    assert ended(tmp_path, "hoard", memory_mib=200.0).stderr.endswith("MemoryError\n")
