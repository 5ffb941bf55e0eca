"""docs/faults.md and docs/field-cases.md name for every row the tests that prove it, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
DOCS = TESTS.parent / "docs"
ROWS_OF = {"faults.md": 47, "field-cases.md": 44}
ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")
ROWS = {
    (page, int(found[1])): found[4]
    for page in ROWS_OF
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines()
    if (found := ROW.fullmatch(line))
}


@cache
def functions(path: Path) -> frozenset[str]:
    """Names of what a file defines at its top: pytest collects those, or a program runs them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def proofs(row: str) -> list[tuple[str, str]]:
    return [(file, name) for file, _, name in (proof.strip().partition("::") for proof in row.split(","))]


@pytest.mark.parametrize("page", ROWS_OF)
def test_every_fault_and_field_case_has_one_row(page: str) -> None:
    assert [number for name, number in ROWS if name == page] == list(range(1, ROWS_OF[page] + 1))
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("| ") and line[2].isdigit() for line in lines) == ROWS_OF[page]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_what_a_row_names_is_there(row: tuple[str, int]) -> None:
    named = proofs(ROWS[row])
    assert len(set(named)) == len(named)
    missing = [f"{file}::{name}" for file, name in named if not _there(TESTS / file, name)]
    assert not missing


def test_every_row_is_proved_by_an_ordinary_test() -> None:
    """The long program is run now and then; what breaks must be seen on every day."""
    assert not [place for place, row in ROWS.items() if not any(name.startswith("test_") for _, name in proofs(row))]


def test_the_watch_sees_what_is_gone() -> None:
    assert not _there(TESTS / "harness" / "sweep" / "test_sweep.py", "test_that_nobody_wrote")
    assert not _there(TESTS / "harness" / "test_of_nothing.py", "test_x")


def _there(path: Path, name: str) -> bool:
    return path.is_file() and name in functions(path)
