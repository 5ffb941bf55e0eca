"""Past costs: read from the stores of a folder, of cells that ran to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import plan
from harness.forecast import history
from harness.results.cell_files import Outcome
from harness.results.record import PhaseCost, Record
from harness.results.store import Store
from tests.harness import small


def record_of(epochs: float = 6.0, **changes: Any) -> Record:
    given = small.suite(schedule={"epochs": epochs})
    (cell,) = plan.cells(given, small.prints(given))
    about = {"machine": "here", "workers": 3}
    kept = {"environment": about, "data": {"sizes": {"fit": 7}}, "disk_mib": 2.5, **changes}
    return small.record_of(cell).model_copy(update=kept)


def test_the_cost_of_a_record() -> None:
    good = record_of(epochs=2.0)
    ledger = {**good.ledger, "search": PhaseCost(seconds=9.0, forward_macs=5e12)}
    past = history.of_record(good.model_copy(update={"ledger": ledger}))
    assert (past.machine, past.workers, past.images, past.mib) == ("here", 3, 14.0, 2.5)
    assert (past.macs, past.step_macs, past.step_seconds) == (8e12, 3e12, 1.5)


def test_the_seconds_of_a_resumed_cell_are_those_of_its_last_part() -> None:
    assert history.of_record(record_of(attempts=2)).machine is None


def test_a_record_without_sizes_or_machine_is_read() -> None:
    past = history.of_record(record_of(data={}, environment={}))
    assert (past.images, past.machine, past.workers) == (None, None, None)


def test_usable_cells_of_the_methods_are_read_from_all_stores(tmp_path: Path) -> None:
    for name, epochs, status in (("one", 1.0, "ok"), ("two", 2.0, "ok"), ("three", 3.0, "timeout")):
        store = Store(tmp_path / name)
        store.prepare()
        store.write(Outcome(record_of(epochs, status=status)))
        store.summaries(store.ids())
    found = history.read_history(tmp_path, {"steady"})
    assert sorted(past.content["schedule"]["epochs"] for past in found) == [1.0, 2.0]
    assert history.read_history(tmp_path, {"other"}) == []
    assert history.read_history(tmp_path / "nowhere", {"steady"}) == []


def test_a_record_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "one")
    store.prepare()
    store.write(Outcome(record_of()))
    store.summaries(store.ids())
    file = next((tmp_path / "one" / "cells").glob("*/record.json"))
    file.write_text(file.read_text().replace('"ok"', '"no"'))
    assert history.read_history(tmp_path, {"steady"}) == []


def test_committed_records_count_where_their_cells_are_not_there(tmp_path: Path) -> None:
    one, other = record_of(1.0), record_of(2.0)
    folder = tmp_path / "cloned"
    folder.mkdir()
    lines = [record.model_dump_json() for record in (one, other, record_of(3.0, status="timeout"))]
    (folder / "records.jsonl").write_text("".join(f"{line}\n" for line in (*lines, '{"method":"steady", damaged')))
    found = history.read_committed(tmp_path, {"steady"})
    assert sorted(past.content["schedule"]["epochs"] for past in found) == [1.0, 2.0]
    assert history.read_committed(tmp_path, {"stead"}) == []
    store = Store(folder)
    store.prepare()
    store.write(Outcome(one))
    assert [past.content["schedule"]["epochs"] for past in history.read_committed(tmp_path, {"steady"})] == [2.0]
