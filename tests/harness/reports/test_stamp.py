from __future__ import annotations

from pathlib import Path

import pytest

from harness.reports import stamp
from tests.harness import small

SUITE = small.suite()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "results" / "small"
    place.mkdir(parents=True)
    (place / "points.csv").write_text("suite\n")
    (place / "table.md").write_text("a table")
    stamp.write_stamp(place, sources(place), [place / "table.md"], {"overview": "≈"})
    return place


def sources(folder: Path, suite=SUITE) -> str:
    return stamp.digest_of_sources(folder, suite, folder.parent / "small.toml")


def test_a_stamp_of_the_same_sources_and_files_is_read(folder: Path):
    assert stamp.read_stamp(folder, sources(folder)) == stamp.Stamp(("table.md",), {"overview": "≈"})


@pytest.mark.parametrize("name", ["small/points.csv", "small/cards.json", "small.claims.toml", "reference/paper.csv"])
def test_a_source_that_changes_or_appears_makes_it_another_report(folder: Path, name: str):
    file = folder.parent / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("changed")
    assert stamp.read_stamp(folder, sources(folder)) is None


def test_another_suite_or_version_of_a_package_makes_it_another_report(folder: Path, monkeypatch):
    assert sources(folder, small.suite(seeds=[0, 1])) != sources(folder)
    metric = small.suite(metrics=[{"use": "tests.harness.made_metrics:share_right"}])
    before = sources(folder, metric)
    monkeypatch.setattr(stamp.code_digest, "digest", lambda use: "edited")
    assert sources(folder, metric) != before
    before = sources(folder)
    monkeypatch.setattr(stamp.metadata, "version", lambda name: "0")
    assert sources(folder) != before


def test_a_file_that_was_changed_or_removed_is_made_again(folder: Path):
    (folder / "table.md").write_text("another")
    assert stamp.read_stamp(folder, sources(folder)) is None
    (folder / "table.md").unlink()
    assert stamp.read_stamp(folder, sources(folder)) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sources": 1}', '{"checksums": [1], "sources": "", "shown": {}}'])
def test_a_damaged_stamp_is_none(folder: Path, text: str):
    (folder / stamp.NAME).write_text(text)
    assert stamp.read_stamp(folder, sources(folder)) is None
