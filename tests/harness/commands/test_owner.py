"""A folder of results belongs to one suite file, wherever both are moved together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.commands.owner import OwnerError, owner_of, record_owner, refuse_other
from tests.harness.test_suite import TOML


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
