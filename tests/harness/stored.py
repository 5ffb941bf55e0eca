"""Cells, outcomes and small stores for the tests of all that keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness import plan
from harness.plan import Cell
from harness.results import cell_files
from harness.results.cell_files import Outcome
from harness.results.store import Store
from tests.harness import small


def some_cell(seed: int, **changes: object) -> Cell:
    content = {"budgets": [0.25, 1.0], "seed": seed, "method": {"use": "any.where:at_all"}, **changes}
    return Cell(plan.canonical_digest(content)[:16], "small", "steady", "digits", seed, (), content)


CELLS = tuple(some_cell(seed) for seed in range(3))


def outcome(cell: Cell, log: str = "") -> Outcome:
    bits = np.array([True] * 7 + [False] * 9)
    return Outcome(small.record_of(cell), {b: cell_files.pack_bits(bits) for b in (0.25, 1.0)}, log)


def filled(folder: Path, log: str = "") -> Store:
    kept = Store(folder, warn=lambda text: None)
    kept.prepare()
    for cell in CELLS:
        kept.write(outcome(cell, log))
    return kept
