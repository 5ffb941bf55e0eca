"""The index: deleted, cut or flipped anywhere it is made again; a plan of cells it knows reads none of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results import index
from harness.results.cell_files import Outcome
from harness.results.record import failed_record, now
from harness.results.store import Store
from tests.harness.stored import CELLS, filled, outcome

IDS = [cell.id for cell in CELLS]


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    store = filled(tmp_path / "s")
    store.summaries(IDS)
    return store


def test_summaries_say_what_records_say(kept: Store) -> None:
    kept.write(
        Outcome(failed_record(CELLS[2], "oom", "no room", began=now(), environment={"machine": "m", "workers": 2}))
    )
    for _ in range(2):  # read, then from the index
        found = kept.summaries([*reversed(IDS), "abcd"])
        assert list(found) == [*reversed(IDS)]
        for cell, record in kept.records().items():
            assert found[cell] == (record.status, record.reason, record.method, record.dataset, record.finished)
        assert found[IDS[2]].status == "oom"


def test_a_cell_that_the_index_knows_is_not_read(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.summaries(IDS)
    written = (kept.root / "index.json").stat().st_ino
    monkeypatch.setattr(Store, "record", lambda self, cell: pytest.fail(cell))
    assert Store(kept.root).summaries(IDS) == before
    assert (kept.root / "index.json").stat().st_ino == written


def test_a_changed_a_new_and_a_removed_cell_are_seen(kept: Store) -> None:
    kept.write(Outcome(failed_record(CELLS[0], "nan", "", began=now(), environment={})))
    shutil.rmtree(kept.cells / IDS[1])
    found = kept.summaries(IDS)
    assert {cell: said.status for cell, said in found.items()} == {IDS[0]: "nan", IDS[2]: "ok"}
    assert set(json.loads((kept.root / "index.json").read_bytes())["cells"]) == {IDS[0], IDS[2]}
    kept.write(outcome(CELLS[1]))
    assert set(kept.summaries(IDS)) == set(IDS)


def test_some_cells_asked_for_do_not_forget_the_others(kept: Store) -> None:
    kept.write(outcome(CELLS[0]))
    kept.summaries(IDS[:1])
    assert set(json.loads((kept.root / "index.json").read_bytes())["cells"]) == set(IDS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = filled(tmp_path_factory.mktemp("index") / "s")
    store.summaries(IDS)
    return store


@settings(max_examples=60)
@given(place=st.floats(0, 1), bit=st.integers(0, 8))
def test_an_index_cut_or_flipped_anywhere_is_made_again(whole: Store, place: float, bit: int) -> None:
    path = whole.root / "index.json"
    right, expected = path.read_bytes(), whole.summaries(IDS)
    content = bytearray(right)
    at = int(place * (len(content) - 1))
    if bit == 8:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    path.write_bytes(content)
    assert index.read_index(path) == {}
    assert whole.summaries(IDS) == expected
    assert path.read_bytes() == right


def test_an_index_of_another_program_is_made_again(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = kept.summaries(IDS)
    with monkeypatch.context() as patch:
        patch.setattr(index, "VERSION", index.VERSION - 1)
        index.write_index(kept.root / "index.json", {IDS[0]: ((1, 2, 3), ["oom"])})
    assert index.read_index(kept.root / "index.json") == {}
    assert kept.summaries(IDS) == expected


def test_an_index_that_cannot_be_written_is_done_without(kept: Store) -> None:
    (kept.root / "index.json").unlink()
    (kept.root / "index.json").mkdir()
    assert set(kept.summaries(IDS)) == set(IDS)
    assert not list(kept.root.glob(".*.tmp"))


def test_a_copied_store_has_the_same_summaries(kept: Store, tmp_path: Path) -> None:
    copied = Store(Path(shutil.copytree(kept.root, tmp_path / "copy")))
    assert copied.summaries(IDS) == kept.summaries(IDS)


def test_checksums_with_another_time_are_read_again(kept: Store) -> None:
    os.utime(kept.cells / IDS[0] / "sha256", (1, 1))
    before = (kept.root / "index.json").read_bytes()
    kept.summaries(IDS)
    assert (kept.root / "index.json").read_bytes() != before
