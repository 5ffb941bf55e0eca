"""Everything that a folder of results keeps of its suite, read once for tables, figures, page, claims and verbs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import code_digest, plan
from harness.plan import Cell, Prints
from harness.results import points
from harness.results.cell_files import StoreError
from harness.results.record import Record
from harness.suite import Suite

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.bitmaps import Bitmaps

CellKey = tuple[str, str, int]  # method, data set, seed
# What the identity of a cell says of the machine and of the program and not of the suite.
NOT_OF_SUITE = frozenset({"protocol", "counter", "data", "code", "needs"})


@dataclass(frozen=True)
class Results:
    """``points``: rows of the cells that the suite's plan names, in the order of the file; ``unplanned``: other rows.

    Without a suite all rows are ``points``. ``records`` by cell, of all cells; ``absent``: optional columns that
    points.csv lacks.
    """

    folder: Path
    points: pd.DataFrame
    unplanned: pd.DataFrame
    records: Mapping[str, Record] = field(default_factory=dict)
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    planned: frozenset[CellKey] = frozenset()

    @classmethod
    def read(cls, folder: Path, suite: Suite | None = None) -> Results:
        """StoreError names the file that is missing, or damaged and how."""
        table, absent = points.read_points(folder / "points.csv")
        records = records_of(folder)
        cells = {} if suite is None else _plan(suite)
        named = _named(table, suite, cells, records)
        return cls(
            folder=folder,
            points=table[named].reset_index(drop=True),
            unplanned=table[~named].reset_index(drop=True),
            records=records,
            cards=_cards(folder / "cards.json"),
            absent=absent,
            planned=frozenset(cells),
        )

    @cached_property
    def bitmaps(self) -> Bitmaps:
        """Bitmaps of the test images that each measured point got right, as far as they are kept."""
        from harness.results import bitmaps

        return bitmaps.gather_bitmaps(self.folder, self.points)


def records_of(folder: Path) -> dict[str, Record]:
    """Empty where the folder keeps no records."""
    path = folder / "records.jsonl"
    return points.read_records(path) if path.is_file() else {}


def _cards(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not JSON: {error}") from None
    if not isinstance(held, dict) or not all(isinstance(card, dict) for card in held.values()):
        raise StoreError(f"{path}: needs an object, method to card")
    return held


# --- which cells the plan names ---------------------------------------------------------------------------------


def _plan(suite: Suite) -> dict[CellKey, Cell]:
    """The cells of a suite, without looking at code or data."""
    uses = [suite.backbone.use, *(method.use for method in suite.methods)]
    blank = Prints(code=dict.fromkeys(uses, ""), data={entry.name: entry.name for entry in suite.datasets}, missing={})
    return {(cell.method, cell.dataset, cell.seed): cell for cell in plan.cells(suite, blank)}


def _named(
    table: pd.DataFrame, suite: Suite | None, cells: Mapping[CellKey, Cell], records: Mapping[str, Record]
) -> pd.Series:
    """Mask of the rows of cells that the plan names: by recipe, or, without a record, by names and budgets."""
    import pandas as pd

    if suite is None:
        return pd.Series(True, table.index)
    digest = cache(code_digest.digest)
    keys = list(zip(table["method"], table["dataset"], table["seed"], strict=True))
    same = {
        cell: same_recipe(records[cell].identity, cells[key].content, digest)
        for cell, key in zip(table["cell"], keys, strict=True)
        if cell in records and key in cells
    }
    known = pd.Series([key in cells for key in keys], table.index, dtype=bool) & (table["suite"] == suite.name)
    budgets = table["budget"].isin(suite.budgets).groupby(table["cell"]).transform("all")
    return known & pd.Series([same.get(c, at) for c, at in zip(table["cell"], budgets, strict=True)], table.index, bool)


def same_recipe(
    recorded: Mapping[str, Any], planned: Mapping[str, Any], digest: Callable[[str], str] = code_digest.digest
) -> bool:
    """Return whether two identities have the same recipe, whatever their code and data.

    Keys that only one of them has are of another version of this program. A method or backbone whose code has changed
    since may spell its options otherwise, so its options say nothing; the commit of the record tells which code it was.
    """
    return all(
        _agree(recorded[key], planned[key]) or (key in ("method", "backbone") and _code_changed(recorded, key, digest))
        for key in recorded.keys() & planned.keys() - NOT_OF_SUITE
    )


def _agree(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping) and "use" not in one:
        return all(one[key] == other[key] for key in one.keys() & other.keys())
    return False


def _code_changed(recorded: Mapping[str, Any], part: str, digest: Callable[[str], str]) -> bool:
    use, code = recorded[part].get("use"), recorded.get("code")
    return isinstance(code, Mapping) and isinstance(use, str) and digest(use) != code.get(part)
