"""What killed writers left: taken away by the next run or by gc, and never while its writer may still need it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.results import maintenance
from harness.results.store import PROBE, Store


def gone() -> int:
    """The number of a process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_the_byte_that_asks_for_space_does_not_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    for folder in (tmp_path / "cells", tmp_path / "locks"):
        (folder / PROBE).write_text("a byte, of a run that was killed")
    (tmp_path / "cells" / ".tmp-abcd-0123").mkdir()
    store.prepare()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not store.leftovers()


def test_gc_takes_half_written_points_of_those_that_are_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    dead, mine = tmp_path / f".points.csv.{gone()}.tmp", tmp_path / f".index.json.{os.getpid()}.tmp"
    for path in (dead, mine):
        path.write_text("half a li")
    found = maintenance.list_removable(store, set(), tmp_path / "runs")
    assert [left.path for left in found] == [dead]
    maintenance.remove(store, found)
    assert not dead.exists()
    assert mine.exists()
