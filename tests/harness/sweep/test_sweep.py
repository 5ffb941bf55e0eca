"""The sweep: what is missing runs, once, and every way a process can end is a record.

Cells are run by tests/harness/sweep/stub.py, which starts in a tenth of a second and needs no torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.jobs.job import JobProgress
from harness.jobs.processes import alive
from harness.results import points
from harness.results.cell_files import Outcome, save_outcome
from harness.results.store import Store
from harness.suite import parse
from tests.harness import small
from tests.harness.small import acts
from tests.harness.sweep.stub_sweeps import Heard, cells_of, rows, run, statuses, stubs


def test_all_cells_run_once_and_a_second_run_starts_nothing(tmp_path: Path) -> None:
    a, b = acts("a", "b")
    suite = stubs(a, {**b, "after": ["a"]}, seeds=[0, 1])
    first = run(suite, tmp_path)
    assert len(first.ran) == 4
    assert set(statuses(first).values()) == {"ok"}
    before, heard = rows(suite, tmp_path), Heard()
    second = run(suite, tmp_path, heard, entry="nowhere.at.all:f")
    assert not second.ran
    assert heard.kept == 4
    assert rows(suite, tmp_path) == before
    assert len(before) == 4 * 2
    assert not any((tmp_path / "runs").iterdir())


def test_outputs_that_a_cell_leaves_are_kept_as_they_are(tmp_path: Path) -> None:
    suite = stubs(*acts("a"), metrics=[{"use": "a.b:c"}])
    run(suite, tmp_path)
    (cell,) = cells_of(suite)
    kept = Store(tmp_path / "results").read(cell.id)
    assert kept is not None and kept.outputs == b"as they are"


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
    assert JobProgress("train", 1, 2) in heard.steps


def test_ten_thousand_kept_cells_are_found_fast(tmp_path: Path) -> None:
    """The bar is 10 s for 10,000; a fifth of both is enough to see a change of the order."""
    suite = parse(small.raw(methods=acts(*(f"m{i}" for i in range(20))), seeds=list(range(100))), "big")
    cells, store = cells_of(suite), Store(tmp_path / "results")
    save_outcome(Outcome(small.record_of(cells[0])), tmp_path / "one")
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
    summary = run(suite, tmp_path, entry="nowhere:f")
    points.write_points(tmp_path / "points.csv", points.point_rows(cells, store.records()))
    assert not summary.ran
    assert time.process_time() - began < 4


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
