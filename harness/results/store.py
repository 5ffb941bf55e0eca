"""The store: ``results/<suite>/``, one folder a cell, each whole or not there. Needs no torch.

``cells/<id>/`` holds the files that :mod:`harness.results.cell_files` knows, ``locks/`` a lock for each cell that a
process works on, ``quarantine/`` what was found damaged, and ``index.json`` is a cache that may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.jobs.files import flush_folder, write_flushed
from harness.jobs.locks import Locks
from harness.results import index
from harness.results.cell_files import (
    Damaged,
    Outcome,
    StoreError,
    cell_name,
    decode,
    is_cell,
    parse_record,
    save_outcome,
    unwritable,
    whole_files,
)
from harness.results.index import CellSummary
from harness.results.record import Record

TEMPORARY, OLD = ".tmp-", "-old"  # .tmp-<cell>-<random>, and the same with -old for what it replaces
PROBE = ".tmp-probe"


class Store:
    """``warn`` is called for every cell that was found damaged and moved to ``quarantine/``."""

    def __init__(self, root: Path, warn: Callable[[str], None] = warnings.warn) -> None:
        self.root = root
        self.cells = root / "cells"
        self.quarantine = root / "quarantine"
        self.locks = Locks(root / "locks")  # held by whoever works on a cell, until it is written
        self._warn = warn

    def prepare(self) -> None:
        """Make the store ready to be written, or raise StoreError before any work is done.

        What killed writers left is removed; a cell that they had taken away and not replaced comes back.
        """
        try:
            for folder in (self.cells, self.locks.folder):
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    write_flushed(folder / PROBE, b"a byte, so that a full disk is noticed")
                finally:
                    (folder / PROBE).unlink(missing_ok=True)
        except OSError as error:
            why = unwritable(f"{self.root}: the store cannot be written", error)
            raise StoreError(f"{why}; nothing was run") from None
        for left in self.leftovers():
            with contextlib.suppress(OSError):
                if (lock := self.locks.acquire(cell_of(left))) is not None:
                    with lock:
                        self.clear(left)

    def leftovers(self) -> list[Path]:
        """Temporary folders of cells that are being written, or whose writer was killed: the cell's lock tells."""
        return [path for path in sorted(self.cells.glob(f"{TEMPORARY}*")) if is_cell(cell_of(path))]

    def clear(self, left: Path) -> None:
        """Remove what a killed writer left, under the cell's lock; the cell that it had moved away comes back."""
        place = self.cells / cell_of(left)
        if left.name.endswith(OLD) and not place.exists():
            left.rename(place)
        else:
            shutil.rmtree(left, ignore_errors=True)

    def ids(self) -> list[str]:
        """Ids of all folders of cells, complete or not."""
        try:
            with os.scandir(self.cells) as entries:
                return sorted(entry.name for entry in entries if is_cell(entry.name) and entry.is_dir())
        except FileNotFoundError:
            return []

    def read(self, cell: str) -> Outcome | None:
        """The cell, or None if it is not there; what is there and not whole goes to quarantine and is not there."""
        files = self._files(cell)
        try:
            return None if files is None else decode(files, str(self.cells / cell))
        except Damaged as error:
            self._put_away(self.cells / cell, str(error))
            return None

    def record(self, cell: str) -> Record | None:
        """Read a record as :meth:`read` does, without the bitmaps."""
        files = self._files(cell)
        try:
            return None if files is None else parse_record(files["record.json"], f"{self.cells}/{cell}")
        except Damaged as error:
            self._put_away(self.cells / cell, str(error))
            return None

    def records(self, wanted: Iterable[str] | None = None) -> dict[str, Record]:
        """Records of the cells that are there; every file of each was read and verified."""
        there = self.ids()
        chosen = there if wanted is None else sorted(set(there) & set(wanted))
        return {cell: record for cell in chosen if (record := self.record(cell)) is not None}

    def summaries(self, wanted: Iterable[str]) -> dict[str, CellSummary]:
        """Summaries of the cells that are there, in the order of ``wanted``. Cells in the index are not read again."""
        path = self.root / "index.json"
        known = index.read_index(path)
        summaries: dict[str, CellSummary] = {}
        fresh: dict[str, index.IndexEntry] = {}
        for cell in wanted:
            stamp = index.folder_stamp(f"{self.cells}/{cell_name(cell)}")
            if stamp is None:
                continue
            entry = known.get(cell)
            if entry is None or entry.stamp != stamp:
                record = self.record(cell)
                if record is None:
                    continue
                entry = fresh[cell] = index.IndexEntry(stamp, index.summarize(record))
            summaries[cell] = entry.summary
        if fresh:
            there = set(self.ids())
            index.write_index(path, {cell: entry for cell, entry in (known | fresh).items() if cell in there})
        return summaries

    def write(self, outcome: Outcome) -> None:
        """Put a cell there as a whole, in place of what was there. On any error what was there stays."""
        name = cell_name(outcome.record.cell)
        beside = self._temporary(name)
        old = beside.with_name(f"{beside.name}{OLD}")
        try:
            save_outcome(outcome, beside)
            _replace(self.cells / name, beside, old)
            flush_folder(self.cells)
        except OSError as error:
            raise unwritable(f"{self.root}: cell {name} could not be kept", error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    def remove(self, cell: str) -> None:
        """Take a cell away as a whole."""
        gone = self._temporary(cell_name(cell))
        try:
            (self.cells / cell).rename(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(f"{self.root}: cell {cell} could not be removed", error) from error
        shutil.rmtree(gone, ignore_errors=True)

    def _temporary(self, cell: str) -> Path:
        return self.cells / f"{TEMPORARY}{cell}-{secrets.token_hex(4)}"

    def _files(self, cell: str) -> dict[str, bytes] | None:
        folder = self.cells / cell_name(cell)
        before = _version(folder)
        while before is not None:
            try:
                return whole_files(folder)
            except Damaged as error:
                now = _version(folder)
                if now == before:
                    self._put_away(folder, str(error))
                    return None
                before = now  # another process replaced the cell while it was read
        return None

    def _put_away(self, folder: Path, why: str) -> None:
        place = self.quarantine
        try:
            place.mkdir(exist_ok=True)
            number = sum(1 for _ in place.glob(f"{folder.name}*"))
            folder.rename(place / (f"{folder.name}.{number}" if number else folder.name))
            self._warn(f"{folder}: {why}; moved to {place}, the cell counts as missing")
        except OSError as error:
            self._warn(f"{folder}: {why}; it could not be moved to {place} ({error.strerror}), it counts as missing")


def cell_of(left: Path) -> str:
    """The cell in the name of a temporary folder."""
    return left.name.removeprefix(TEMPORARY).partition("-")[0]


def _replace(place: Path, new: Path, old: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        with contextlib.suppress(OSError):
            old.rename(place)
        raise


def _version(folder: Path) -> tuple[int, int] | None:
    """Tells a cell's folder from the one that takes its place."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
