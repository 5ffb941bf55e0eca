"""What cells may take: found where kernels say it, counted for all processes and files of a cell, and ended whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.processes import bounds
from harness.processes.bounds import Watch
from tests.harness.engined import alive, wait_for

GIB = float(2**30)


@pytest.mark.parametrize(
    ("own", "files", "limits"),
    [
        ("0::/a/b\n", {"a/memory.max": "1073741824\n", "a/b/memory.max": "max\n"}, [GIB]),
        ("5:cpu,memory:/c\n0::/\n", {"memory/c/memory.limit_in_bytes": "2147483648\n"}, [2 * GIB]),
        ("3:cpuset:/\n", {"memory/memory.limit_in_bytes": "1"}, []),
        ("", {}, []),
    ],
)
def test_the_least_limit_of_a_group_and_of_those_around_it(
    tmp_path: Path, own: str, files: dict[str, str], limits: list[float]
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    assert bounds._cgroup_limits(tmp_path / "own", tmp_path / "mount") == limits


def test_a_machine_leaves_a_tenth_to_others() -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    found = bounds.machine_mib()
    assert found is not None
    assert 0 < found <= 0.9 * whole


def test_a_folder_weighs_what_its_files_take(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"x" * (3 << 20))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "away").symlink_to("/usr")
    assert 3 <= bounds.folder_mib(tmp_path) < 3.2
    assert bounds.folder_mib(tmp_path / "none") == 0


def test_a_limit_of_data_refuses_memory_and_says_so() -> None:
    code = "from harness.processes import bounds; bounds.limit_data(300); bounds.limit_data(900); b'x' * (500 << 20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr
    assert done.returncode == 1


HELPERS = """
import os, subprocess, sys, time
kept = b"x" * (40 << 20)
code = "import os, sys, time; kept = b'x' * (30 << 20); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
for new, name in ((False, "near"), (True, "apart")):
    subprocess.Popen([sys.executable, "-c", code, name], start_new_session=new)
open("self", "w").write(str(os.getpid()))
time.sleep(60)
"""


def test_helpers_count_and_are_ended_in_whatever_session_they_are(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HELPERS], cwd=tmp_path, start_new_session=True)
    pids = [int(wait_for(tmp_path / name)) for name in ("self", "near", "apart")]
    watch = Watch(process.pid, tmp_path, memory=1000.0)
    assert watch.look() is None
    assert watch.peak_mib is not None
    assert 100 < watch.peak_mib < 200
    assert watch.look() is None
    strict = Watch(process.pid, tmp_path, memory=90.0)
    broken = strict.look()
    assert broken is not None
    assert broken[0] == "oom"
    assert "90 allowed (peak 1" in broken[1]
    process.kill()
    process.wait()  # the helper in a session of its own is nobody's child now, and was seen before
    watch.kill(signal.SIGKILL)
    until = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def test_a_number_that_was_given_again_is_not_killed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"], start_new_session=True)
    ended.wait()
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        watch = Watch(ended.pid, tmp_path)
        watch._groups[other.pid] = "1"  # a leader of that number that was born at another time
        watch.kill(signal.SIGKILL)
        time.sleep(0.1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
