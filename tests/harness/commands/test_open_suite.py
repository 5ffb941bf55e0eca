"""Suites as commands open them: found by name, with one owner for each folder of results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.commands import app
from harness.commands.open_suite import OwnerError, open_suite, owner_of, record_owner, refuse_other, suite_file
from harness.commands.options import CommandError, Where
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


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two suite files of the name quick, and the folder of its results."""
    for name in ("suites/quick.toml", "other/mine.toml", "results/quick/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(TOML)
    return tmp_path / "suites/quick.toml", tmp_path / "other/mine.toml", tmp_path / "results/quick"


def test_a_second_file_of_the_same_name_is_refused_naming_the_first(files: tuple[Path, Path, Path]) -> None:
    first, second, folder = files
    refuse_other(folder, second)  # nobody's yet
    record_owner(folder, first)
    assert owner_of(folder) == first
    for refuse in (refuse_other, record_owner):
        with pytest.raises(OwnerError, match=rf"mine.toml: name: 'quick': .* holds the results of {first}, which has"):
            refuse(folder, second)
    assert owner_of(folder) == first
    refuse_other(folder, first)


def test_links_and_relative_paths_are_the_same_file(
    files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, folder = files
    record_owner(folder, first)
    (folder.parent / "link.toml").symlink_to(first)
    refuse_other(folder, folder.parent / "link.toml")
    monkeypatch.chdir(first.parent)
    record_owner(Path("../results/quick"), Path("quick.toml"))


def test_a_file_that_moved_or_has_another_name_now_gives_the_folder_up(files: tuple[Path, Path, Path]) -> None:
    first, second, folder = files
    record_owner(folder, first)
    first.write_text(TOML.replace('name = "quick"', 'name = "slow"'))
    record_owner(folder, second)
    assert owner_of(folder) == second
    second.unlink()
    assert owner_of(folder) is None
    record_owner(folder, first)
    assert owner_of(folder) == first


def test_a_folder_and_its_suite_move_together(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, _, folder = files
    record_owner(folder, first)
    text = (folder / "suite.json").read_text()
    assert str(tmp_path) not in text
    for name in ("suites", "results"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    assert owner_of(tmp_path / "moved/results/quick") == tmp_path / "moved/suites/quick.toml"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"file": 3}', '{"file": "gone"}', "\x00"])
def test_a_damaged_note_is_none(files: tuple[Path, Path, Path], text: str) -> None:
    first, _, folder = files
    (folder / "suite.json").write_text(text)
    assert owner_of(folder) is None
    record_owner(folder, first)
    assert owner_of(folder) == first


def test_what_a_clone_holds_without_its_cells_is_told(place: Path) -> None:
    opened = open_suite("first/mine.toml", Where())
    assert opened.committed_lines({}) == []
    records = [outcome(cell).record for cell in CELLS]
    opened.folder.mkdir(parents=True)
    (opened.folder / "records.jsonl").write_text("".join(f"{record.model_dump_json()}\n" for record in records))
    (line,) = opened.committed_lines({records[0].cell})
    assert "2 cells (2 ok), 0 of them of this plan" in line
    assert "`eavit-bench report first/mine.toml` shows them" in line
