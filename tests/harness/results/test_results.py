"""One reader of a folder of results, and which of its cells the plan names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import plan, suite
from harness.results import points
from harness.results.cell_files import StoreError
from harness.results.results import Results, same_recipe
from harness.suite import Suite
from tests.harness import small

ROOT = Path(__file__).resolve().parents[3]
SUITES = sorted(path.parent.name for path in (ROOT / "results").glob("*/records.jsonl"))


def ran(folder: Path, of: Suite, records: bool = True) -> Path:
    """As a run of the suite leaves it."""
    cells = small.cells(of)
    found = {cell.id: small.record_of(cell) for cell in cells}
    points.write_points(folder / "points.csv", points.point_rows(cells, found))
    if records:
        points.write_records(folder / "records.jsonl", cells, found)
    return folder


def counts(folder: Path, of: Suite) -> tuple[int, int]:
    found = Results.read(folder, of)
    return len(found.points), len(found.unplanned)


@pytest.mark.parametrize("name", SUITES)
def test_every_committed_cell_is_named_by_its_suite(name):
    of = suite.load(ROOT / "suites" / f"{name}.toml")
    found = Results.read(ROOT / "results" / name, of)
    assert found.unplanned.empty
    assert len(found.planned) == plan.count(of)
    assert {*found.points["cell"]} == {*found.records}
    assert {*found.cards} >= {*found.points["method"]}


def test_without_a_suite_every_row_counts(tmp_path):
    found = Results.read(ran(tmp_path, small.suite()))
    assert (len(found.points), len(found.unplanned), found.planned) == (2, 0, frozenset())


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"epochs": 9.0}},
        {"budgets": [0.5, 1.0]},
        {"regime": "equal_macs"},
        {"input": {"size": 12, "channels": 1}},
        {"seeds": [7]},
        {"datasets": [{"name": "digits", "fit": 100, "select": 60, "test": 100}]},
        {"methods": [{"use": f"{small.FAKES}:greedy", "name": "steady"}]},
        {"methods": [{"use": f"{small.FAKES}:steady", "name": "renamed"}]},
        {"name": "another"},
    ],
)
def test_rows_of_another_recipe_are_separated(tmp_path, changes, monkeypatch):
    monkeypatch.setattr("harness.code_digest.digest", lambda use: f"code of {use}")
    ran(tmp_path, small.suite())
    assert counts(tmp_path, small.suite()) == (2, 0)
    assert counts(tmp_path, small.suite(**changes)) == (0, 2)


def test_what_only_some_cells_changed_separates_those(tmp_path):
    ran(tmp_path, small.suite(seeds=[0, 1, 2]))
    assert counts(tmp_path, small.suite(seeds=[0, 2, 3])) == (4, 2)


def test_options_say_nothing_once_the_code_that_reads_them_has_changed(tmp_path, monkeypatch):
    """A later version may spell them otherwise: the commit of the record says what was run."""
    ran(tmp_path, small.suite())
    options = small.suite(methods=[{"use": f"{small.FAKES}:steady", "options": {"width": 3}}])
    monkeypatch.setattr("harness.code_digest.digest", lambda use: f"code of {use}")
    assert counts(tmp_path, options) == (0, 2)
    monkeypatch.setattr("harness.code_digest.digest", lambda use: "other code")
    assert counts(tmp_path, options) == (2, 0)


def test_without_records_names_and_budgets_decide(tmp_path):
    ran(tmp_path, small.suite(), records=False)
    assert counts(tmp_path, small.suite(schedule={"epochs": 9.0})) == (2, 0)
    assert counts(tmp_path, small.suite(budgets=[0.25, 0.5])) == (0, 2), "a cell answers to all budgets of its suite"
    assert counts(tmp_path, small.suite(budgets=[0.25, 0.5, 1.0])) == (2, 0)
    assert counts(tmp_path, small.suite(seeds=[1])) == (0, 2)


def test_keys_of_another_version_say_nothing():
    assert same_recipe({"regime": "a", "old": 1}, {"regime": "a", "new": 2})
    assert same_recipe({"input": {"size": 8, "old": 1}}, {"input": {"size": 8, "new": 2}})
    assert not same_recipe({"input": {"size": 8}}, {"input": {"size": 9}})


def test_damage_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"points\.csv: No such file"):
        Results.read(tmp_path)
    ran(tmp_path, small.suite())
    for text, why in (("{", "not JSON"), ("[1]", "method to card"), (json.dumps({"a": 1}), "method to card")):
        (tmp_path / "cards.json").write_text(text)
        with pytest.raises(StoreError, match=rf"cards\.json: .*{why}"):
            Results.read(tmp_path)
