"""What cells may take: found where kernels say it, counted for all processes and files of a cell, and ended whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.jobs import limits
from harness.jobs.job import JobLimits
from harness.jobs.limits import UsageMonitor
from tests.harness.sweep.stub_sweeps import ROOT, gone, wait_for

GIB = float(2**30)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/memory.max": "1073741824\n", "a/b/memory.max": "max\n"}, [GIB]),
        ("5:cpu,memory:/c\n0::/\n", {"memory/c/memory.limit_in_bytes": "2147483648\n"}, [2 * GIB]),
        ("3:cpuset:/\n", {"memory/memory.limit_in_bytes": "1"}, []),
        ("", {}, []),
    ],
)
def test_the_least_limit_of_a_group_and_of_those_around_it(
    tmp_path: Path, own: str, files: dict[str, str], expected: list[float]
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    assert limits.cgroup_limits(tmp_path / "own", tmp_path / "mount") == expected


def test_a_machine_leaves_a_tenth_to_others() -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    assert 0 < limits.machine_mib() <= 0.9 * whole


def test_a_folder_weighs_what_its_files_take(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"x" * (3 << 20))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "away").symlink_to("/usr")
    assert 3 <= limits.folder_mib(tmp_path) < 3.2
    assert limits.folder_mib(tmp_path / "none") == 0


def test_a_limit_of_data_refuses_memory_and_says_so() -> None:
    code = "from harness.jobs.entry import limit_data as limit; limit(300); limit(900); b'x' * (500 << 20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr
    assert done.returncode == 1


HELPERS = """
import os, subprocess, sys, time
from harness.jobs.supervisor import fork_worker
fork_worker()
kept = b"x" * (40 << 20)
code = "import os, sys, time; kept = b'x' * (30 << 20); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
for new, name in ((False, "near"), (True, "apart")):
    subprocess.Popen([sys.executable, "-c", code, name], start_new_session=new)
open("self", "w").write(str(os.getpid()))
time.sleep(60)
"""


def test_helpers_count_and_outlive_not_even_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", HELPERS], cwd=tmp_path, env=variables, start_new_session=True)
    pids = [int(wait_for(tmp_path / name)) for name in ("self", "near", "apart")]
    monitor = UsageMonitor(process.pid, tmp_path, JobLimits(60, memory_mib=1000.0))
    assert monitor.check() is None
    assert monitor.peak_mib is not None
    assert 100 < monitor.peak_mib < 200
    assert monitor.check() is None
    exceeded = UsageMonitor(process.pid, tmp_path, JobLimits(60, memory_mib=90.0)).check()
    assert exceeded is not None
    assert exceeded[0] == "oom"
    assert "90 allowed (peak 1" in exceeded[1]
    process.kill()
    process.wait()  # its worker dies with it; the helpers are nobody's children now, and were seen before
    monitor.kill_seen()
    assert gone(pids)
