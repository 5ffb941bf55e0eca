"""The store: ``results/<suite>/``, one folder a cell, each whole or not there. Needs no torch.

``cells/<id>/`` holds the files that :mod:`harness.results.cell_files` knows, ``leases/`` says who is at work on which
cell, ``quarantine/`` keeps what was found damaged, and ``index.json`` is a cache that may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict, Unpack

from harness.plan import Cell
from harness.results import index
from harness.results.atomic import flush_folder, write_flushed
from harness.results.cell_files import Damaged, Outcome, decode, load, pack, parse_record, save, whole_files
from harness.results.index import Summary
from harness.results.leases import Lease, LeaseLost, Leases, Process, StoreError, cell_name, is_cell, unwritable
from harness.results.points import Row, rows
from harness.results.record import Record

__all__ = [
    "Damaged",
    "Lease",
    "LeaseLost",
    "Leases",
    "Outcome",
    "Store",
    "StoreError",
    "Summary",
    "load",
    "pack",
    "save",
]

TEMPORARY = ".tmp-"  # .tmp-<cell>-<process that writes it>-<random>, and the same with -old; in place of a cell: probe


class Pace(TypedDict, total=False):
    """Seconds between two signs of life, and without one until a runner counts as gone."""

    beat: float
    patience: float


class Store:
    """``warn`` is told of every cell that was found damaged and moved to ``quarantine/``."""

    def __init__(self, root: Path, warn: Callable[[str], None] = warnings.warn) -> None:
        self.root = root
        self.cells = root / "cells"
        self.quarantine = root / "quarantine"
        self._warn = warn

    def prepare(self) -> None:
        """Make the store ready to be written, or raise StoreError before any work is done.

        What writers left that are known to be gone is removed.
        """
        leases = self.root / "leases"
        try:
            for folder in (self.cells, leases):
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f"{TEMPORARY}probe-{Process.here()}-0"
                try:
                    write_flushed(probe, b"a byte, so that a full disk is told")
                finally:
                    probe.unlink(missing_ok=True)
        except OSError as error:
            why = unwritable(f"{self.root}: the store cannot be written", error)
            raise StoreError(f"{why}; nothing was run") from None
        for left, writer in self.leftovers():
            if writer is not None and writer.gone():
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def leases(self, **pace: Unpack[Pace]) -> Leases:
        """To be closed by who asks for them."""
        return Leases(self.root / "leases", **pace)

    def leftovers(self) -> list[tuple[Path, Process | None]]:
        """Temporary folders and files, and who was or is writing each; None where its name does not say it."""
        found = []
        for left in sorted([*self.cells.glob(f"{TEMPORARY}*"), *(self.root / "leases").glob(f"{TEMPORARY}*")]):
            parts = left.name.split("-")
            found.append((left, Process.parse(parts[2]) if len(parts) > 3 else None))
        return found

    def ids(self) -> list[str]:
        """Of all that has a cell's folder, whole or not."""
        try:
            with os.scandir(self.cells) as entries:
                return sorted(entry.name for entry in entries if is_cell(entry.name) and entry.is_dir())
        except FileNotFoundError:
            return []

    def read(self, cell: str) -> Outcome | None:
        """The cell, or None if it is not there; what is there and not whole goes to quarantine and is not there."""
        files = self._files(cell)
        return None if files is None else decode(files, str(self.cells / cell))

    def record(self, cell: str) -> Record | None:
        """As :meth:`read`, without the bitmaps."""
        files = self._files(cell)
        return None if files is None else parse_record(files["record.json"], f"{self.cells}/{cell}")

    def records(self, wanted: Iterable[str] | None = None) -> dict[str, Record]:
        """Of the cells that are there; every file of each was read and verified."""
        there = self.ids()
        chosen = there if wanted is None else sorted(set(there) & set(wanted))
        return {cell: record for cell in chosen if (record := self.record(cell)) is not None}

    def summaries(self, wanted: Iterable[str]) -> dict[str, Summary]:
        """Of the cells that are there, in the order asked for. A cell that the index knows is not read again."""
        path = self.root / "index.json"
        known = index.read(path)
        found: dict[str, Summary] = {}
        fresh: dict[str, index.Entry] = {}
        for cell in wanted:
            stamp = index.stamp(f"{self.cells}/{cell_name(cell)}")
            if stamp is None:
                continue
            entry = known.get(cell)
            if entry is None or entry.stamp != stamp:
                record = self.record(cell)
                if record is None:
                    continue
                entry = fresh[cell] = index.Entry(stamp, index.summary(record))
            found[cell] = entry.summary
        if fresh:
            there = set(self.ids())
            index.write(path, {cell: entry for cell, entry in (known | fresh).items() if cell in there})
        return found

    def points(self, planned: Iterable[Cell]) -> list[Row]:
        """The rows of ``points.csv`` for these cells, as far as they are there."""
        planned = tuple(planned)
        return rows(planned, self.records(cell.id for cell in planned))

    def write(self, outcome: Outcome, lease: Lease | None = None) -> None:
        """Put a cell there as a whole, in place of what was there. On any error what was there stays.

        LeaseLost if ``lease`` is no longer ours: another runner's result is not written over.
        """
        name = cell_name(outcome.record.cell)
        if lease is not None and lease.cell != name:
            raise StoreError(f"{self.root}: cell {name} under the lease of cell {lease.cell}; nothing was written")
        beside = self._temporary(name)
        old = beside.with_name(f"{beside.name}-old")
        try:
            save(outcome, beside)
            with contextlib.nullcontext() if lease is None else lease.fenced():
                _swap(beside, self.cells / name, old)
            flush_folder(self.cells)
        except OSError as error:
            raise unwritable(f"{self.root}: cell {name} could not be kept", error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    def remove(self, cell: str, lease: Lease) -> None:
        """Take a cell away as a whole."""
        gone = self._temporary(cell_name(cell))
        try:
            with lease.fenced():
                (self.cells / cell).rename(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(f"{self.root}: cell {cell} could not be removed", error) from error
        shutil.rmtree(gone, ignore_errors=True)

    def _temporary(self, cell: str) -> Path:
        return self.cells / f"{TEMPORARY}{cell}-{Process.here()}-{secrets.token_hex(4)}"

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


def _swap(new: Path, place: Path, old: Path) -> None:
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
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
