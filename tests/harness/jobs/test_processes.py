"""Processes: which are alive, what they leave."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness.jobs.processes import alive, temporary_folder


def test_a_process_that_ended_is_not_alive_even_if_nobody_has_waited_for_it() -> None:
    assert alive(os.getpid())
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert alive(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not alive(process.pid)
    assert not alive(process.pid)


def test_folders_of_processes_that_were_killed_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    own = f"a-{socket.gethostname()}-"
    kept = {f"{own}{os.getpid()}-y", f"{own}z", f"a-elsewhere-{dead.pid}-x", f"b-{socket.gethostname()}-{dead.pid}-x"}
    for name in (f"{own}{dead.pid}-x", *kept):
        (tmp_path / name / "inner").mkdir(parents=True)
    with temporary_folder("a-") as made:
        assert made.parent == tmp_path
        (made / "file").touch()
    assert {path.name for path in tmp_path.iterdir()} == kept
