"""The store: read(write(x)) == x, and whatever is cut or flipped, every other cell is still read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import plan, points, store
from harness.plan import Cell
from harness.record import STATUSES, Point, Record, Spent, environment, failure, now
from harness.store import Outcome, Store, StoreError
from tests.harness import small

CELLS = plan.cells(small.suite(seeds=[0, 1, 2]))

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
    full_macs=st.none() | count, choice_hash=st.none() | text, data=tables, diagnostics=tables, environment=tables,
    given=st.dictionaries(text, st.dictionaries(text, text, max_size=2), max_size=2),
    ledger=st.dictionaries(text, spent, max_size=2), started=text, finished=text, seconds=number,
)  # fmt: skip
outcomes = st.builds(
    Outcome, records, st.dictionaries(st.floats(0.01, 1), st.binary(max_size=30), max_size=3), text
)  # fmt: skip


def outcome(cell: Cell, log: str = "") -> Outcome:
    bits = np.array([True] * 7 + [False] * 9)
    return Outcome(small.record_of(cell), {b: store.pack(bits) for b in cell.content["budgets"]}, log)


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

    monkeypatch.setattr(store, "write_flushed", refuse)
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
    changed = json.loads((folder / "record.json").read_text()) | {"schema_version": 2}
    (folder / "record.json").write_text(json.dumps(changed))
    sums = subprocess.run(["sha256sum", "cell.json", "record.json", "correct.npz"], cwd=folder, capture_output=True)
    (folder / "sha256").write_bytes(sums.stdout)
    with pytest.raises(StoreError, match="record of schema 2, this program knows up to 1: use a newer"):
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


def test_two_writers_cannot_be_at_work(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    (kept.cells / ".tmp-left").mkdir()
    with kept.lock(), pytest.raises(StoreError, match="another run is at work"), Store(tmp_path).lock():
        pass
    with kept.lock():
        assert not (kept.cells / ".tmp-left").exists()


def test_points_follow_the_plan_and_its_names(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    kept.write(
        Outcome(failure(CELLS[2], "nan", 'loss, "nan"\nø', began=now(), environment=environment(1, None)), {}, "log")
    )
    suite = small.suite(name="renamed", seeds=[2, 0, 9], datasets=[{**small.raw()["datasets"][0], "name": "a, b",
                        "source": "digits"}])  # fmt: skip
    rows = kept.points(plan.cells(suite))
    assert [(row["suite"], row["dataset"], row["seed"], row["budget"]) for row in rows] == [
        ("renamed", "a, b", 2, 0.25), ("renamed", "a, b", 2, 1.0),
        ("renamed", "a, b", 0, 0.25), ("renamed", "a, b", 0, 1.0),
    ]  # fmt: skip
    assert [row["accuracy"] for row in rows] == [None, None, 7 / 16, 7 / 16]
    assert rows[2]["train_macs"] == 3 * 10**12
    points.write(tmp_path / "points.csv", rows)
    from harness.stats import read_points

    table = read_points(tmp_path / "points.csv")
    assert list(table.columns) == list(points.COLUMNS)
    assert table["status"].tolist() == ["nan", "nan", "ok", "ok"]
    assert table["reason"].tolist()[0] == 'loss, "nan"\nø'
    assert table["accuracy"].isna().tolist() == [True, True, False, False]
    assert table["accuracy"].tolist()[3] == 7 / 16


def test_columns_are_those_of_the_design() -> None:
    fixed = "suite,method,dataset,seed,budget,status,key,macs,params,correct,n,accuracy,train_macs,train_seconds,cell"
    assert ",".join(points.COLUMNS[:15]) == fixed


def test_killed_writers_leave_whole_cells(tmp_path: Path) -> None:
    """SIGKILL at spread moments of a process that does nothing but write cells."""
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.store import Store; from tests.harness.test_store import CELLS, outcome\n"
        "kept = Store(Path(sys.argv[1])); kept.prepare(); print('go', flush=True)\n"
        "while True:\n for cell in CELLS: kept.write(outcome(cell, 'x' * 9999))\n"
    )
    root = Path(__file__).resolve().parents[2]
    for trial in range(4):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=root)
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
        assert set(found) <= {cell.id for cell in CELLS}
        with kept.lock():
            assert not list(kept.cells.glob(".tmp*"))
