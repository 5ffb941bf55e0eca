"""The store: read(write(x)) == x, and whatever is cut or flipped, every other cell is still read."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import plan
from harness.plan import Cell
from harness.records import cellfiles, points, store
from harness.records.leases import Process
from harness.records.record import STATUSES, Point, Record, Spent, environment, failure, now
from harness.records.store import Outcome, Store, StoreError
from tests.harness import small
from tests.harness.mounts import mounted


def some_cell(seed: int, **changes: object) -> Cell:
    content = {"budgets": [0.25, 1.0], "seed": seed, "method": {"use": "any.where:at_all"}, **changes}
    return Cell(plan.digest(content)[:16], "small", "steady", "digits", seed, (), content)


CELLS = tuple(some_cell(seed) for seed in range(3))

text = st.text(max_size=20)
count = st.integers(0, 2**70)
number = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
tables = st.dictionaries(text, json_values, max_size=3)
some_points = st.builds(
    Point, budget=st.floats(0.01, 1), status=st.sampled_from(STATUSES), key=st.none() | text, macs=st.none() | count,
    params=st.none() | count, correct=st.none() | count, n=st.none() | count, latency_ms=st.none() | number,
    reason=text,
)  # fmt: skip
spent = st.builds(Spent, seconds=number, forward_macs=number, backward_macs=number, images=count, steps=count)
records = st.builds(
    Record, cell=st.just("c" * 16), suite=text, method=text, dataset=text, seed=count, identity=tables,
    status=st.sampled_from(STATUSES), reason=text, points=st.lists(some_points, max_size=3).map(tuple),
    attempts=count, peak_mib=st.none() | number, disk_mib=st.none() | number,
    full_macs=st.none() | count, choice_hash=st.none() | text, data=tables, diagnostics=tables, environment=tables,
    given=st.dictionaries(text, st.dictionaries(text, text, max_size=2), max_size=2),
    ledger=st.dictionaries(text, spent, max_size=2), started=text, finished=text, seconds=number,
)  # fmt: skip
outcomes = st.builds(
    Outcome, records, st.dictionaries(st.floats(0.01, 1), st.binary(max_size=30), max_size=3), text
)  # fmt: skip


def outcome(cell: Cell, log: str = "") -> Outcome:
    bits = np.array([True] * 7 + [False] * 9)
    return Outcome(small.record_of(cell), {b: store.pack(bits) for b in (0.25, 1.0)}, log)


def filled(folder: Path, log: str = "") -> Store:
    kept = Store(folder, warn=lambda text: None)
    kept.prepare()
    for cell in CELLS:
        kept.write(outcome(cell, log))
    return kept


@given(outcomes)
def test_what_is_written_is_read(written: Outcome) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = Store(Path(folder) / "s")
        kept.prepare()
        kept.write(written)
        assert kept.read("c" * 16) == written
        assert kept.record("c" * 16) == written.record
        assert kept.ids() == ["c" * 16]


def test_bitmaps_come_back_as_truth_values(tmp_path: Path) -> None:
    read = filled(tmp_path).read(CELLS[0].id)
    assert read is not None
    assert read.correct(0.25).tolist() == [True] * 7 + [False] * 9


@pytest.mark.parametrize("name", ["sha256", "record.json", "cell.json", "correct.npz", "log.txt"])
def test_a_store_cut_at_any_byte_reads_every_other_cell(tmp_path: Path, name: str) -> None:
    """Every byte of the checksums, a spread of bytes of the others."""
    warnings: list[str] = []
    kept = filled(tmp_path / "store", log="a line\n" * 9)
    kept = Store(kept.root, warn=warnings.append)
    folder = kept.cells / CELLS[1].id
    shutil.copytree(folder, tmp_path / "whole")
    size = (folder / name).stat().st_size
    for length in range(0, size, 1 if name == "sha256" else max(1, size // 12)):
        os.truncate(folder / name, length)
        assert set(kept.records()) == {CELLS[0].id, CELLS[2].id}
        assert len(warnings) == 1
        assert CELLS[1].id in warnings.pop()
        (quarantined,) = (kept.root / "quarantine").iterdir()
        shutil.rmtree(quarantined)
        shutil.copytree(tmp_path / "whole", folder)
        assert set(kept.records()) == {cell.id for cell in CELLS}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("whole")).root


@given(st.sampled_from(["sha256", "record.json", "cell.json", "correct.npz"]), st.floats(0, 1), st.integers(0, 7))
def test_a_flipped_bit_is_found(whole: Path, file: str, place: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = Store(Path(shutil.copytree(whole, Path(folder) / "s")), warn=lambda text: None)
        path = kept.cells / CELLS[0].id / file
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1 << bit
        path.write_bytes(content)
        assert kept.read(CELLS[0].id) is None
        assert kept.read(CELLS[1].id) is not None


@pytest.mark.parametrize("name", ["sha256", "record.json", "correct.npz"])
def test_a_missing_file_is_a_missing_cell(tmp_path: Path, name: str) -> None:
    kept = filled(tmp_path)
    (kept.cells / CELLS[0].id / name).unlink()
    assert CELLS[0].id not in kept.records()


def test_quarantine_keeps_what_was_there_before(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    for _ in range(3):
        kept.write(outcome(CELLS[0]))
        (kept.cells / CELLS[0].id / "sha256").unlink()
        assert kept.read(CELLS[0].id) is None
    assert len(list((tmp_path / "quarantine").iterdir())) == 3


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = filled(tmp_path)
    full = OSError(28, "No space left on device")

    def refuse(path: Path, data: bytes) -> None:
        if path.name == "correct.npz":
            raise full

    monkeypatch.setattr(cellfiles, "write_flushed", refuse)
    with pytest.raises(StoreError, match="the disk is full"):
        kept.write(outcome(CELLS[0], log="new"))
    monkeypatch.undo()
    read = kept.read(CELLS[0].id)
    assert read is not None
    assert read.log == ""
    assert not list(kept.cells.glob(".tmp*"))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    folder = kept.cells / CELLS[0].id
    changed = json.loads((folder / "record.json").read_text()) | {"schema_version": 3}
    (folder / "record.json").write_text(json.dumps(changed))
    sums = subprocess.run(["sha256sum", "cell.json", "record.json", "correct.npz"], cwd=folder, capture_output=True)
    (folder / "sha256").write_bytes(sums.stdout)
    with pytest.raises(StoreError, match="record of schema 3, this program knows up to 2: use a newer"):
        kept.records()


def test_checksums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    kept = filled(tmp_path, log="x")
    done = subprocess.run(["sha256sum", "-c", "sha256"], cwd=kept.cells / CELLS[0].id, capture_output=True, text=True)
    assert done.stdout.count(": OK") == 4


def test_a_store_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the store cannot be written: .*; nothing was run"):
        Store(tmp_path / "file" / "store").prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_store_is_told(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "cells").chmod(0o555)
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path).prepare()


def test_a_store_on_a_read_only_disk_is_told_and_still_read(tmp_path: Path) -> None:
    """Also what is damaged in it: it cannot be moved, and counts as missing."""
    with mounted(tmp_path / "small", "size=1m") as place:
        kept = filled(place)
        (kept.cells / CELLS[0].id / "sha256").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        warnings: list[str] = []
        kept = Store(place, warn=warnings.append)
        with pytest.raises(StoreError, match="cannot be written: Read-only file system; nothing was run"):
            kept.prepare()
        with pytest.raises(StoreError, match="could not be kept: Read-only file system"):
            kept.write(outcome(CELLS[0]))
        assert set(kept.records()) == {CELLS[1].id, CELLS[2].id}
        assert "could not be moved" in warnings[0]
        assert len(kept.summaries(cell.id for cell in CELLS)) == 2  # without an index


def test_a_full_disk_refuses_a_cell_and_keeps_the_others(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=400k") as place:
        kept = filled(place)
        with kept.leases() as leases:
            lease = leases.take(CELLS[1].id)
            with pytest.raises(StoreError, match=f"cell {CELLS[1].id} could not be kept: the disk is full"):
                kept.write(outcome(CELLS[1], log="x" * 10**6), lease)
            assert not list(kept.cells.glob(".tmp*"))
            assert all((read := kept.read(cell.id)) is not None and read.log == "" for cell in CELLS)
            kept.write(outcome(CELLS[1], log="short"), lease)  # others go on
        with (place / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"x" * 512)
        with pytest.raises(StoreError, match="cannot be written: the disk is full; nothing was run"):
            Store(place).prepare()
        assert set(kept.records()) == {cell.id for cell in CELLS}


def test_what_dead_writers_left_is_removed(tmp_path: Path) -> None:
    """And what is being written now, or on another machine, is not."""
    kept = filled(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = Process.here()
    dead, elsewhere = Process(here.boot, gone.pid, 1), Process("0" * 12, gone.pid, 1)
    left = {
        f".tmp-{CELLS[0].id}-{writer}-00ff{old}": writer for writer in (dead, elsewhere, here) for old in ("", "-old")
    }
    for name in (*left, f".tmp-{CELLS[0].id}-123"):
        (kept.cells / name).mkdir()
        (kept.cells / name / "record.json").write_text("{")
    assert {path.name: writer for path, writer in kept.leftovers()} == {**left, f".tmp-{CELLS[0].id}-123": None}
    kept.prepare()
    assert {path.name for path, _ in kept.leftovers()} == {
        *(name for name, writer in left.items() if writer != dead), f".tmp-{CELLS[0].id}-123"
    }  # fmt: skip
    assert set(kept.records()) == {cell.id for cell in CELLS}


def test_status_without_data_is_missing(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    for cell, names in zip(CELLS, (["sha256"], ["correct.npz"], ["correct.npz", "sha256"]), strict=True):
        for name in names:
            (kept.cells / cell.id / name).unlink()
    assert kept.records() == {}
    assert kept.summaries(cell.id for cell in CELLS) == {}


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "å b", "x" * 300, "AB", ".tmp-ab"])
def test_names_that_are_no_ids_never_become_paths(tmp_path: Path, name: str) -> None:
    kept = filled(tmp_path)
    made = outcome(CELLS[0])
    for act in (
        lambda: kept.write(Outcome(made.record.model_copy(update={"cell": name}))),
        lambda: kept.read(name),
        lambda: kept.summaries([name]),
    ):
        with pytest.raises(StoreError, match="is no cell id"):
            act()
    assert kept.records([name]) == {}


def test_a_lease_is_for_one_cell(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    with kept.leases() as leases, pytest.raises(StoreError, match="under the lease of cell"):
        kept.write(outcome(CELLS[0], "new"), leases.take(CELLS[1].id))
    read = kept.read(CELLS[0].id)
    assert read is not None
    assert read.log == ""


def test_what_is_removed_is_gone_as_a_whole(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    with kept.leases() as leases:
        lease = leases.take(CELLS[0].id)
        assert lease is not None
        kept.remove(CELLS[0].id, lease)
        kept.remove(CELLS[0].id, lease)
    assert kept.ids() == sorted(cell.id for cell in CELLS[1:])
    assert not kept.leftovers()


def test_a_cell_that_is_replaced_while_it_is_read_is_not_taken_for_damaged(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    reader = Store(tmp_path, warn=pytest.fail)
    stop = threading.Event()

    def replace() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            kept.write(outcome(CELLS[0], "x" * (turn % 7)))

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            reader.record(CELLS[0].id)
    finally:
        stop.set()
        writer.join()
    assert not kept.quarantine.exists()
    assert reader.read(CELLS[0].id) is not None


def test_points_follow_the_plan_and_its_names(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    kept.write(
        Outcome(failure(CELLS[2], "nan", 'loss, "nan"\nø', began=now(), environment=environment(1, None)), {}, "log")
    )
    planned = [dataclasses.replace(some_cell(seed), suite="renamed", dataset="a, b") for seed in (2, 0, 9)]
    rows = kept.points(planned)
    assert [(row["suite"], row["dataset"], row["seed"], row["budget"]) for row in rows] == [
        ("renamed", "a, b", 2, 0.25), ("renamed", "a, b", 2, 1.0),
        ("renamed", "a, b", 0, 0.25), ("renamed", "a, b", 0, 1.0),
    ]  # fmt: skip
    assert [row["accuracy"] for row in rows] == [None, None, 7 / 16, 7 / 16]
    assert rows[2]["train_macs"] == 3 * 10**12
    points.write(tmp_path / "points.csv", rows)
    from harness.statistics.stats import read_points

    table = read_points(tmp_path / "points.csv")
    assert list(table.columns) == list(points.COLUMNS)
    assert table["status"].tolist() == ["nan", "nan", "ok", "ok"]
    assert table["reason"].tolist()[0] == 'loss, "nan"\nø'
    assert table["accuracy"].isna().tolist() == [True, True, False, False]
    assert table["accuracy"].tolist()[3] == 7 / 16


@pytest.mark.parametrize("name", ["a b", "../up", "/etc/x", "æ ñ 漢 🐎", 'a,b\n"c"', "CON", "n" * 300, "ü" * 300, "."])
def test_names_of_any_kind_come_back(tmp_path: Path, name: str) -> None:
    cell = dataclasses.replace(some_cell(5, dataset={"name": name}), dataset=name, method=name, suite=name)
    kept = Store(tmp_path / "s")
    kept.prepare()
    kept.write(outcome(cell))
    read = kept.read(cell.id)
    assert read is not None
    assert (read.record.dataset, read.record.method, read.record.suite) == (name, name, name)
    assert kept.summaries([cell.id])[cell.id].dataset == name
    points.write(tmp_path / "points.csv", kept.points([cell]))
    points.write_records(tmp_path / "records.jsonl", [cell], kept.records())
    assert points.read_records(tmp_path / "records.jsonl") == {cell.id: read.record}
    with (tmp_path / "points.csv").open(encoding="utf-8", newline="") as file:
        assert [row["dataset"] for row in csv.DictReader(file)] == [name, name]
    assert {path.name for path in tmp_path.iterdir()} == {"s", "points.csv", "records.jsonl"}
    assert kept.ids() == [cell.id]


def test_the_environment_tells_machines_apart_and_names_none() -> None:
    about = environment(2, "c0ffee", workers=3, processes=4)
    assert (about["threads"], about["commit"], about["workers"], about["processes"]) == (2, "c0ffee", 3, 4)
    assert re.fullmatch("[0-9a-f]{12}", str(about["machine"]))
    assert about["machine"] == environment(1, None)["machine"]
    named = {
        "python",
        "torch",
        "timm",
        "numpy",
        "platform",
        "machine",
        "cpus",
        "threads",
        "workers",
        "processes",
        "commit",
    }
    assert set(about) == named


def test_columns_are_those_of_the_design() -> None:
    fixed = "suite,method,dataset,seed,budget,status,key,macs,params,correct,n,accuracy,train_macs,train_seconds,cell"
    assert ",".join(points.COLUMNS[:15]) == fixed


def test_killed_writers_leave_whole_cells(tmp_path: Path) -> None:
    """SIGKILL at spread moments of a process that does nothing but write cells."""
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.plan import Cell; from harness.records.record import failure, now\n"
        "from harness.records.store import Outcome, Store\n"
        "cells = [Cell(id, 's', 'm', 'd', 0, (), {'budgets': [1.0]}) for id in sys.argv[2:]]\n"
        "kept = Store(Path(sys.argv[1])); kept.prepare(); leases = kept.leases(); print('go', flush=True)\n"
        "while True:\n"
        " for cell in cells:\n"
        "  lease = leases.take(cell.id)\n"
        "  kept.write(Outcome(failure(cell, 'nan', '', began=now(), environment={}), {1.0: b'1'}, 'x' * 9999), lease)\n"
        "  lease.release()\n"
    )
    root, ids = Path(__file__).resolve().parents[2], [cell.id for cell in CELLS]
    for trial in range(4):
        command = [sys.executable, "-c", code, str(tmp_path), *ids]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.03 * trial + 0.01)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        warnings: list[str] = []
        kept = Store(tmp_path, warn=warnings.append)
        found = kept.records()
        assert not warnings
        assert set(found) <= set(ids)
        kept.prepare()
        assert not kept.leftovers()
        with kept.leases() as leases:  # of a dead owner: at once
            assert all(leases.take(cell) is not None for cell in ids)
