"""docs/faults.md names for every fault the tests that prove it, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
FAULTS = 47
ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")
ROWS = {int(found[1]): found[4] for line in PAGE.splitlines() if (found := ROW.fullmatch(line))}


@cache
def functions(path: Path) -> frozenset[str]:
    """Names of what a file defines at its top: pytest collects those, or a program runs them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def proofs(row: str) -> list[tuple[str, str]]:
    return [(file, name) for file, _, name in (proof.strip().partition("::") for proof in row.split(","))]


def test_every_fault_has_one_row() -> None:
    assert list(ROWS) == list(range(1, FAULTS + 1))
    assert sum(line.startswith("| ") and line[2].isdigit() for line in PAGE.splitlines()) == len(ROWS)


@pytest.mark.parametrize("number", ROWS)
def test_what_a_row_names_is_there(number: int) -> None:
    named = proofs(ROWS[number])
    assert len(set(named)) == len(named)
    missing = [f"{file}::{name}" for file, name in named if not _there(TESTS / file, name)]
    assert not missing


def test_every_row_is_proved_by_an_ordinary_test() -> None:
    """The long program is run now and then; what breaks must be seen on every day."""
    assert not [number for number, row in ROWS.items() if not any(name.startswith("test_") for _, name in proofs(row))]


def test_the_watch_sees_what_is_gone() -> None:
    assert not _there(TESTS / "harness" / "sweep" / "test_sweep.py", "test_that_nobody_wrote")
    assert not _there(TESTS / "harness" / "test_of_nothing.py", "test_x")


def _there(path: Path, name: str) -> bool:
    return path.is_file() and name in functions(path)
