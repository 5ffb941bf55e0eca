"""The store: read(write(x)) == x, and whatever is cut or flipped, every other cell is still read."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results import points
from harness.results.cell_files import Outcome, StoreError
from harness.results.record import STATUSES, PhaseCost, Point, Record
from harness.results.store import Store
from tests.harness.stored import CELLS, filled, outcome, some_cell

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
spent = st.builds(PhaseCost, seconds=number, forward_macs=number, backward_macs=number, images=count, steps=count)
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


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    folder = kept.cells / CELLS[0].id
    changed = json.loads((folder / "record.json").read_text()) | {"schema_version": 4}
    (folder / "record.json").write_text(json.dumps(changed))
    sums = subprocess.run(["sha256sum", "cell.json", "record.json", "correct.npz"], cwd=folder, capture_output=True)
    (folder / "sha256").write_bytes(sums.stdout)
    with pytest.raises(StoreError, match="record of schema 4, this program knows up to 3: use a newer"):
        kept.records()


def test_checksums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    kept = filled(tmp_path, log="x")
    done = subprocess.run(["sha256sum", "-c", "sha256"], cwd=kept.cells / CELLS[0].id, capture_output=True, text=True)
    assert done.stdout.count(": OK") == 4


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


def test_what_is_removed_is_gone_as_a_whole(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    kept.remove(CELLS[0].id)
    kept.remove(CELLS[0].id)
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
    points.write_points(tmp_path / "points.csv", points.point_rows([cell], kept.records()))
    points.write_records(tmp_path / "records.jsonl", [cell], kept.records())
    assert points.read_records(tmp_path / "records.jsonl") == {cell.id: read.record}
    with (tmp_path / "points.csv").open(encoding="utf-8", newline="") as file:
        assert [row["dataset"] for row in csv.DictReader(file)] == [name, name]
    assert {path.name for path in tmp_path.iterdir()} == {"s", "points.csv", "records.jsonl"}
    assert kept.ids() == [cell.id]
