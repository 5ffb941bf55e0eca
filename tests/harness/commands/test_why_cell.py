"""Why: what a person is told of a cell, and the command that runs it again."""

from __future__ import annotations

import dataclasses
import os
import shlex
import socket
from pathlib import Path

import pytest

from harness.commands.open_suite import OpenSuite
from harness.commands.why_cell import describe_cell, find
from harness.plan import Cell
from harness.results.cell_files import Outcome, StoreError
from harness.results.record import failed_record, now
from harness.results.store import Store
from tests.harness import small
from tests.harness.stored import CELLS, filled, outcome, some_cell

MISSING = dataclasses.replace(some_cell(7), dataset="a set; rm -rf 'x' ø")
PLANNED = (*CELLS, MISSING)


def failed(cell: Cell, status: str = "failed", log: str = "") -> Outcome:
    record = failed_record(cell, status, "it\nbroke", began=now(), environment={"machine": "cafe00", "commit": "12ab"})  # type: ignore[arg-type]
    return Outcome(record.model_copy(update={"attempts": 3, "peak_mib": 812.4}), {}, log)


def asked(store: Store, cell: str, runs: Path = Path("nowhere"), how: tuple[str, ...] = ()) -> str:
    opened = OpenSuite("suites/small.toml", Path("suites/small.toml"), small.suite(), store.root, runs)
    opened.__dict__.update(store=store, cells=PLANNED)
    return describe_cell(opened, cell, {}, how)


def words_of(text: str) -> list[str]:
    return shlex.split(text.splitlines()[-1].removeprefix("run it again: "))


def test_a_failed_cell(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.write(failed(CELLS[0], log="".join(f"line {i}\n" for i in range(40))))
    text = asked(store, CELLS[0].id)
    assert f"{CELLS[0].id}  steady · digits · seed 0" in text
    assert "status: failed: it\nbroke" in text
    assert "3 attempts" in text
    assert "machine cafe00, commit 12ab, 812 MiB of memory" in text
    assert "the last 25 of 40 lines" in text
    assert "  line 39" in text.splitlines()
    assert "  line 14" not in text.splitlines()
    assert words_of(text) == [
        "eavit-bench", "run", "suites/small.toml", "--method", "steady", "--dataset", "digits", "--seed", "0",
        "--retry-failed",
    ]  # fmt: skip


@pytest.mark.parametrize(("status", "switch"), [("killed", []), ("oom", ["--retry-failed"]), ("ok", ["--force"])])
def test_the_command_runs_what_would_not_run_by_itself(tmp_path: Path, status: str, switch: list[str]) -> None:
    store = filled(tmp_path)
    if status != "ok":
        store.write(failed(CELLS[0], status))
    assert words_of(asked(store, CELLS[0].id, how=("--results", "my results")))[9:] == [
        *switch,
        "--results",
        "my results",
    ]


def test_a_missing_cell_with_a_name_that_a_shell_would_eat(tmp_path: Path) -> None:
    store = filled(tmp_path)
    text = asked(store, MISSING.id)
    assert "status: missing" in text
    assert "log: none" in text
    assert words_of(text)[5:] == ["--dataset", MISSING.dataset, "--seed", "7"]
    assert asked(Store(tmp_path / "none"), MISSING.id) == text


def test_the_log_of_a_run_where_the_record_has_none(tmp_path: Path) -> None:
    store, log = filled(tmp_path / "s"), tmp_path / "runs" / MISSING.id / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"last words \xff\n")
    assert "  last words \ufffd" in asked(store, MISSING.id, tmp_path / "runs").splitlines()
    log.write_bytes(b"")
    assert "log: empty" in asked(store, MISSING.id, tmp_path / "runs")


def test_a_damaged_cell_is_missing(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (store.cells / CELLS[0].id / "correct.npz").unlink()
    assert "status: missing" in asked(store, CELLS[0].id)
    stranger = some_cell(99)
    store.write(outcome(stranger))
    assert "does not name this cell any more" in asked(store, stranger.id)
    (store.cells / stranger.id / "sha256").unlink()
    assert f"{stranger.id}\nstatus: missing" in asked(store, stranger.id)


def test_a_cell_that_is_being_run(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with store.locks.acquire(CELLS[0].id) or pytest.fail("it is free"):
        assert f"process {os.getpid()} on {socket.gethostname()} works on it now" in asked(store, CELLS[0].id)
        assert "works on it" not in asked(store, CELLS[1].id)


def test_the_start_of_an_id_is_enough(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert asked(store, CELLS[0].id[:9].upper()).startswith(CELLS[0].id)
    assert find("ab", ["ab", "abc"], "s") == "ab"
    with pytest.raises(StoreError, match="s: 2 cells begin with 'ab': abc, abd"):
        find("ab", ["abd", "abc", "ff"], "s")


def test_what_is_no_cell_is_reported_with_the_nearest(tmp_path: Path) -> None:
    store = filled(tmp_path)
    almost = CELLS[0].id[:-2] + "zz"
    with pytest.raises(StoreError, match=f"no cell begins with '{almost}'; nearest: {CELLS[0].id}"):
        asked(store, almost)
    with pytest.raises(StoreError, match="no cell begins with ''"):
        asked(store, "")
    with pytest.raises(StoreError, match="none, there are no cells"):
        find("ab", [], "s")


def test_the_noise_of_the_latency_where_it_was_recorded(tmp_path: Path) -> None:
    store, usual = filled(tmp_path), outcome(CELLS[0])
    assert "latency:" not in asked(store, CELLS[0].id)
    noise = {**usual.record.environment, "latency_spread": 0.021, "latency_disturbed": 0.5}
    store.write(dataclasses.replace(usual, record=usual.record.model_copy(update={"environment": noise})))
    assert "the middle half of repeats is 2.1% wide, 50.0% of calls were interrupted" in asked(store, CELLS[0].id)
