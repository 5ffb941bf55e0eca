"""Forked jobs are as independent of each other as jobs in fresh interpreters, and a lost server costs none of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.jobs import environment, fork_server
from harness.jobs.fork_server import ForkServer
from harness.jobs.job import Job, JobLimits
from harness.jobs.local import LocalExecutor
from harness.jobs.processes import alive
from harness.results.record import Record
from harness.results.store import Store
from tests.harness.small import acts
from tests.harness.sweep.stub_sweeps import ROOT, cells_of, gone, run, statuses, stubs, wait_for

MODULE = "tests.harness.sweep.telling"
FORKED = {"entry": f"{MODULE}:run_job", "fork": True}

pytestmark = pytest.mark.skipif(not fork_server.available(), reason="no fork server here")


def forked(methods: list[dict[str, Any]], folder: Path, warned: list[str], **settings: Any) -> dict[str, Record]:
    summary = run(stubs(*methods), folder, **{"workers": 1, "warn": warned.append, **FORKED, **settings})
    return {record.method: record for record in summary.records.values()}


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("runs/*.json"))]


def log(folder: Path, record: Record) -> str:
    kept = Store(folder / "results").read(record.cell)
    assert kept is not None and kept.log is not None
    return kept.log


def test_a_worker_is_a_process_of_its_own_as_a_fresh_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    records = forked([*acts("a", "b", act="tell")], tmp_path / "forked", warned)
    assert {record.status for record in records.values()} == {"ok"}
    first, second = told(tmp_path / "forked")
    assert first["pid"] != second["pid"]
    assert first["server"] == second["server"] != os.getpid(), "they come from one server"
    assert first["state"] == {"imported": first["server"]}
    assert first["random"] != second["random"]
    for worker in (first, second):
        assert worker["group"] == worker["session"] == worker["pid"]
        assert worker["cwd"].startswith(str(tmp_path / "forked" / "runs"))
        assert worker["open"] == [0, 1, 2]
        assert worker["threads"] == 1
        assert worker["environment"]["OMP_NUM_THREADS"] == "1"
        assert (worker["temp"], worker["made"]) == (worker["cwd"], True)
        assert not os.path.lexists(worker["environment"]["TMPDIR"]), "it is removed with the job"
    assert not alive(first["server"])
    assert not warned
    monkeypatch.setenv("EAVIT_FORK", "0")
    forked([*acts("a", act="tell")], tmp_path / "fresh", [])
    (fresh,) = told(tmp_path / "fresh")
    assert fresh["server"] == os.getpid(), "EAVIT_FORK=0: fresh interpreters"
    assert fresh["environment"].pop("EAVIT_FORK") == "0"
    twin = next(worker for worker in (first, second) if Path(worker["cwd"]).parent.name in fresh["cwd"])
    assert shown(twin, tmp_path / "forked") == shown(fresh, tmp_path / "fresh")


def shown(process: dict[str, Any], folder: Path) -> Any:
    del process["environment"]["TMPDIR"]  # another name for each folder
    same = ("environment", "path", "handlers", "open", "threads", "limit", "broken", "tracker")
    return json.loads(json.dumps({key: process[key] for key in same}).replace(str(folder), ""))


def test_what_a_job_spoils_ends_with_it(tmp_path: Path) -> None:
    (spoil,), (tell,) = acts("spoil", act="spoil"), acts("tell", act="tell")
    assert forked([spoil, tell], tmp_path, [])["tell"].status == "ok"
    (worker,) = told(tmp_path)
    assert "SPOILT" not in worker["environment"]
    assert worker["environment"]["OMP_NUM_THREADS"] == "1"
    assert "/spoilt" not in worker["path"]
    assert "spoilt" not in worker["state"]
    assert not worker["broken"]
    assert worker["threads"] == 1
    assert worker["limit"] == 1000
    assert worker["handlers"][0] == str(signal.SIG_DFL)


def test_a_job_sees_no_secret_of_the_process_that_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in what the kernel keeps of the environment that its server was started with."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    forked([*acts("a", act="tell")], tmp_path, [])
    (worker,) = told(tmp_path)
    assert "AWS_SECRET_ACCESS_KEY" not in worker["environment"] and "AWS_SECRET" not in worker["environ"]
    assert "OMP_NUM_THREADS=1" in worker["environ"]


@pytest.mark.parametrize("fork", [True, False])
def test_every_hard_end_is_reported_and_hurts_nobody_else(tmp_path: Path, fork: bool) -> None:
    """Forked and fresh: the same statuses, reasons and logs."""
    ends = {
        "segfault": acts("segfault", act="segfault")[0],
        "sigkill": acts("sigkill", act="signal", number=9)[0],
        "fail": acts("fail", act="fail")[0],
        "words": acts("words", act="words")[0],
        "last": acts("last")[0],
    }
    warned: list[str] = []
    records = forked(list(ends.values()), tmp_path, warned, workers=2, fork=fork)
    found = {name: (record.status, record.reason.partition(";")[0]) for name, record in records.items()}
    assert found == {
        "segfault": ("failed", "crashed with SIGSEGV"),
        "sigkill": ("killed", "killed from outside by SIGKILL"),
        "fail": ("failed", "exit code 1 without a result"),
        "words": ("failed", "exit code 1 without a result"),
        "last": ("ok", ""),
    }
    assert not warned
    assert log(tmp_path, records["words"]) == "the last words\n"
    assert log(tmp_path, records["sigkill"]) == "a line of the log\n"
    text = log(tmp_path, records["fail"])
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("LookupError: out of luck\n")


def test_a_log_is_that_jobs_alone_and_complete(tmp_path: Path) -> None:
    executor = LocalExecutor(tmp_path, 1, server=ForkServer(["tests.harness.jobs.victims"], pytest.fail))
    try:
        logs = []
        for way in ("noisy", "printf"):
            running = executor.start(Job(way, "tests.harness.jobs.victims:speak", way, JobLimits(60)))
            while not running.ended():
                time.sleep(0.01)
            logs.append((running.finish(), running.process.returncode))
    finally:
        executor.close()
    (noisy, first), (printed, second) = logs
    assert (first, second) == (0, 0)
    assert noisy.log == "x" * (64 * 1024 - 8) + "the end\n"
    assert printed.log == "from C\n"


def test_a_late_job_is_ended_with_all_it_started(tmp_path: Path) -> None:
    suite = stubs(*acts("hangs", act="hang"), *acts("last"), timeout_minutes=1.0 / 60)
    summary = run(suite, tmp_path, **FORKED)
    assert statuses(summary) == {"hangs": "timeout", "last": "ok"}
    pids = next((tmp_path / "runs").glob("*/work/pids")).read_text().split()
    assert not any(alive(int(pid)) for pid in pids)


@pytest.mark.parametrize(("act", "why"), [("lose server", "exit code -9"), ("stop server", "does not report the ends")])
def test_a_lost_or_stopped_server_costs_no_job(
    tmp_path: Path, act: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "SILENCE", 0.3)
    lost, others = acts("lost", act=act), acts("a", "b")
    warned: list[str] = []
    records = forked([*lost, *others], tmp_path, warned)
    assert {name: record.status for name, record in records.items()} == {"lost": "ok", "a": "ok", "b": "ok"}
    assert len(warned) == 1
    assert warned[0].startswith("the fork server exited; falling back to fresh interpreters (slower): ")
    assert why in warned[0]


def test_a_server_that_stops_between_two_jobs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "ANSWER", 0.5)
    warned: list[str] = []
    executor = LocalExecutor(tmp_path, 1, server=ForkServer(["tests.harness.jobs.victims"], warned.append))
    try:
        for number in range(3):
            running = executor.start(Job(f"j{number}", "tests.harness.jobs.victims:speak", "printf", JobLimits(60)))
            if number == 0:
                server = psutil.Process(running.process.pid).parent()
                assert server is not None and server.pid != os.getpid()
            else:
                assert psutil.Process(running.process.pid).ppid() == os.getpid()
            running.finish()
            if number == 0:
                server.suspend()
    finally:
        executor.close()
    assert warned == ["the fork server exited; falling back to fresh interpreters (slower): no answer in 0.5 s"]
    assert not alive(server.pid)


def test_a_job_that_kills_its_supervisor_dies_with_it(tmp_path: Path) -> None:
    (killer,), others = acts("killer", act="kill supervisor"), acts("a")
    records = forked([killer, *others], tmp_path, [])
    assert {name: record.status for name, record in records.items()} == {"killer": "killed", "a": "ok"}


THREAD = "import threading, time; threading.Thread(target=time.sleep, args=(9,), name='t7', daemon=True).start()"


@pytest.mark.parametrize(
    ("source", "why", "patience"),
    [
        (THREAD, "started threads (t7)", 20.0),
        ("import os; os._exit(3)", "exit code 3", 20.0),
        ("import time; time.sleep(30)", "no answer in 0.5 s", 0.5),
    ],
)
def test_one_that_cannot_start_is_given_up(
    tmp_path: Path, source: str, why: str, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "ill.py").write_text(source)
    warned: list[str] = []
    server = ForkServer(["ill"], warned.append, patience)
    for _ in range(2):
        assert server.start(tmp_path, tmp_path, environment.clean(os.environ, ROOT)) is None
    assert len(warned) == 1
    assert why in warned[0]
    assert server.process is not None and server.process.returncode is not None
    assert not server._folder.exists()


@pytest.mark.parametrize("module", ["no.such.module", "tests.harness.fails_at_import"])
def test_a_module_that_cannot_be_imported_beforehand_is_left_to_its_job(tmp_path: Path, module: str) -> None:
    executor = LocalExecutor(tmp_path, 1, server=ForkServer([module], pytest.fail))
    try:
        running = executor.start(Job("a", "tests.harness.jobs.victims:speak", "printf", JobLimits(60)))
        while not running.ended():
            time.sleep(0.01)
        assert running.finish().log == "from C\n"
    finally:
        executor.close()


DRIVER = """
import json, sys
from pathlib import Path
from tests.harness.jobs.test_fork_server import FORKED
from tests.harness.sweep.stub_sweeps import Heard, run, stubs
summary = run(stubs(*json.loads(sys.argv[2])), Path(sys.argv[1]), **FORKED)
print(summary.interrupted, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_process_that_runs_the_jobs(tmp_path: Path, number: signal.Signals) -> None:
    hangs = acts("a", act="hang")
    command = [sys.executable, "-c", DRIVER, str(tmp_path), json.dumps(hangs)]
    (tmp_path / "tmp").mkdir()
    variables = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    at_work = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, start_new_session=True)
    (cell,) = cells_of(stubs(*hangs))
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / cell.id / "work" / "pids").split()]
    supervisor = psutil.Process(psutil.Process(pids[0]).ppid())
    pids += [supervisor.pid, supervisor.ppid()]
    assert at_work.pid not in pids
    at_work.send_signal(number)
    at_work.wait(10)
    assert gone(pids)
    left = [path.name for path in (tmp_path / "tmp").iterdir() if not path.is_symlink()]
    assert left == [], "no socket is left"


def test_no_server_starts_where_nothing_runs(tmp_path: Path, monkeypatch: Any) -> None:
    started: list[Any] = []
    monkeypatch.setattr(ForkServer, "start", lambda self, *a: started.append(self))
    suite = stubs(*acts("a"))
    run(suite, tmp_path)  # fresh
    assert not started
    run(suite, tmp_path, **FORKED)  # nothing is missing
    assert not started
