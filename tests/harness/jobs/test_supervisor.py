"""The supervisor ends as its worker did, passes SIGTERM on, and leaves nobody when its pipe is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.jobs.processes import alive, children
from tests.harness.lock_holder import ROOT
from tests.harness.sweep.stub_sweeps import gone, wait_for

HEAD = "import os, signal, subprocess, sys, time\nfrom harness.jobs.supervisor import fork_worker\nfork_worker()\n"


def supervised(code: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("sys.exit(7)", 7),
        ("os._exit(0)", 0),
        ("raise SystemExit", 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("os.kill(os.getpid(), signal.SIGRTMAX)", -signal.SIGRTMAX),
        ("os.abort()", -signal.SIGABRT),
    ],
)
def test_it_ends_as_its_worker_did(tmp_path: Path, code: str, end: int) -> None:
    with supervised(code, tmp_path) as process:
        assert process.wait(20) == end


def test_a_worker_has_a_session_of_its_own_and_no_hold_on_the_pipe(tmp_path: Path) -> None:
    code = "print(os.getpid() == os.getpgrp() == os.getsid(0), os.path.samefile('/dev/fd/0', os.devnull), flush=True)"
    with supervised(code, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"True True\n"
        assert process.wait(20) == 0


def test_sigterm_is_for_the_worker(tmp_path: Path) -> None:
    """Which may finish what it is at."""
    code = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); open('ready', 'w').write('x'); time.sleep(60)"
    with supervised(code, tmp_path) as process:
        wait_for(tmp_path / "ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 5


def test_when_the_pipe_is_closed_nobody_is_left(tmp_path: Path) -> None:
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "own = [subprocess.Popen(['sleep', '60'], start_new_session=True).pid for _ in range(5)]\n"
        "open('pids', 'w').write(' '.join(map(str, [os.getpid(), *own]))); time.sleep(60)"
    )
    with supervised(code, tmp_path) as process:
        pids = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
        assert set(children(process.pid, recursive=True)) == set(pids)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == -signal.SIGKILL
        assert not [pid for pid in pids if alive(pid)]


def test_a_worker_dies_with_its_supervisor(tmp_path: Path) -> None:
    with supervised("open('pid', 'w').write(str(os.getpid())); time.sleep(60)", tmp_path) as process:
        pid = int(wait_for(tmp_path / "pid"))
        process.kill()
        process.wait()
        assert gone([pid])
