"""What killed writers left: taken away by the next run or by gc, and never while its writer may still need it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.results import maintenance
from harness.results.leases import Process
from harness.results.store import TEMPORARY, Store


def gone() -> Process:
    """A process of this machine that has ended."""
    code = "import os; from harness.results.leases import Process; print(Process.here())"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    found = Process.parse(done.stdout.strip())
    assert found is not None
    return found


def test_the_byte_that_asks_for_room_does_not_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    dead, alive = gone(), Process.here()
    for folder in (tmp_path / "cells", tmp_path / "leases"):
        for process in (dead, alive):
            (folder / f"{TEMPORARY}probe-{process}-0").write_text("a byte")
    (tmp_path / "cells" / f"{TEMPORARY}abcd-{dead}-0123-old").mkdir()
    store.prepare()
    left = {path.name for path in tmp_path.rglob(f"{TEMPORARY}*")}
    assert left <= {f"{TEMPORARY}probe-{alive}-0"}


def test_gc_takes_half_written_points_of_those_that_are_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    dead, mine = tmp_path / f".points.csv.{gone().pid}.tmp", tmp_path / f".index.json.{os.getpid()}.tmp"
    for path in (dead, mine):
        path.write_text("half a li")
    with store.leases() as leases:
        found = maintenance.rubbish(store, set(), tmp_path / "runs", leases)
        assert [left.path for left in found] == [dead]
        maintenance.remove(store, found, leases)
    assert not dead.exists()
    assert mine.exists()
