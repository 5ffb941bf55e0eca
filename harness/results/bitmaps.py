"""Bitmaps of the test images that each choice got right, of a whole folder of results in one small file.

``correct.npz`` holds the bits of all cells one after the other, each of its bytes the same whenever it is written from
the same cells, so that what needs single images can be computed again from a committed folder without ``cells/``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results import cell_files
from harness.results.cell_files import StoreError, is_cell
from harness.statistics.frames import MEASURED

NAME = "correct.npz"
Bits = NDArray[np.bool_]
Bitmaps = Mapping[tuple[str, float], Bits]  # cell and budget -> which test images were right, shape (n,)


def gather_bitmaps(folder: Path, points: pd.DataFrame) -> dict[tuple[str, float], Bits]:
    """Bitmaps of all measured points that have one, in ``cells/`` or else in ``correct.npz``.

    One that does not count as many right images as its point says belongs to another run, and is left out.
    """
    committed = read_bitmaps(folder / NAME)
    bitmaps: dict[tuple[str, float], Bits] = {}
    measured = points[points["status"].isin(MEASURED)].sort_values(["cell", "budget"])
    rows = zip(*(measured[name].tolist() for name in ("cell", "budget", "correct", "n")), strict=True)
    for cell, of_one in groupby(rows, key=lambda row: str(row[0])):
        answers = {float(budget): (correct, int(n)) for _, budget, correct, n in of_one}
        of_cell = _of_cell(folder / "cells", cell, {budget: n for budget, (_, n) in answers.items()})
        for budget, (correct, n) in answers.items():
            key = (cell, budget)
            bits = of_cell.get(budget, committed.get(key))
            if bits is not None and _fits(bits, correct, n):
                bitmaps[key] = bits
    return bitmaps


def _of_cell(cells: Path, cell: str, sizes: Mapping[float, int]) -> dict[float, Bits]:
    """Bitmaps of a cell; ``sizes``: number of images by budget."""
    if not is_cell(cell) or not (cells / cell).is_dir():
        return {}
    try:
        packed = cell_files.load_bitmaps(cells / cell)
    except StoreError:
        return {}  # `verify` tells of damage; here the images of the cell are just not known
    whole = {b: np.frombuffer(bits, np.uint8) for b, bits in packed.items() if len(bits) == (sizes.get(b, 0) + 7) // 8}
    return {b: np.unpackbits(bits, count=sizes[b]).astype(np.bool_) for b, bits in whole.items() if b in sizes}


def _fits(bits: Bits, correct: float, n: float) -> bool:
    return len(bits) == n and np.count_nonzero(bits) == correct


def encode_bitmaps(bitmaps: Bitmaps) -> bytes:
    keys = sorted(bitmaps)
    packed = [np.packbits(bitmaps[key]) for key in keys]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        cells=np.array([cell for cell, _ in keys], dtype="U64"),
        budgets=np.array([budget for _, budget in keys], dtype=np.float64),
        sizes=np.array([len(bitmaps[key]) for key in keys], dtype=np.int64),
        bits=np.concatenate([*packed, np.zeros(0, dtype=np.uint8)]),
    )
    return buffer.getvalue()


def read_bitmaps(path: Path) -> dict[tuple[str, float], Bits]:
    """Bitmaps that :func:`encode_bitmaps` wrote; none where there is no such file. StoreError where it is not whole."""
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as held:
            cells, budgets, sizes, bits = (held[name] for name in ("cells", "budgets", "sizes", "bits"))
        ends = np.cumsum((sizes + 7) // 8)
        parts = np.split(bits, ends[:-1]) if len(ends) else []
        return {
            (str(cell), float(budget)): np.unpackbits(part, count=int(size)).astype(np.bool_)
            for cell, budget, size, part in zip(cells, budgets, sizes, parts, strict=True)
        }
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: holds no bitmaps: {error}; delete it, `eavit-bench report` writes it") from None
