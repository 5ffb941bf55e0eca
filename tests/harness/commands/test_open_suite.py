"""Suites as commands open them: found by name, with one owner for each folder of results."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.commands import app
from harness.commands.open_suite import open_suite, suite_file
from harness.commands.options import CommandError, Where
from harness.commands.owner import OwnerError, record_owner
from harness.results.store import Store
from tests.harness.stored import CELLS, outcome
from tests.harness.test_suite import TOML


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two suite files of one name; neither is in suites/."""
    monkeypatch.chdir(tmp_path)
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text(TOML)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(app.app, list(words))


def test_a_name_is_a_file_in_suites_or_that_of_its_results_or_a_path(place: Path) -> None:
    results = Path("results")
    assert suite_file("quick", results) == Path("suites/quick.toml")
    record_owner(_made(results / "quick"), Path("first/mine.toml"))
    assert suite_file("quick", results) == Path("first/mine.toml")
    assert suite_file("quick", Path("elsewhere")) == Path("suites/quick.toml")
    assert suite_file("first/mine.toml", results) == Path("first/mine.toml")
    (place / "suites").mkdir()
    (place / "suites/quick.toml").write_text(TOML)
    assert suite_file("quick", results) == Path("suites/quick.toml")


def test_the_command_that_a_report_prints_finds_a_suite_outside_of_suites(place: Path) -> None:
    record_owner(_made(Path("results/quick")), Path("first/mine.toml"))
    assert open_suite("quick", Where()).file == Path("first/mine.toml")
    asked = call("why", "quick", "--method", "ea_vit")
    assert "points.csv" in str(asked.exception) and "no such suite" not in str(asked.exception)


@pytest.mark.parametrize(
    "words", [("run",), ("plan",), ("status",), ("gc",), ("gc", "--yes"), ("report",), ("verify",), ("claims",)]
)
def test_a_second_file_of_the_same_name_is_refused_by_every_verb(place: Path, words: tuple[str, ...]) -> None:
    store = Store(_made(Path("results/quick")))
    store.prepare()
    store.write(outcome(CELLS[0]))
    record_owner(store.root, Path("first/mine.toml"))
    refused = call(words[0], "second/mine.toml", *words[1:])
    assert isinstance(refused.exception, OwnerError)
    assert "second/mine.toml: name: 'quick': results/quick holds the results of first/mine.toml" in str(
        refused.exception
    )
    assert store.ids() == [CELLS[0].id]


def test_gc_removes_nothing_while_it_is_not_known_whose_the_folder_is(place: Path) -> None:
    store = Store(_made(Path("results/quick")))
    store.prepare()
    store.write(outcome(CELLS[0]))
    refused = call("gc", "second/mine.toml", "--yes")
    assert isinstance(refused.exception, CommandError)
    assert "results/quick does not say which suite file it belongs to" in str(refused.exception)
    assert store.ids() == [CELLS[0].id]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
