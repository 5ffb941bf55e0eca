"""The engine: what is missing runs, once; every way a process can end is a record; nothing outlives a run.

Cells are run by tests/harness/stub.py, which starts in a tenth of a second and needs no torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import plan
from harness.execution import engine
from harness.execution.children import Step
from harness.execution.engine import Settings, Summary
from harness.plan import Cell
from harness.processes.logs import CAP, scrubbed
from harness.records import points
from harness.records.record import Status
from harness.records.store import Outcome, Store, StoreError
from harness.suite import Suite, parse
from harness.verbs.progress import Lines, Tally
from tests.harness import small
from tests.harness.small import acts

ROOT = Path(__file__).resolve().parents[2]
STUB = (sys.executable, "-m", "tests.harness.stub")


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: dict[str, Status] = {}
        self.steps: list[Step] = []
        self.most = 0

    def begin(self, todo: Sequence[Cell], kept: int) -> None:
        self.todo, self.kept = [cell.method for cell in todo], kept

    def start(self, cell: Cell) -> None:
        self.started.append(cell.method)
        self.most = max(self.most, len(self.started) - len(self.ended))

    def step(self, cell: Cell, step: Step) -> None:
        self.steps.append(step)

    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None:
        self.ended[cell.method] = status

    def tick(self) -> None:
        pass


def stubs(*methods: dict[str, Any], **changes: Any) -> Suite:
    return small.suite(methods=list(methods), **changes)


def cells_of(suite: Suite) -> tuple[Cell, ...]:
    """Its cells, known by names alone: nothing of code and data is there to be compared when they run."""
    cells = plan.cells(suite, small.prints(suite))
    return tuple(
        replace(cell, content={key: value for key, value in cell.content.items() if key not in ("code", "data")})
        for cell in cells
    )


def run(suite: Suite, folder: Path, heard: Heard | None = None, **settings: Any) -> Summary:
    store = Store(folder / "results", warn=lambda text: None)
    store.prepare()
    chosen = {"workers": 2, "command": STUB, **settings}
    return engine.run(suite, cells_of(suite), store, Settings(folder / "runs", **chosen), heard or Heard())


def statuses(summary: Summary) -> dict[str, str]:
    return {record.method: record.status for record in summary.records.values()}


def rows(suite: Suite, folder: Path) -> list[dict[str, Any]]:
    volatile = ("train_seconds", "latency_ms")
    found = Store(folder / "results").points(cells_of(suite))
    return [{key: value for key, value in row.items() if key not in volatile} for row in found]


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(path: Path, seconds: float = 20.0) -> str:
    until = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        if time.monotonic() > until:
            raise TimeoutError(path)
        time.sleep(0.02)
    return path.read_text()


def test_all_cells_run_once_and_a_second_run_starts_nothing(tmp_path: Path) -> None:
    a, b = acts("a", "b")
    suite = stubs(a, {**b, "after": ["a"]}, seeds=[0, 1])
    first = run(suite, tmp_path)
    assert len(first.ran) == 4
    assert set(statuses(first).values()) == {"ok"}
    before, heard = rows(suite, tmp_path), Heard()
    second = run(suite, tmp_path, heard, command=("/nowhere/at/all",))
    assert not second.ran
    assert heard.kept == 4
    assert rows(suite, tmp_path) == before
    assert len(before) == 4 * 2
    assert not any((tmp_path / "runs").iterdir())


def test_choices_are_given_to_those_that_come_after(tmp_path: Path) -> None:
    a, b = acts("a", "b")
    summary = run(stubs(a, {**b, "after": ["a"]}), tmp_path)
    given = {record.method: record.given for record in summary.records.values()}
    assert given == {"a": {}, "b": {"a": {"0.25": "k0", "1.0": "k1"}}}


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        ({"act": "exit", "code": 3}, "failed", "exit code 3 without a result"),
        ({"act": "exit", "code": 0}, "failed", "exit code 0 without a result"),
        ({"act": "signal", "number": 9}, "killed", "killed from outside by SIGKILL"),
        ({"act": "signal", "number": 11}, "failed", "crashed with SIGSEGV"),
    ],
)
def test_every_end_is_a_record_and_others_go_on(
    tmp_path: Path, options: dict[str, Any], status: str, reason: str
) -> None:
    (bad,), (good, after) = acts("bad", **options), acts("good", "after")
    suite = stubs(bad, good, {**after, "after": ["bad"]})
    summary = run(suite, tmp_path)
    assert statuses(summary) == {"bad": status, "good": "ok", "after": "skipped"}
    records = {record.method: record for record in summary.records.values()}
    assert reason in records["bad"].reason
    assert records["after"].reason == f"needs bad · digits · seed 0 ({status})"
    lost = [row for row in rows(suite, tmp_path) if row["method"] == "bad"]
    assert [(row["status"], row["accuracy"]) for row in lost] == [(status, None)] * 2
    kept = Store(tmp_path / "results").read(records["bad"].cell)
    assert kept is not None
    assert kept.log == "a line of the log\n"
    assert (tmp_path / "runs" / records["bad"].cell / "log.txt").exists()


def test_what_failed_is_kept_until_asked_and_what_was_killed_runs_again(tmp_path: Path) -> None:
    (killed,), (failed,) = acts("killed", act="once"), acts("failed", act="exit", code=1)
    suite = stubs(killed, failed)
    assert statuses(run(suite, tmp_path)) == {"killed": "killed", "failed": "failed"}
    second = Heard()
    assert statuses(run(suite, tmp_path, second)) == {"killed": "ok", "failed": "failed"}
    assert second.started == ["killed"]
    third, fourth = Heard(), Heard()
    run(suite, tmp_path, third, retry_failed=True)
    assert third.started == ["failed"]
    run(suite, tmp_path, fourth, force=True)
    assert sorted(fourth.started) == ["failed", "killed"]


def test_a_skipped_cell_runs_when_what_it_needs_is_there(tmp_path: Path) -> None:
    (first,), (after,) = acts("first", act="once"), acts("after")
    suite = stubs(first, {**after, "after": ["first"]})
    assert statuses(run(suite, tmp_path)) == {"first": "killed", "after": "skipped"}
    assert statuses(run(suite, tmp_path)) == {"first": "ok", "after": "ok"}


def test_a_kept_cell_is_not_run_again_if_it_would_be_given_the_same(tmp_path: Path) -> None:
    a, b = acts("a", "b")
    suite = stubs(a, {**b, "after": ["a"]})
    run(suite, tmp_path)
    store, cell = Store(tmp_path / "results", warn=lambda text: None), cells_of(suite)[0]
    (store.cells / cell.id / "record.json").write_text("{}")
    heard = Heard()
    assert statuses(run(suite, tmp_path, heard)) == {"a": "ok", "b": "ok"}
    assert heard.started == ["a"]


def test_a_hanging_cell_is_ended_with_all_it_started(tmp_path: Path) -> None:
    suite = stubs(*acts("hangs", act="hang"), timeout_minutes=1.5 / 60)
    began = time.monotonic()
    summary = run(suite, tmp_path)
    assert time.monotonic() - began < 8
    assert statuses(summary) == {"hangs": "timeout"}
    pids = (tmp_path / "runs" / summary.ran[0] / "work" / "pids").read_text().split()
    assert not any(alive(int(pid)) for pid in pids)


def test_cells_that_others_wait_for_start_first_and_workers_are_bounded(tmp_path: Path) -> None:
    a, b, c, d, e = acts("a", "b", "c", "d", "e", seconds=0.1)
    suite = stubs(a, b, c, {**d, "after": ["c"]}, {**e, "after": ["d"]})
    heard = Heard()
    run(suite, tmp_path, heard, workers=1)
    assert heard.started == ["c", "d", "a", "b", "e"]
    assert heard.most == 1
    heard = Heard()
    run(suite, tmp_path, heard, force=True)
    assert heard.most == 2
    assert Step("train", 1, 2) in heard.steps


def test_a_full_disk_costs_one_cell_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Store.write

    def refuse(self: Store, outcome: Any, lease: Any) -> None:
        if outcome.record.method == "a":
            raise StoreError("the disk is full")
        write(self, outcome, lease)

    monkeypatch.setattr(Store, "write", refuse)
    summary = run(stubs(*acts("a", "b")), tmp_path)
    assert statuses(summary) == {"b": "ok"}
    assert list(summary.lost.values()) == ["the disk is full"]


DRIVER = """
import json, sys
from pathlib import Path
from tests.harness.test_engine import Heard, run, stubs
import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)
summary = run(stubs(*json.loads(sys.argv[2]), seeds=[0, 1]), Path(sys.argv[1]))
print(summary.interrupted, len(summary.records), flush=True)
"""


def driver(folder: Path, *methods: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A run in a process of its own, to be interrupted or killed."""
    command = [sys.executable, "-c", DRIVER, str(folder), json.dumps(methods)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)


def test_killed_in_mid_suite_and_run_again_gives_the_points_of_a_whole_run(tmp_path: Path) -> None:
    methods = acts("a", "b", "c", seconds=0.3)
    methods[2]["after"] = ["a"]
    suite = stubs(*methods, seeds=[0, 1])
    run(suite, tmp_path / "whole")
    expected = rows(suite, tmp_path / "whole")
    for trial, moment in enumerate((0.2, 0.9)):
        folder = tmp_path / f"killed{trial}"
        at_work = driver(folder, *methods)
        until = time.monotonic() + 20
        while not list(folder.glob("runs/*/job.json")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(moment)
        at_work.kill()
        at_work.wait()
        done = Store(folder / "results").records()
        assert len(done) < 6, "the kill came after the end: nothing was tested"
        again = Heard()
        run(suite, folder, again)
        assert len(again.started) == 6 - len(done)
        assert rows(suite, folder) == expected


def test_no_child_outlives_a_killed_run(tmp_path: Path) -> None:
    at_work = driver(tmp_path, *acts("a", act="hang"))
    (work,) = cells_of(stubs(*acts("a", act="hang"), seeds=[0]))
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / work.id / "work" / "pids").split()]
    assert alive(pids[0])
    at_work.kill()
    at_work.wait()
    until = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_it_keeps_whole_cells_and_ends_its_children(tmp_path: Path, number: signal.Signals) -> None:
    (quick,), (hangs,) = acts("quick"), acts("hangs", act="hang")
    at_work = driver(tmp_path, quick, hangs)
    cell = next(cell for cell in cells_of(stubs(quick, hangs)) if cell.method == "hangs")
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / cell.id / "work" / "pids").split()]
    quick_cell = cells_of(stubs(quick))[0].id
    wait_for(tmp_path / "results" / "cells" / quick_cell / "sha256")
    at_work.send_signal(number)
    out, _ = at_work.communicate(timeout=15)
    assert out.split()[0] == b"True"
    assert quick_cell in Store(tmp_path / "results").records()
    assert not any(alive(pid) for pid in pids)
    assert "hangs" not in {record.method for record in Store(tmp_path / "results").records().values()}


def test_interrupted_twice_it_ends_at_once_and_leaves_no_child(tmp_path: Path) -> None:
    at_work = driver(tmp_path, *acts("stubborn", act="stubborn"))
    cell = cells_of(stubs(*acts("stubborn", act="stubborn")))[0]
    pids = [int(pid) for pid in wait_for(tmp_path / "runs" / cell.id / "work" / "pids").split()]
    at_work.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    at_work.send_signal(signal.SIGINT)
    at_work.communicate(timeout=15)
    assert at_work.returncode != 0
    assert time.monotonic() - began < 0.8 * engine.GRACE
    assert not any(alive(pid) for pid in pids)


def test_logs_name_no_place_on_this_machine() -> None:
    packages = "/opt/v/lib/python3.11/site-packages"
    text = f'File "{ROOT}/harness/x.py", line 3\nFile "{packages}/torch/a.py"\n/home/bob/s/t.txt: no'
    assert scrubbed(text) == 'File "harness/x.py", line 3\nFile "torch/a.py"\n…/t.txt: no'
    assert scrubbed("Expected /home/bob/photos/train/<class>/<files>.") == "Expected …/train/<class>/<files>."
    assert scrubbed("1/2/3 and https://a.b/c/d") == "1/2/3 and https://a.b/c/d"


def test_a_log_is_cut_to_its_end(tmp_path: Path) -> None:
    from harness.processes.logs import CappedLog

    printing = "import sys\nfor i in range(3000): sys.stdout.write('x' * 999 + '\\n')\nprint('the end')"
    process = subprocess.Popen([sys.executable, "-c", printing], stdout=subprocess.PIPE)
    assert process.stdout is not None
    tail = CappedLog(process.stdout, tmp_path / "log.txt").close(20)
    process.wait()
    assert len(tail) == CAP
    assert tail.endswith("the end\n")
    assert (tmp_path / "log.txt").stat().st_size <= 4 * CAP
    assert (tmp_path / "log.txt").read_text().endswith("the end\n")


def test_plain_lines_tell_counts_and_the_time_left() -> None:
    now, lines = [0.0], list[str]()
    cells = cells_of(stubs(*acts("a", "b"), seeds=[0, 1]))
    told = Lines(Tally(workers=2, clock=lambda: now[0]), lines.append)
    told.begin(cells, 3)
    for cell in cells[:2]:
        told.start(cell)
    now[0] = 40.0
    told.tick()
    told.step(cells[1], Step("train", 3, 9))
    told.finish(cells[0], "ok", 40.0, "")
    now[0] = 100.0
    told.tick()
    told.tick()
    told.finish(cells[1], "failed", 100.0, "why")
    assert lines[0].startswith("at work [0/4 cells · 2 running · 3 kept · time left unknown]")
    assert lines[1] == "ok          a · digits · seed 0 (0:40)  [1/4 cells · 1 running · 3 kept · about 0:40 left]"
    assert lines[2].endswith("; b · digits · seed 0: train 3/9")
    assert lines[3].startswith("failed      b · digits · seed 0 (1:40): why  [2/4 cells")
    assert len(lines) == 4


def test_ten_thousand_kept_cells_are_found_fast(tmp_path: Path) -> None:
    """The bar is 10 s for 10,000; a fifth of both is enough to see a change of the order."""
    suite = parse(small.raw(methods=acts(*(f"m{i}" for i in range(20))), seeds=list(range(100))), "big")
    cells, store = cells_of(suite), Store(tmp_path / "results")
    from harness.records.store import save

    save(Outcome(small.record_of(cells[0])), tmp_path / "one")
    text = (tmp_path / "one" / "record.json").read_text()
    import hashlib

    for cell in cells:
        folder = store.cells / cell.id
        folder.mkdir(parents=True)
        files = {name: (tmp_path / "one" / name).read_bytes() for name in ("cell.json", "correct.npz")}
        files["record.json"] = text.replace(cells[0].id, cell.id).encode()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
        (folder / "sha256").write_text(sums)
    began = time.process_time()
    summary = run(suite, tmp_path, command=("/nowhere",))
    points.write(tmp_path / "points.csv", store.points(cells))
    assert not summary.ran
    assert time.process_time() - began < 4


SECOND = """
import json, sys
from pathlib import Path
from tests.harness.test_engine import Heard, run, stubs
folder, methods, options = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
summary = run(stubs(*methods, seeds=[0, 1]), folder, **options)
print(json.dumps([sorted(summary.records), summary.ran, summary.elsewhere]), flush=True)
"""


def runner(folder: Path, methods: list[dict[str, Any]], **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SECOND, str(folder), json.dumps(methods), json.dumps(options)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize("force", [False, True])
def test_two_runs_on_one_store_train_each_cell_once_and_both_know_all(tmp_path: Path, force: bool) -> None:
    methods = acts("a", "b", "c", seconds=0.3, count=str(tmp_path / "count"))
    methods[2]["after"] = ["a"]
    suite = stubs(*methods, seeds=[0, 1])
    expected = sorted(cell.id for cell in cells_of(suite))
    if force:
        run(suite, tmp_path)
        for file in (tmp_path / "count").iterdir():
            file.unlink()
    both = [runner(tmp_path, methods, workers=1, force=force) for _ in range(2)]
    told = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted(file.name for file in (tmp_path / "count").iterdir()) == expected, "one training of each"
    assert [records for records, _, _ in told] == [expected] * 2
    (_, ran, elsewhere), (_, ran_too, elsewhere_too) = told
    assert ran and ran_too, "both had work"
    assert sorted(ran + ran_too) == expected
    assert set(elsewhere) <= set(ran_too)
    assert set(elsewhere_too) <= set(ran)
    assert not list((tmp_path / "results" / "leases").glob("*.json")), "released"


def test_a_cell_whose_run_was_killed_is_taken_over_by_one_that_waits(tmp_path: Path) -> None:
    methods = acts("a", act="hang-once", count=str(tmp_path / "count"))
    first = runner(tmp_path, methods, workers=2)
    wait_for(tmp_path / "runs" / cells_of(stubs(*methods))[0].id / "work" / "pids")
    second = runner(tmp_path, methods, workers=2)
    time.sleep(1)
    assert second.poll() is None, "it waits for what the first one is at"
    first.kill()
    first.wait()
    began = time.monotonic()
    records, ran, elsewhere = json.loads(second.communicate(timeout=30)[0])
    assert time.monotonic() - began < 15, "a process of this machine is seen to be gone: no patience is needed"
    assert len(records) == len(ran) == 2
    assert elsewhere == []
    attempts = {record.attempts for record in Store(tmp_path / "results").records().values()}
    assert attempts == {2}


def test_a_run_that_lost_its_lease_leaves_the_record_to_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, warned, heard = stubs(*acts("a")), list[str](), Heard()
    (cell,) = cells_of(suite)
    other = small.record_of(cell)
    write = Store.write

    def late(self: Store, outcome: Any, lease: Any = None) -> None:
        if lease is not None:  # another one took it over, finished, and released it
            lease.release()
            write(self, Outcome(other))
        write(self, outcome, lease)

    monkeypatch.setattr(Store, "write", late)
    summary = run(suite, tmp_path, heard, warn=warned.append)
    assert summary.records == {cell.id: other}
    assert (summary.ran, summary.elsewhere) == ([cell.id], [cell.id])
    assert len(warned) == 1
    assert "took it over" in warned[0]
    assert Store(tmp_path / "results").records() == {cell.id: other}


def test_only_what_is_strictly_missing_runs_if_so_asked(tmp_path: Path) -> None:
    (killed,), (failed,) = acts("killed", act="signal", number=9), acts("failed", act="exit", code=1)
    suite = stubs(killed, failed, seeds=[0])
    run(suite, tmp_path)
    wider, heard = stubs(killed, failed, *acts("new"), seeds=[0]), Heard()
    summary = run(wider, tmp_path, heard, only_missing=True)
    assert heard.started == ["new"]
    assert statuses(summary) == {"killed": "killed", "failed": "failed", "new": "ok"}
    heard = Heard()
    run(wider, tmp_path, heard)
    assert heard.started == ["killed"]


def test_after_its_hours_a_run_stops_as_if_interrupted(tmp_path: Path) -> None:
    (quick,), (hangs,), (later,) = acts("quick"), acts("hangs", act="hang"), acts("later")
    suite = stubs(quick, hangs, {**later, "after": ["hangs"]})
    began = time.monotonic()
    summary = run(suite, tmp_path, max_hours=2.5 / 3600)
    assert time.monotonic() - began < 10
    assert summary.out_of_time
    assert not summary.interrupted
    assert statuses(summary) == {"quick": "ok"}
    pids = next((tmp_path / "runs").glob("*/work/pids")).read_text().split()
    assert not any(alive(int(pid)) for pid in pids)
    assert not run(stubs(quick), tmp_path, max_hours=1.0).out_of_time


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The store on 4 MiB: what does not fit any more is lost and said, what is there stays whole."""
    place = tmp_path / "results"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.decode().strip()}")
    try:
        suite = stubs(*acts("a"), *acts("fills", act="fill-away", to=str(place)), *acts("c"))
        summary = run(suite, tmp_path, workers=1)
        assert statuses(summary) == {"a": "ok"}
        lost = {next(cell.method for cell in cells_of(suite) if cell.id == one) for one in summary.lost}
        assert lost == {"fills", "c"}
        assert all("the disk is full" in why for why in summary.lost.values())
        assert not list((place / "cells").glob(".tmp-*"))
        (place / "ballast").unlink()
        assert set(statuses(run(stubs(*acts("a", "c")), tmp_path)).values()) == {"ok"}
    finally:
        subprocess.run(["umount", str(place)], check=True)
