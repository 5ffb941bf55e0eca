"""Maintenance: changes in a store are found, stores are merged without loss, and only what no plan names goes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import plan
from harness.plan import Cell
from harness.results import maintenance
from harness.results.bitmaps import NAME, encode_bitmaps
from harness.results.cell_files import Outcome, StoreError, pack_bits
from harness.results.maintenance import Conflicts
from harness.results.points import write_records
from harness.results.record import SCHEMA_VERSION, Point, failed_record, now
from harness.results.store import Store
from tests.harness.lock_holder import LockHolder
from tests.harness.stored import CELLS, filled, outcome, some_cell

OTHERS = tuple(some_cell(seed) for seed in range(10, 13))
IDS = [cell.id for cell in CELLS]
NEW = ("attempts", "peak_mib", "disk_mib", "grid")  # fields that schema 1 had not


def store_of(folder: Path, *outcomes: Outcome) -> Store:
    store = Store(folder, warn=pytest.fail)
    store.prepare()
    for one in outcomes:
        store.write(one)
    return store


def changed(cell: Cell, **changes: object) -> Outcome:
    made = outcome(cell)
    return dataclasses.replace(made, record=made.record.model_copy(update=changes))


def killed(cell: Cell) -> Outcome:
    return Outcome(failed_record(cell, "killed", "from outside", began=now(), environment={}))


def everything(store: Store) -> dict[str, bytes]:
    files = (path for path in store.root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(store.root)): path.read_bytes() for path in files}


def seal(folder: Path) -> None:
    """Checksums that fit whatever the files hold."""
    names = [path.name for path in folder.iterdir() if path.name != "sha256"]
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "sha256").write_text("".join(lines))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((folder / "record.json").read_text())
    change(raw)
    (folder / "record.json").write_text(json.dumps(raw))
    seal(folder)


def test_a_whole_store_has_no_fault(tmp_path: Path) -> None:
    store = filled(tmp_path, log="x")
    store.write(killed(OTHERS[0]))
    store.summaries(IDS)
    before = everything(store)
    assert maintenance.verify(store) == []
    assert everything(store) == before


def test_a_store_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert [fault.what for fault in maintenance.verify(Store(tmp_path / "none"))] == [
        "no store: there is neither a folder cells/ nor a SHA256SUMS"
    ]


@pytest.mark.parametrize("name", ["sha256", "record.json", "cell.json", "correct.npz"])
def test_a_changed_byte_is_a_fault(tmp_path: Path, name: str) -> None:
    store = filled(tmp_path)
    path = store.cells / IDS[0] / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (fault,) = maintenance.verify(store)
    assert fault.where == store.cells / IDS[0]
    assert "not whole" in fault.what


def npz(folder: Path, **bitmaps: bytes) -> None:
    arrays = {name: np.frombuffer(bits, np.uint8) for name, bits in bitmaps.items()}
    np.savez_compressed(folder / "correct.npz", **arrays)  # type: ignore[arg-type]  # no budget is called allow_pickle
    seal(folder)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    seal(path.parent)


RIGHT = pack_bits(np.array([True] * 7 + [False] * 9))
FALSE: dict[str, tuple[Callable[[Path], object], str]] = {
    "identity": (lambda f: rewrite(f, lambda raw: raw["identity"].update(seed=99)), "identity does not hash to"),
    "other cell": (lambda f: rewrite(f, lambda raw: raw.update(cell="ab" * 8)), "the record is of cell abab"),
    "correct": (
        lambda f: rewrite(f, lambda raw: raw["points"][0].update(correct=8)), "7 images right, the record says 8"
    ),
    "n": (lambda f: rewrite(f, lambda raw: raw["points"][0].update(n=17)), "2 bytes for 17 images"),
    "schema": (lambda f: rewrite(f, lambda raw: raw.update(schema_version=9)), "record of schema 9"),
    "mistyped": (lambda f: rewrite(f, lambda raw: raw.update(seed="0")), "does not fit schema"),
    "no bitmap": (lambda f: npz(f, **{"0.25": RIGHT}), "no bitmap of budget 1.0"),
    "stray bitmap": (
        lambda f: npz(f, **{"0.25": RIGHT, "1.0": RIGHT, "0.5": RIGHT}), "a bitmap of budget 0.5, for which"
    ),
    "flipped bit": (lambda f: npz(f, **{"0.25": RIGHT, "1.0": b"\xff\x00"}), "8 images right, the record says 7"),
    "no npz": (lambda f: put(f / "correct.npz", b"nothing"), "correct.npz: not bitmaps"),
    "torn npz": (lambda f: put(f / "correct.npz", b"PK\x03\x04xx"), "correct.npz: not bitmaps"),
    "card": (lambda f: put(f / "cell.json", b"{}"), "cell.json and record.json are of different"),
}  # fmt: skip


@pytest.mark.parametrize("how", FALSE)
def test_a_cell_whose_checksums_fit_and_whose_content_does_not_is_a_fault(tmp_path: Path, how: str) -> None:
    store = filled(tmp_path)
    change, what = FALSE[how]
    change(store.cells / IDS[0])
    found = maintenance.verify(store)
    assert {fault.where.name for fault in found} == {IDS[0]}
    assert any(what in str(fault) for fault in found), found


def test_bits_after_the_last_image_are_a_fault(tmp_path: Path) -> None:
    made = outcome(CELLS[0])
    point = Point(budget=0.25, status="ok", correct=2, n=3)
    store = store_of(
        tmp_path, Outcome(made.record.model_copy(update={"points": (point,)}), {0.25: bytes([0b11010000])})
    )
    assert [fault.what for fault in maintenance.verify(store)] == [
        "bitmap of budget 0.25: bits after the last of 3 images"
    ]


def test_strangers_and_quarantine_are_reported(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (store.cells / "a name with ünicode").mkdir()
    (store.cells / IDS[0] / "sha256").unlink()
    store.records()
    shutil.copytree(store.cells / IDS[1], store.quarantine / f"{IDS[1]}.3")
    found = {fault.where.name: fault.what for fault in maintenance.verify(store)}
    assert set(found) == {"a name with ünicode", IDS[0], f"{IDS[1]}.3"}
    assert found[IDS[0]].startswith("in quarantine: not whole")
    assert found[f"{IDS[1]}.3"] == "in quarantine: whole"


def test_disjoint_stores_become_one(tmp_path: Path) -> None:
    target = store_of(tmp_path / "a", *(outcome(cell) for cell in CELLS))
    sources = [store_of(tmp_path / f"b{i}", outcome(cell, f"log {i}")) for i, cell in enumerate(OTHERS)]
    before = [everything(source) for source in sources]
    report = maintenance.merge(target, sources)
    assert set(report.written) == {met.cell for met in report.of("new")} == {cell.id for cell in OTHERS}
    assert len(report.met) == 3
    assert set(target.records()) == {cell.id for cell in (*CELLS, *OTHERS)}
    for i, cell in enumerate(OTHERS):
        assert target.read(cell.id) == sources[i].read(cell.id)
    assert [everything(source) for source in sources] == before
    assert maintenance.verify(target) == []
    assert target.locks.names() == []


def test_into_a_store_that_is_not_there(tmp_path: Path) -> None:
    target = Store(tmp_path / "new")
    maintenance.merge(target, [store_of(tmp_path / "b", outcome(CELLS[0]))])
    assert set(target.records()) == {IDS[0]}


def test_the_same_numbers_at_another_time_and_place_change_nothing(tmp_path: Path) -> None:
    made = outcome(CELLS[0])
    points = tuple(point.model_copy(update={"latency_ms": 99.0}) for point in made.record.points)
    ledger = {name: spent.model_copy(update={"seconds": 77.0}) for name, spent in made.record.ledger.items()}
    again = changed(
        CELLS[0], points=points, ledger=ledger, seconds=9.0, started="then", finished="later", attempts=3,
        peak_mib=1.0, disk_mib=2.0, environment={"python": "4"}, suite="renamed",
    )  # fmt: skip
    target, source = store_of(tmp_path / "a", made), store_of(tmp_path / "b", again)
    before = everything(target)
    report = maintenance.merge(target, [source, source])
    assert [met.kind for met in report.met] == ["same", "same"]
    assert report.written == ()
    assert everything(target) == before


@pytest.mark.parametrize("on_conflict", maintenance.CONFLICTS)
def test_different_numbers_are_a_conflict(tmp_path: Path, on_conflict: Conflicts) -> None:
    theirs = changed(CELLS[0], choice_hash="ef" * 8)
    target = store_of(tmp_path / "a", outcome(CELLS[0]))
    source = store_of(tmp_path / "b", theirs, outcome(OTHERS[0]))
    before = everything(target)
    report = maintenance.merge(target, [source], on_conflict)
    (conflict,) = report.of("conflict")
    assert (conflict.cell, conflict.what) == (IDS[0], "choice_hash")
    assert str(target.cells / IDS[0]) in str(conflict)
    if on_conflict == "refuse":
        assert report.written == ()
        assert everything(target) == before
    else:
        kept = target.read(IDS[0])
        assert kept is not None
        assert kept.record.choice_hash == ("ef" * 8 if on_conflict == "theirs" else "ab" * 8)
        assert OTHERS[0].id in target.records()


def test_other_bitmaps_are_a_conflict(tmp_path: Path) -> None:
    other = Outcome(outcome(CELLS[0]).record, {0.25: RIGHT[::-1], 1.0: RIGHT})
    target, source = store_of(tmp_path / "a", outcome(CELLS[0])), store_of(tmp_path / "b", other)
    assert [met.what for met in maintenance.merge(target, [source]).of("conflict")] == ["bitmaps"]


def test_two_sources_that_differ_are_a_conflict(tmp_path: Path) -> None:
    sources = [store_of(tmp_path / "b", outcome(CELLS[0])), store_of(tmp_path / "c", changed(CELLS[0], full_macs=41))]
    target = store_of(tmp_path / "a")
    report = maintenance.merge(target, sources)
    assert [met.kind for met in report.met] == ["new", "conflict"]
    assert target.ids() == []
    maintenance.merge(target, sources, "theirs")
    record = target.record(IDS[0])
    assert record is not None
    assert record.full_macs == 41


def test_a_killed_cell_yields_to_any_other(tmp_path: Path) -> None:
    target, source = store_of(tmp_path / "a", killed(CELLS[0]), outcome(CELLS[1])), store_of(
        tmp_path / "b", outcome(CELLS[0]), killed(CELLS[1])
    )  # fmt: skip
    report = maintenance.merge(target, [source])
    assert [(met.kind, met.cell) for met in sorted(report.met, key=lambda met: met.kind)] == [
        ("better", IDS[0]), ("same", IDS[1])
    ]  # fmt: skip
    assert {record.status for record in target.records().values()} == {"ok"}


def test_a_newer_schema_is_refused_and_an_older_one_migrated(tmp_path: Path) -> None:
    target, source = store_of(tmp_path / "a"), store_of(tmp_path / "b", outcome(CELLS[0]), outcome(CELLS[1]))
    for cell in CELLS[:2]:
        rewrite(source.cells / cell.id, lambda raw: [raw.pop(key) for key in NEW] and raw.update(schema_version=1))
    rewrite(source.cells / IDS[1], lambda raw: raw.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(StoreError, match=f"{IDS[1]}: record of schema {SCHEMA_VERSION + 1}"):
        maintenance.merge(target, [source])
    assert target.ids() == []
    shutil.rmtree(source.cells / IDS[1])
    maintenance.merge(target, [source])
    assert json.loads((target.cells / IDS[0] / "record.json").read_text())["schema_version"] == SCHEMA_VERSION


def test_damage_in_a_source_is_reported_and_left_there(tmp_path: Path) -> None:
    target, source = store_of(tmp_path / "a"), store_of(tmp_path / "b", outcome(CELLS[0]), outcome(CELLS[1]))
    (source.cells / IDS[0] / "record.json").write_text("{")
    report = maintenance.merge(target, [source])
    (damaged,) = report.of("damaged")
    assert str(source.cells / IDS[0]) in str(damaged)
    assert target.ids() == [IDS[1]]
    assert source.ids() == sorted(IDS[:2])


def test_damage_in_the_target_is_mended_from_a_source(tmp_path: Path) -> None:
    target, source = filled(tmp_path / "a"), filled(tmp_path / "b")
    (target.cells / IDS[0] / "sha256").unlink()
    report = maintenance.merge(target, [source])
    assert report.written == (IDS[0],)
    assert maintenance.verify(Store(target.root))[0].what.startswith("in quarantine")
    assert set(target.records()) == set(IDS)


def test_a_merge_waits_for_no_other_process(tmp_path: Path) -> None:
    target, source = store_of(tmp_path / "a"), filled(tmp_path / "b")
    with LockHolder(target.locks.folder) as other:
        assert other.ask(f"take {IDS[1]}") == "yes"
        why = rf"other processes work on {IDS[1]} \(process {other.process.pid} on .*\); nothing was merged"
        with pytest.raises(StoreError, match=why):
            maintenance.merge(target, [source])
    assert target.ids() == []


@pytest.mark.parametrize("word", ["mine", "their"])
def test_a_merge_asks_for_what_it_knows(tmp_path: Path, word: str) -> None:
    with pytest.raises(StoreError, match="allowed: refuse, ours, theirs"):
        maintenance.merge(store_of(tmp_path / "a"), [], word)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no store: there is no folder cells/; nothing was merged"):
        maintenance.merge(store_of(tmp_path / "a"), [Store(tmp_path / "none")])


def littered(folder: Path) -> tuple[Store, Path]:
    """Cells 0 and 1 are planned; 2 is not."""
    store = filled(folder / "s")
    store.write(killed(CELLS[1]))
    for name in (f".tmp-{IDS[0]}-aa", f".tmp-{IDS[0]}-bb-old"):
        (store.cells / name).mkdir()
    (store.cells / f".tmp-{OTHERS[1].id}-cc-old").mkdir()  # of a cell that has no other place
    store.locks.path(IDS[0]).write_text("")
    store.quarantine.mkdir()
    shutil.copytree(store.cells / IDS[0], store.quarantine / f"{IDS[0]}.1")
    runs = folder / "runs"
    for cell in (*IDS, OTHERS[0].id):
        (runs / cell / "work").mkdir(parents=True)
    (runs / "notes").mkdir()
    for cell in IDS:
        (runs / "kept" / cell).mkdir(parents=True)
    return store, runs


def test_only_rubbish_goes(tmp_path: Path) -> None:
    store, runs = littered(tmp_path)
    found = maintenance.list_removable(store, {IDS[0], IDS[1]}, runs)
    before = everything(store)
    assert {(left.path.name, left.reason) for left in found} == {
        (IDS[2], "no plan names it"),
        (f"{IDS[0]}.1", "in quarantine"),
        (f".tmp-{IDS[0]}-aa", "left by a writer that is gone"),
        (f".tmp-{IDS[0]}-bb-old", "left by a writer that is gone"),
        (f"{IDS[0]}.lock", "a lock that no process holds"),
        (IDS[0], "work of a cell that is done: ok"),
        (IDS[2], "work of a cell that no plan names"),
        (OTHERS[0].id, "work of a cell that no plan names"),
        (IDS[2], "model of a cell that no plan names"),
    }
    assert everything(store) == before  # naming removes nothing
    assert maintenance.remove(store, found) == found
    assert maintenance.list_removable(store, {IDS[0], IDS[1]}, runs) == []
    assert store.ids() == sorted(IDS[:2])
    assert {path.name for path in runs.iterdir()} == {IDS[1], "notes", "kept"}
    assert {path.name for path in (runs / "kept").iterdir()} == {IDS[0], IDS[1]}
    assert [path.name for path in store.leftovers()] == [f".tmp-{OTHERS[1].id}-cc-old"]
    assert store.locks.names() == []


def test_nothing_of_a_cell_that_is_being_worked_on_goes(tmp_path: Path) -> None:
    store, runs = littered(tmp_path)
    with LockHolder(store.locks.folder) as worker:
        assert worker.ask(f"take {IDS[2]}") == "yes"
        found = maintenance.list_removable(store, {IDS[0], IDS[1]}, runs)
        assert IDS[2] not in {left.cell for left in found}
        late = maintenance.Removable(store.cells / IDS[2], "named before it was taken up", IDS[2])
        assert maintenance.remove(store, [late]) == []
        assert IDS[2] in store.ids()
        worker.process.kill()
        worker.process.wait()
    found = maintenance.list_removable(store, {IDS[0], IDS[1]}, runs)
    assert {left.reason for left in found if left.cell == IDS[2]} == {
        "no plan names it", "a lock that no process holds", "work of a cell that no plan names",
        "model of a cell that no plan names",
    }  # fmt: skip
    assert maintenance.remove(store, found) == found


def test_the_hash_is_that_of_the_plan() -> None:
    """A cell that is planned today passes what verify asks of its id."""
    from harness.results.cell_files import fits

    record = outcome(CELLS[0]).record
    assert fits(record)
    assert not fits(record.model_copy(update={"cell": record.cell[:4]}))
    assert plan.canonical_digest(record.identity)[:16] == record.cell


# --- restore --------------------------------------------------------------------------------------------------------


def committed(folder: Path) -> Store:
    """A store as in a fresh clone: records and bitmaps of all cells in one file each, and no cell."""
    store = filled(folder)
    outcomes = {cell: one for cell in IDS if (one := store.read(cell)) is not None}
    write_records(folder / "records.jsonl", CELLS, {cell: one.record for cell, one in outcomes.items()})
    bitmaps = {(cell, budget): one.correct(budget) for cell, one in outcomes.items() for budget in one.bitmaps}
    (folder / NAME).write_bytes(encode_bitmaps(bitmaps))
    shutil.rmtree(store.cells)
    store.prepare()
    return store


def test_committed_records_become_whole_cells_again(tmp_path: Path) -> None:
    store, whole = committed(tmp_path / "clone"), filled(tmp_path / "whole")
    assert maintenance.restore(store, IDS[1:]) == IDS[1:]
    assert store.ids() == sorted(IDS[1:])
    for cell in IDS[1:]:
        restored, first = store.read(cell), whole.read(cell)
        assert restored is not None and first is not None and maintenance.differences(first, restored) == []
    assert maintenance.restore(store, IDS[1:]) == []


def test_a_record_without_its_bitmaps_is_refused_and_nothing_is_restored(tmp_path: Path) -> None:
    store = committed(tmp_path)
    (tmp_path / NAME).unlink()
    with pytest.raises(StoreError, match=r"correct.npz: cell .*: no bitmap of budget .*; nothing was restored"):
        maintenance.restore(store, IDS)
    assert store.ids() == []


def test_a_cell_in_work_is_not_restored(tmp_path: Path) -> None:
    store = committed(tmp_path)
    with LockHolder(store.locks.folder) as worker:
        assert worker.ask(f"take {IDS[0]}") == "yes"
        assert maintenance.restore(store, IDS) == IDS[1:]
    assert store.ids() == sorted(IDS[1:])
