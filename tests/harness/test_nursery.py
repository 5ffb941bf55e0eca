"""A nursery: cells forked from one process are as apart from each other as cells in fresh interpreters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.execution import children, job, local
from harness.processes import forked
from harness.processes.forked import Nursery
from harness.results.record import Record
from harness.results.store import Store
from tests.harness.engined import ROOT, alive, cells_of, run, statuses, stubs, wait_for
from tests.harness.small import acts

ENTRY = "tests.harness.nursed"
NURSED = {"command": (sys.executable, "-m", ENTRY), "entry": ENTRY}

pytestmark = pytest.mark.skipif(not forked.available(), reason="no nursery here")


def nursed(methods: list[dict[str, Any]], folder: Path, warned: list[str], **settings: Any) -> dict[str, Record]:
    summary = run(stubs(*methods), folder, **{"workers": 1, "warn": warned.append, **NURSED, **settings})
    return {record.method: record for record in summary.records.values()}


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("runs/*.json"))]


def log(folder: Path, record: Record) -> str:
    kept = Store(folder / "results").read(record.cell)
    assert kept is not None and kept.log is not None
    return kept.log


def test_a_child_is_a_process_of_its_own_as_a_fresh_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    records = nursed([*acts("a", "b", act="tell")], tmp_path / "forked", warned)
    assert {record.status for record in records.values()} == {"ok"}
    first, second = told(tmp_path / "forked")
    assert first["pid"] != second["pid"]
    assert first["parent"] == second["parent"] != os.getpid(), "they come from one nursery"
    assert first["state"] == {"imported": first["parent"]}
    assert first["random"] != second["random"]
    for child in (first, second):
        assert child["group"] == child["session"] == child["pid"]
        assert child["cwd"].startswith(str(tmp_path / "forked" / "runs"))
        assert child["open"] == [0, 1, 2]
        assert child["threads"] == 1
        assert child["environment"]["OMP_NUM_THREADS"] == "1"
        assert (child["temp"], child["made"]) == (child["cwd"], True)
        assert not os.path.lexists(child["environment"]["TMPDIR"]), "it is removed with the cell"
    assert not alive(first["parent"])
    assert not warned
    monkeypatch.setenv("EAVIT_NURSERY", "0")
    nursed([*acts("a", act="tell")], tmp_path / "fresh", [])
    (fresh,) = told(tmp_path / "fresh")
    assert fresh["parent"] == os.getpid(), "EAVIT_NURSERY=0 means no nursery"
    assert fresh["environment"].pop("EAVIT_NURSERY") == "0"
    twin = next(child for child in (first, second) if Path(child["cwd"]).parent.name in fresh["cwd"])
    assert shown(twin, tmp_path / "forked") == shown(fresh, tmp_path / "fresh")


def shown(process: dict[str, Any], folder: Path) -> Any:
    del process["environment"]["TMPDIR"]  # another random name for each cell
    same = ("environment", "path", "handlers", "open", "threads", "limit", "broken")
    return json.loads(json.dumps({key: process[key] for key in same}).replace(str(folder), ""))


def test_what_a_cell_spoils_ends_with_it(tmp_path: Path) -> None:
    (spoil,), (tell,) = acts("spoil", act="spoil"), acts("tell", act="tell")
    assert nursed([spoil, tell], tmp_path, [])["tell"].status == "ok"
    (child,) = told(tmp_path)
    assert "SPOILT" not in child["environment"]
    assert child["environment"]["OMP_NUM_THREADS"] == "1"
    assert "/spoilt" not in child["path"]
    assert "spoilt" not in child["state"]
    assert not child["broken"]
    assert child["threads"] == 1
    assert child["limit"] == 1000
    assert child["handlers"][0] == str(signal.SIG_DFL)


@pytest.mark.parametrize("nursery", ["1", "0"])
def test_every_hard_end_is_told_and_hurts_nobody_else(
    tmp_path: Path, nursery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without: the same statuses, reasons and logs."""
    monkeypatch.setenv("EAVIT_NURSERY", nursery)
    ends = {
        "segfault": acts("segfault", act="segfault")[0],
        "sigkill": acts("sigkill", act="signal", number=9)[0],
        "fail": acts("fail", act="fail")[0],
        "words": acts("words", act="words")[0],
        "last": acts("last")[0],
    }
    warned: list[str] = []
    records = nursed(list(ends.values()), tmp_path, warned, workers=2)
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


def test_a_log_is_that_cells_alone_and_whole(tmp_path: Path) -> None:
    noisy, c = acts("noisy", act="noisy")[0], acts("c", act="printf")[0]
    nursery = Nursery(ENTRY, [], lambda text: None)
    try:
        logs = []
        for method in (noisy, c):
            suite = stubs(method)
            (cell,) = cells_of(suite)
            logs.append(_log_of(nursery, suite, cell, tmp_path / method["name"]))
    finally:
        nursery.close()
    assert logs[0] == b"x" * 300_000 + b"the end\na line of the log\n"
    assert logs[1] == b"from C\na line of the log\n"


def _log_of(nursery: Nursery, suite: Any, cell: Any, root: Path) -> bytes:
    folders = job.Folders(root)
    for folder in (folders.scratch, folders.out, folders.work):
        folder.mkdir(parents=True)
    job.write(job.Job(cell=cell, suite=suite, given={}), folders.job)
    environment = children.environment(1, os.environ, ROOT)
    child = nursery.start([str(folders.root), str(folders.out)], folders.scratch, environment)
    assert child is not None
    text = child.stdout.read()
    assert child.wait() == child.poll() == 0
    for end in (child.stdin, child.stdout):
        end.close()
    return text


def test_a_late_cell_is_ended_with_all_it_started(tmp_path: Path) -> None:
    suite = stubs(*acts("hangs", act="hang"), *acts("last"), timeout_minutes=1.0 / 60)
    summary = run(suite, tmp_path, **NURSED)
    assert statuses(summary) == {"hangs": "timeout", "last": "ok"}
    pids = next((tmp_path / "runs").glob("*/work/pids")).read_text().split()
    assert not any(alive(int(pid)) for pid in pids)


def test_a_lost_nursery_costs_its_cells_and_no_others(tmp_path: Path) -> None:
    (orphan,), others = acts("orphan", act="orphan"), acts("a", "b")
    warned: list[str] = []
    records = nursed([orphan, *others], tmp_path, warned)
    assert {name: record.status for name, record in records.items()} == {"orphan": "killed", "a": "ok", "b": "ok"}
    assert len(warned) == 1
    assert "nursery is lost" in warned[0]


THREAD = "import threading, time; threading.Thread(target=time.sleep, args=(9,), name='t7', daemon=True).start()"


@pytest.mark.parametrize(
    ("source", "why", "patience"),
    [
        ("raise ImportError('no luck at import')", "no luck at import", 20.0),
        (THREAD, "started threads (t7)", 20.0),
        ("import os; os._exit(3)", "exit code 3", 20.0),
        ("import time; time.sleep(30)", "timed out", 0.5),
    ],
)
def test_one_that_cannot_start_is_given_up(
    tmp_path: Path, source: str, why: str, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "ill.py").write_text(source)
    warned: list[str] = []
    nursery = Nursery("ill", [], warned.append, patience)
    for _ in range(2):
        assert nursery.start([], tmp_path, children.environment(1, os.environ, ROOT)) is None
    assert len(warned) == 1
    assert why in warned[0]
    assert nursery.process is not None and nursery.process.returncode is not None


def test_a_module_that_cannot_be_imported_beforehand_is_left_to_its_cell(tmp_path: Path) -> None:
    nursery = Nursery(ENTRY, ["no.such.module", "tests.harness.fails_at_import"], pytest.fail)
    suite = stubs(*acts("a"))
    try:
        assert _log_of(nursery, suite, cells_of(suite)[0], tmp_path) == b"a line of the log\n"
    finally:
        nursery.close()


def test_a_strangers_module_is_imported_beforehand_only_if_all_cells_import_it() -> None:
    def shared(*uses: str) -> list[str]:
        suite = stubs(*({"name": f"m{i}", "use": use} for i, use in enumerate(uses)), backbone={"use": "back.bone:f"})
        return local.shared(suite, cells_of(suite))

    assert shared("a.b:x", "a.b:y") == ["back.bone", "a.b"]
    assert shared("eavit.methods:x", "a.b:y") == ["back.bone", "eavit.methods"]
    assert shared("eavit_like:x", "a.b:y") == ["back.bone"]


DRIVER = """
import json, sys
from pathlib import Path
from tests.harness.test_nursery import NURSED
from tests.harness.engined import Heard, run, stubs
summary = run(stubs(*json.loads(sys.argv[2])), Path(sys.argv[1]), **NURSED)
print(summary.interrupted, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_engine(tmp_path: Path, number: signal.Signals) -> None:
    hangs = acts("a", act="hang")
    command = [sys.executable, "-c", DRIVER, str(tmp_path), json.dumps(hangs)]
    at_work = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    (cell,) = cells_of(stubs(*hangs))
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / cell.id / "work" / "pids").split()]
    nursery = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    assert nursery != at_work.pid
    at_work.send_signal(number)
    at_work.wait(10)
    until = time.monotonic() + 5
    while any(alive(pid) for pid in [*pids, nursery]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in [*pids, nursery])


def test_it_does_not_start_for_other_commands_or_for_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    started: list[Any] = []
    monkeypatch.setattr(Nursery, "start", lambda self, *a: started.append(self))
    suite = stubs(*acts("a"))
    run(suite, tmp_path)  # the stub by its command
    assert not started
    run(suite, tmp_path, **NURSED)  # nothing is missing
    assert not started
