"""The store where writing fails: full and read-only disks, and writers that are killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.results import cell_files, store
from harness.results.cell_files import StoreError
from harness.results.store import Store
from tests.harness.lock_holder import LockHolder
from tests.harness.mounts import mounted
from tests.harness.stored import CELLS, filled, outcome


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = filled(tmp_path)
    full = OSError(28, "No space left on device")

    def refuse(path: Path, data: bytes) -> None:
        if path.name == "correct.npz":
            raise full

    monkeypatch.setattr(cell_files, "write_flushed", refuse)
    with pytest.raises(StoreError, match="the disk is full"):
        kept.write(outcome(CELLS[0], log="new"))
    monkeypatch.undo()
    read = kept.read(CELLS[0].id)
    assert read is not None
    assert read.log == ""
    assert not list(kept.cells.glob(".tmp*"))


def test_a_store_that_cannot_be_written_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the store cannot be written: .*; nothing was run"):
        Store(tmp_path / "file" / "store").prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_store_is_reported(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "cells").chmod(0o555)
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path).prepare()


def test_a_store_on_a_read_only_disk_is_reported_and_still_read(tmp_path: Path) -> None:
    """Also what is damaged in it: it cannot be moved, and counts as missing."""
    with mounted(tmp_path / "small", "size=1m") as place:
        kept = filled(place)
        (kept.cells / CELLS[0].id / "sha256").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        warnings: list[str] = []
        kept = Store(place, warn=warnings.append)
        with pytest.raises(StoreError, match="cannot be written: Read-only file system; nothing was run"):
            kept.prepare()
        with pytest.raises(StoreError, match="could not be kept: Read-only file system"):
            kept.write(outcome(CELLS[0]))
        assert set(kept.records()) == {CELLS[1].id, CELLS[2].id}
        assert "could not be moved" in warnings[0]
        assert len(kept.summaries(cell.id for cell in CELLS)) == 2  # without an index


def test_a_full_disk_refuses_a_cell_and_keeps_the_others(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=400k") as place:
        kept = filled(place)
        with pytest.raises(StoreError, match=f"cell {CELLS[1].id} could not be kept: the disk is full"):
            kept.write(outcome(CELLS[1], log="x" * 10**6))
        assert not list(kept.cells.glob(".tmp*"))
        assert all((read := kept.read(cell.id)) is not None and read.log == "" for cell in CELLS)
        kept.write(outcome(CELLS[1], log="short"))  # others go on
        with (place / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"x" * 512)
        with pytest.raises(StoreError, match="cannot be written: the disk is full; nothing was run"):
            Store(place).prepare()
        assert set(kept.records()) == {cell.id for cell in CELLS}


def test_what_killed_writers_left_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    first, second = CELLS[0].id, CELLS[1].id
    for name in (f".tmp-{first}-00ff", f".tmp-{first}-00ff-old", f".tmp-{second}-00ff", ".tmp-probe"):
        (kept.cells / name).mkdir()
        (kept.cells / name / "record.json").write_text("{")
    (kept.cells / ".tmp-probe" / "record.json").unlink()
    (kept.cells / ".tmp-probe").rmdir()
    with LockHolder(kept.locks.folder) as writer:
        assert writer.ask(f"take {second}") == "yes"
        kept.prepare()
        assert [path.name for path in kept.leftovers()] == [f".tmp-{second}-00ff"]
    kept.prepare()
    assert kept.leftovers() == []
    assert set(kept.records()) == {cell.id for cell in CELLS}


@pytest.mark.parametrize("moment", ["between", "after"])
def test_killed_while_a_cell_is_replaced_the_old_or_the_new_one_is_there(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two renames the cell has no place; the next start brings the old one back."""
    kept = filled(tmp_path)
    rename, left = Path.rename, [1 if moment == "between" else 2]

    class KilledError(BaseException):
        pass

    def dying(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise KilledError
        left[0] -= 1
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dying)
    monkeypatch.setattr(store.shutil, "rmtree", lambda path, **how: None)
    monkeypatch.setattr(store, "flush_folder", lambda folder: (_ for _ in ()).throw(KilledError()))
    with pytest.raises(KilledError):
        kept.write(outcome(CELLS[0], log="new"))
    monkeypatch.undo()
    assert (CELLS[0].id in kept.ids()) == (moment == "after")
    kept.prepare()
    read = kept.read(CELLS[0].id)
    assert read is not None
    assert read.log == ("" if moment == "between" else "new")
    assert kept.leftovers() == []


def test_killed_writers_leave_whole_cells(tmp_path: Path) -> None:
    """SIGKILL at spread moments of a process that does nothing but write cells."""
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.plan import Cell; from harness.results.record import failed_record, now\n"
        "from harness.results.store import Outcome, Store\n"
        "cells = [Cell(id, 's', 'm', 'd', 0, (), {'budgets': [1.0]}) for id in sys.argv[2:]]\n"
        "kept = Store(Path(sys.argv[1])); kept.prepare(); print('go', flush=True)\n"
        "while True:\n"
        " for cell in cells:\n"
        "  lock = kept.locks.acquire(cell.id)\n"
        "  kept.write(Outcome(failed_record(cell, 'nan', '', began=now(), environment={}), {1.0: b'1'}, 'x' * 9999))\n"
        "  lock.release()\n"
    )
    root, ids = Path(__file__).resolve().parents[3], [cell.id for cell in CELLS]
    for trial in range(4):
        command = [sys.executable, "-c", code, str(tmp_path), *ids]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.03 * trial + 0.01)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        warnings: list[str] = []
        kept = Store(tmp_path, warn=warnings.append)
        found = kept.records()
        assert not warnings
        assert set(found) <= set(ids)
        kept.prepare()
        assert not kept.leftovers()
        assert not [cell for cell in ids if kept.locks.holder(cell) is not None], "of a dead owner: at once"
