"""Records of older schemas: one real record, kept byte for byte, and what it becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.results import cell_files, points
from harness.results.cell_files import Damaged, StoreError, parse_record
from harness.results.record import SCHEMA_VERSION, Record
from tests.harness import stored

GOLDEN = Path(__file__).parents[1] / "golden"
RESULTS = Path(__file__).resolve().parents[3] / "results"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_record_of_each_schema_becomes_the_one_of_today(version: int) -> None:
    old = (GOLDEN / f"record-{version}.json").read_bytes()
    today = (GOLDEN / f"record-{SCHEMA_VERSION}.json").read_bytes()
    assert json.loads(old)["schema_version"] == version
    assert parse_record(old, "golden").model_dump_json().encode() + b"\n" == today


def test_nothing_of_an_old_record_is_lost_or_changed() -> None:
    old = json.loads((GOLDEN / "record-1.json").read_bytes())
    before = json.dumps(old)
    new = cell_files.migrate_to(SCHEMA_VERSION, old)
    assert json.dumps(old) == before
    assert {**new, **old, "schema_version": SCHEMA_VERSION} == new
    assert set(new) == set(Record.model_fields)


def test_a_newer_schema_is_refused_by_name() -> None:
    newer = {**json.loads((GOLDEN / "record-1.json").read_bytes()), "schema_version": SCHEMA_VERSION + 1, "more": 1}
    with pytest.raises(
        StoreError, match=rf"here: record of schema {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}: use a newer"
    ):
        parse_record(json.dumps(newer).encode(), "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 0}, "no way from schema 0 to 3; known: 1, 2"),
        ({"schema_version": "1"}, "does not fit schema 3"),
        ({"seed": "0"}, "a record of schema 1 that does not become one of 3"),
        ({"schema_version": 3, "seed": "0"}, "does not fit schema 3"),
    ],
)
def test_what_is_no_record_is_reported(changes: dict[str, object], message: str) -> None:
    raw = {**json.loads((GOLDEN / "record-1.json").read_bytes()), **changes}
    with pytest.raises(StoreError, match=f"here: .*{message}"):
        parse_record(json.dumps(raw).encode(), "here")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"null", b"\xff"])
def test_what_is_no_json_record_is_reported(text: bytes) -> None:
    with pytest.raises(StoreError, match="here: no record"):
        parse_record(text, "here")


def test_outputs_come_back_to_the_bit(tmp_path: Path) -> None:
    labels, logits = np.array([1, 0]), {b: np.float32([[b, 1e-30], [-1, b / 3]]) for b in (0.5, 0.25)}
    packed, notes = cell_files.pack_outputs(labels, logits)
    made = stored.outcome(stored.CELLS[0])
    cell_files.save_outcome(replace(made, outputs=packed), tmp_path / "with")
    cell_files.save_outcome(made, tmp_path / "without")
    there, shown = cell_files.unpack_outputs(cell_files.load_outcome(tmp_path / "with").outputs)
    assert notes == []
    assert there.tolist() == [1, 0]
    assert {budget: table.tolist() for budget, table in shown.items()} == {b: t.tolist() for b, t in logits.items()}
    assert cell_files.load_outcome(tmp_path / "without").outputs == b""
    with pytest.raises(Damaged, match=r"outputs\.npz: not outputs"):
        cell_files.unpack_outputs(packed[:-20])


def test_outputs_that_no_reader_would_take_are_dropped_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_files, "LIMIT", 100)
    packed, notes = cell_files.pack_outputs(np.zeros(9, dtype=int), {1.0: np.zeros((9, 2), dtype=np.float32)})
    assert packed == b""
    assert "at most 100 are kept, and no metric has a value" in notes[0]


@pytest.mark.parametrize("suite", sorted(path.parent.name for path in RESULTS.glob("*/records.jsonl")))
def test_committed_records_are_read(suite: str) -> None:
    read = points.read_records(RESULTS / suite / "records.jsonl")
    assert read
    assert {record.suite for record in read.values()} == {suite}


def of_seed(line: bytes, seed: int) -> bytes:
    raw = json.loads(line)
    raw["identity"]["seed"] = seed
    return json.dumps(raw).encode() + b"\n"


def spoilt(lines: list[bytes], how: str) -> list[bytes]:
    old = lines[1]
    return {
        "cut": [lines[0], old[: len(old) // 2]],
        "no end": [lines[0], old.rstrip(b"\n")],
        "half": [lines[0], old[: len(old) // 2] + b"\n", lines[2]],
        "other seed": [lines[0], of_seed(old, 77), lines[2]],
        "twice": [lines[0], lines[0]],
        "empty": [lines[0], b"\n"],
    }[how]


@pytest.mark.parametrize("how", ["cut", "no end", "half", "other seed", "twice", "empty"])
def test_a_damaged_line_is_named(tmp_path: Path, how: str) -> None:
    lines = (RESULTS / "quick" / "records.jsonl").read_bytes().splitlines(keepends=True)[:3]
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(spoilt(lines, how)))
    with pytest.raises(StoreError, match=r"records\.jsonl: line 2: "):
        points.read_records(path)


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        points.read_records(tmp_path / "records.jsonl")
