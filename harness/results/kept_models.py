"""Adapted models that ``run --keep`` keeps: one folder for each cell, in the suite's folder of runs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.results.cell_files import is_cell

FOLDER = "kept"  # of a suite's runs; in it one folder for each cell
REASON = "not_kept.txt"  # in the folder of a cell whose method could not write its model


def model_folder(runs: Path, cell: str) -> Path:
    return runs / FOLDER / cell


def model_folders(runs: Path) -> Iterator[Path]:
    """Folders of all cells, whatever is in them."""
    return (entry for entry in sorted((runs / FOLDER).glob("*")) if entry.is_dir() and is_cell(entry.name))


def leave_reason(folder: Path, reason: str) -> None:
    """Replace a model that could not be written as a whole by the reason; on a full disk by nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True)
        (folder / REASON).write_text(reason, encoding="utf-8", errors="replace")


def take_model(left: Path, runs: Path, cell: str) -> None:
    """Move what a cell left to its place, instead of an older one; nothing happens if it left nothing."""
    if not left.is_dir():
        return
    place = model_folder(runs, cell)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    left.rename(place)


def fault_of_model(runs: Path, cell: str) -> str | None:
    """Return why there is no model of a cell; "" if there is one, None if none was asked for when the cell ran."""
    folder = model_folder(runs, cell)
    if not folder.is_dir():
        return None
    reason = folder / REASON
    if reason.is_file():
        return reason.read_text(encoding="utf-8", errors="replace") or "the disk was full"
    return "" if any(folder.iterdir()) else "the disk was full"
