"""Calls of strangers' functions: whatever these do, the caller gets a value or one error in time."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from harness.jobs import local
from harness.jobs.call import CallError, call, call_each
from harness.jobs.fork_server import ForkServer
from harness.jobs.processes import alive

VICTIMS = "tests.harness.jobs.victims"


def test_a_value_comes_back_from_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert call(f"{VICTIMS}:double", ["å", 1.5, None], 30) == ["å", 1.5, None] * 2
    seen = call(f"{VICTIMS}:where", None, 30)
    assert seen["group"] == seen["pid"] != os.getpid()
    assert "AWS_SECRET_ACCESS_KEY" not in seen["environment"]
    assert not Path(seen["cwd"]).exists()


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("raise", "ZeroDivisionError: division by zero"),
        ("unspeakable", "SpokenError: its text cannot be read: ValueError"),
        ("base", "KeyboardInterrupt: stop"),
        ("exit", "SystemExit: 0"),
        ("os exit", "exit code 0 without a result"),
        ("segfault", "crashed with SIGSEGV"),
        ("kill", "killed from outside by SIGKILL"),
        ("infinite", "ValueError: Out of range float"),
        ("object", "TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_every_other_end_is_one_error(way: str, reason: str) -> None:
    with pytest.raises(CallError, match=f"^{re.escape(reason)}"):
        call(f"{VICTIMS}:end", way, 30)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import time; time.sleep(60)", "not done after 2 s"),
        ("import os; os._exit(0)", "exit code 0 without a result"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise BaseException('bad')", "BaseException: bad"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("", "AttributeError: module 'ill_module' has no attribute 'f'"),
    ],
)
def test_a_module_that_ends_hangs_or_raises_at_import(
    tmp_path: Path, source: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "ill_module.py").write_text(source)
    with pytest.raises(CallError) as caught:
        call("ill_module:f", None, 2)
    assert str(caught.value) == reason


def test_an_error_brings_the_log() -> None:
    with pytest.raises(CallError) as caught:
        call(f"{VICTIMS}:end", "raise", 30)
    assert caught.value.log.endswith("ZeroDivisionError: division by zero\n")


def test_threads_that_a_call_leaves_are_not_waited_for() -> None:
    began = time.monotonic()
    assert call(f"{VICTIMS}:leave_thread", None, 40) == "done"
    assert time.monotonic() - began < 30


def test_no_process_survives_a_call() -> None:
    """Sixty children, a double fork, one that ignores SIGTERM."""
    pids = call(f"{VICTIMS}:leave_processes", None, 60)
    assert len(pids) == 62
    assert not [pid for pid in pids if alive(pid)]


def test_a_stopped_supervisor_is_ended_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "GRACE", 0.5)
    with pytest.raises(CallError, match="not done after 2 s"):
        call(f"{VICTIMS}:stop_supervisor", str(tmp_path / "pids"), 2)
    assert not [pid for pid in (tmp_path / "pids").read_text().split() if alive(int(pid))]


def test_a_bad_payload_costs_itself_alone(tmp_path: Path) -> None:
    told = str(tmp_path / "told")
    good, dead, alike, late = call_each(f"{VICTIMS}:tell", [[told, "a"], [told, "die"], [told, "b"], [told, "hang"]], 8)
    assert (good, alike) == ("a", "b")
    assert isinstance(dead, CallError) and str(dead) == "exit code 3 without a result"
    assert isinstance(late, CallError) and str(late) == "not done after 8 s"
    assert Path(told).read_text() == "a die b hang hang "  # one that is late is tried once more, by itself


def test_a_function_that_is_not_there_is_reported_for_each_payload() -> None:
    found = call_each(f"{VICTIMS}:nowhere", [1, 2], 30)
    assert [isinstance(each, CallError) for each in found] == [True, True]


def test_a_fork_server_serves_several_calls_with_what_it_has_imported() -> None:
    server = ForkServer([VICTIMS], pytest.fail)
    try:
        assert call(f"{VICTIMS}:double", [1], 30, server=server) == [1, 1]
        assert server.process is not None
        seen = call(f"{VICTIMS}:where", None, 30, server=server, threads=2)
        assert seen["environment"]["OMP_NUM_THREADS"] == "2" and not server.lost
        with pytest.raises(CallError, match="exit code 0 without a result"):
            call(f"{VICTIMS}:end", "os exit", 30, server=server)
        assert call_each(f"{VICTIMS}:double", [["a"], ["b"]], 30, server=server) == [["a", "a"], ["b", "b"]]
    finally:
        server.close()
