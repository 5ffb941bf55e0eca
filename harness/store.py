"""The store: ``results/<suite>/``, one folder a cell, each whole or not there. Needs no torch.

A cell's folder holds ``cell.json``, ``record.json``, ``correct.npz``, for a failed cell ``log.txt``, and, written last,
``sha256`` with one ``hex  name`` line for each of them.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.plan import Cell, canonical
from harness.points import Row, rows
from harness.record import SCHEMA_VERSION, Record
from harness.whole import flush_folder, write_flushed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUMS = "sha256"


class StoreError(ValueError):
    """A store that cannot be read or written as a whole, with what to do about it."""


class Damaged(StoreError):
    """One cell of a store is not whole."""


@dataclass(frozen=True)
class Outcome:
    """All that is kept of a cell. ``bitmaps``: budget to one bit a test image, 1 if correct, first bit highest."""

    record: Record
    bitmaps: Mapping[float, bytes] = field(default_factory=dict)
    log: str = ""

    def correct(self, budget: float) -> NDArray[np.bool_]:
        """Which test images were right at ``budget``, shape (n,)."""
        import numpy as np

        n = next(point.n for point in self.record.points if point.budget == budget)
        return np.unpackbits(np.frombuffer(self.bitmaps[budget], np.uint8), count=n).astype(np.bool_)


def pack(correct: NDArray[np.bool_]) -> bytes:
    import numpy as np

    return np.packbits(correct).tobytes()


class Store:
    """``warn`` is told of every cell that was found damaged and moved to ``quarantine/``."""

    def __init__(self, root: Path, warn: Callable[[str], None] = warnings.warn) -> None:
        self.root = root
        self.cells = root / "cells"
        self._warn = warn

    def prepare(self) -> None:
        """Make the store ready to be written, or raise StoreError before any work is done."""
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            probe = self.cells / f".probe-{os.getpid()}"
            write_flushed(probe, b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(f"{self.root}: the store cannot be written: {error.strerror}; nothing was run") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One writer at a time. The lock is the kernel's: it goes when its process goes, however that happens."""
        import fcntl

        handle = os.open(self.cells, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"{self.root}: another run is at work on this store; wait for it or stop it") from None
            for left in self.cells.glob(".tmp-*"):  # what a killed run was writing
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(handle)

    def ids(self) -> list[str]:
        if not self.cells.is_dir():
            return []
        return sorted(entry.name for entry in self.cells.iterdir() if entry.is_dir() and entry.name[0] != ".")

    def read(self, cell: str) -> Outcome | None:
        """The cell, or None if it is not there; what is there and not whole goes to quarantine and is not there."""
        files = self._files(cell)
        return None if files is None else decode(files, str(self.cells / cell))

    def record(self, cell: str) -> Record | None:
        """As :meth:`read`, without the bitmaps."""
        files = self._files(cell)
        return None if files is None else parse_record(files["record.json"], str(self.cells / cell))

    def records(self, wanted: Iterable[str] | None = None) -> dict[str, Record]:
        there = self.ids()
        chosen = there if wanted is None else sorted(set(there) & set(wanted))
        return {cell: record for cell in chosen if (record := self.record(cell)) is not None}

    def points(self, planned: Iterable[Cell]) -> list[Row]:
        """The rows of ``points.csv`` for these cells, as far as they are there."""
        planned = tuple(planned)
        return rows(planned, self.records(cell.id for cell in planned))

    def write(self, outcome: Outcome) -> None:
        """Put a cell there as a whole, in place of what was there. On any error what was there stays."""
        name = outcome.record.cell
        beside, old = self.cells / f".tmp-{name}-{os.getpid()}", self.cells / f".tmp-{name}-old"
        try:
            save(outcome, beside)
            if (self.cells / name).exists():
                shutil.rmtree(old, ignore_errors=True)
                (self.cells / name).rename(old)
            beside.rename(self.cells / name)
            flush_folder(self.cells)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            full = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror)
            raise StoreError(f"{self.root}: cell {name} could not be kept: {full}") from error
        shutil.rmtree(old, ignore_errors=True)

    def _files(self, cell: str) -> dict[str, bytes] | None:
        folder = self.cells / cell
        if not folder.is_dir():
            return None
        try:
            return whole_files(folder)
        except Damaged as error:
            self._quarantine(folder, str(error))
            return None

    def _quarantine(self, folder: Path, why: str) -> None:
        place = self.root / "quarantine"
        try:
            place.mkdir(exist_ok=True)
            number = sum(1 for _ in place.glob(f"{folder.name}*"))
            folder.rename(place / (f"{folder.name}.{number}" if number else folder.name))
            self._warn(f"{folder}: {why}; moved to {place}, the cell counts as missing")
        except OSError as error:
            self._warn(f"{folder}: {why}; it could not be moved to {place} ({error.strerror}), it counts as missing")


def save(outcome: Outcome, folder: Path) -> None:
    """Write the files of a cell into a new ``folder``, the checksums last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = encode(outcome)
    files[SUMS] = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()
    for name, data in files.items():
        write_flushed(folder / name, data)
    flush_folder(folder)


def load(folder: Path) -> Outcome:
    """Read what :func:`save` wrote; :class:`Damaged` if it is not whole."""
    return decode(whole_files(folder), str(folder))


def encode(outcome: Outcome) -> dict[str, bytes]:
    import numpy as np

    record, bitmaps = outcome.record, io.BytesIO()
    arrays = {repr(budget): np.frombuffer(bits, np.uint8) for budget, bits in outcome.bitmaps.items()}
    np.savez_compressed(bitmaps, **arrays)  # type: ignore[arg-type]  # a budget is never called allow_pickle
    identity = {"cell": record.cell, "method": record.method, "dataset": record.dataset, "seed": record.seed}
    # The log comes first: a checksum file cut between two lines then always lacks a file that must be there.
    log = {"log.txt": outcome.log.encode("utf-8", "replace")} if outcome.log else {}
    return log | {
        "cell.json": canonical({**identity, "identity": record.identity}).encode("utf-8") + b"\n",
        "record.json": record.model_dump_json(indent=1).encode("utf-8") + b"\n",
        "correct.npz": bitmaps.getvalue(),
    }


def decode(files: Mapping[str, bytes], where: str) -> Outcome:
    import numpy as np

    record = parse_record(files["record.json"], where)
    with np.load(io.BytesIO(files["correct.npz"]), allow_pickle=False) as arrays:
        bitmaps = {float(name): arrays[name].tobytes() for name in arrays.files}
    return Outcome(record, bitmaps, files.get("log.txt", b"").decode("utf-8"))


def whole_files(folder: Path) -> dict[str, bytes]:
    """The files that ``sha256`` lists, after each was found to be what was written."""
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines(keepends=True)
        sums = {line[66:-1]: line[:64] for line in lines if line[64:66] == "  " and line.endswith("\n")}
        files = {name: (folder / name).read_bytes() for name in sums if name == Path(name).name}
    except (OSError, ValueError) as error:
        raise Damaged(f"not whole ({error})") from None
    if len(sums) != len(lines) or not {"cell.json", "record.json", "correct.npz"} <= files.keys():
        raise Damaged(f"not whole ({SUMS} does not list all files)")
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise Damaged(f"not whole (checksum of {name} differs)")
    return files


def parse_record(text: bytes, where: str) -> Record:
    try:
        version = json.loads(text).get("schema_version")
    except ValueError as error:
        raise StoreError(f"{where}: record.json is not JSON: {error}") from None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: record of schema {version}, this program knows up to {SCHEMA_VERSION}: use a newer eavit-bench"
        )
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(f"{where}: record.json does not fit schema {SCHEMA_VERSION}: {error}") from None
