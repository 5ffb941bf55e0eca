"""Models that a run keeps: taken whole, replaced by newer ones, and why there is none."""

from __future__ import annotations

from pathlib import Path

from harness.results import kept_models

CELL = "ab12"


def test_a_model_is_taken_in_place_of_an_older_one(tmp_path: Path) -> None:
    runs, left = tmp_path / "runs", tmp_path / "left"
    kept_models.take_model(left, runs, CELL)
    assert kept_models.fault_of_model(runs, CELL) is None
    for text in ("old", "new"):
        left.mkdir()
        (left / "weights").write_text(text)
        kept_models.take_model(left, runs, CELL)
        assert not left.exists()
    assert (kept_models.model_folder(runs, CELL) / "weights").read_text() == "new"
    assert kept_models.fault_of_model(runs, CELL) == ""
    (runs / "kept" / "not a cell").mkdir()
    assert [path.name for path in kept_models.model_folders(runs)] == [CELL]


def test_half_a_model_becomes_the_reason(tmp_path: Path) -> None:
    folder = kept_models.model_folder(tmp_path, CELL)
    folder.mkdir(parents=True)
    (folder / "weights").write_text("half")
    kept_models.leave_reason(folder, "no room")
    assert [path.name for path in folder.iterdir()] == [kept_models.REASON]
    assert kept_models.fault_of_model(tmp_path, CELL) == "no room"
    (folder / kept_models.REASON).unlink()
    assert kept_models.fault_of_model(tmp_path, CELL) == "the disk was full"
