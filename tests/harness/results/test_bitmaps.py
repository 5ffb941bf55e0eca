"""Which test images were right, of a folder whose cells may be gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.results import bitmaps, cell_files
from harness.results.cell_files import StoreError
from harness.results.results import Results
from tests.harness import small

ROOT = Path(__file__).resolve().parents[3]


def stored(place: Path, n: int = 16, correct: int = 7) -> pd.DataFrame:
    """Two whole cells with their bitmaps, and their points."""
    rows = []
    for cell in small.cells(small.suite(seeds=[0, 1])):
        record = small.record_of(cell, correct, n)
        bits = {point.budget: cell_files.pack_bits(np.arange(n) < correct) for point in record.points}
        cell_files.save_outcome(cell_files.Outcome(record, bits), place / "cells" / cell.id)
        rows += [
            {"cell": cell.id, "budget": point.budget, "status": "ok", "correct": correct, "n": n}
            for point in record.points
        ]
    return pd.DataFrame(rows).assign(accuracy=correct / n, macs=1)


def test_bitmaps_outlive_the_cells_byte_for_byte(tmp_path):
    points = stored(tmp_path)
    found = bitmaps.gather_bitmaps(tmp_path, points)
    assert len(found) == 4
    assert all(bits.sum() == 7 and len(bits) == 16 for bits in found.values())
    data = bitmaps.encode_bitmaps(found)
    (tmp_path / bitmaps.NAME).write_bytes(data)
    shutil.rmtree(tmp_path / "cells")
    again = bitmaps.gather_bitmaps(tmp_path, points)
    assert bitmaps.encode_bitmaps(again) == data
    assert bitmaps.encode_bitmaps(dict(reversed(list(again.items())))) == data


def test_bitmaps_of_another_run_are_left_out(tmp_path):
    points = stored(tmp_path)
    points.loc[0, "correct"] = 8
    assert len(bitmaps.gather_bitmaps(tmp_path, points)) == 3
    points.loc[1, "n"] = 7
    assert len(bitmaps.gather_bitmaps(tmp_path, points)) == 2


def test_a_damaged_cell_costs_its_own_bitmaps(tmp_path):
    points = stored(tmp_path)
    (tmp_path / "cells" / points["cell"][0] / "correct.npz").write_bytes(b"no archive")
    assert {cell for cell, _ in bitmaps.gather_bitmaps(tmp_path, points)} == {points["cell"][2]}


def test_a_cut_file_of_bitmaps_is_reported(tmp_path):
    path = tmp_path / bitmaps.NAME
    path.write_bytes(bitmaps.encode_bitmaps(bitmaps.gather_bitmaps(tmp_path, stored(tmp_path)))[:-40])
    with pytest.raises(StoreError, match=r"correct\.npz: holds no bitmaps"):
        bitmaps.read_bitmaps(path)
    path.write_bytes(bitmaps.encode_bitmaps({}))
    assert bitmaps.read_bitmaps(path) == {}


def test_points_of_committed_results_are_read():
    assert len(Results.read(ROOT / "results" / "quick").bitmaps) > 80
