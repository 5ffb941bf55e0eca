"""The files of one cell: ``cell.json``, ``record.json``, ``correct.npz``, for a failed cell ``log.txt``, and, written
last, ``sha256`` with one ``hex  name`` line for each of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.plan import canonical, digest
from harness.results import migrate
from harness.results.atomic import flush_folder, write_flushed
from harness.results.leases import StoreError
from harness.results.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Damaged",
    "Outcome",
    "StoreError",
    "decode",
    "encode",
    "load",
    "pack",
    "parse_record",
    "save",
    "whole_files",
]

SUMS = "sha256"
NEEDED = frozenset({"cell.json", "record.json", "correct.npz"})


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
    # The log comes first: a checksum file cut between two lines then always lacks a file that must be there.
    log = {"log.txt": outcome.log.encode("utf-8", "replace")} if outcome.log else {}
    return log | {
        "cell.json": card(record),
        "record.json": record.model_dump_json(indent=1).encode("utf-8") + b"\n",
        "correct.npz": bitmaps.getvalue(),
    }


def card(record: Record) -> bytes:
    """``cell.json``: what was run, for eyes and for other programs."""
    names = {"cell": record.cell, "method": record.method, "dataset": record.dataset, "seed": record.seed}
    return canonical({**names, "identity": record.identity}).encode("utf-8") + b"\n"


def decode(files: Mapping[str, bytes], where: str) -> Outcome:
    import numpy as np

    record = parse_record(files["record.json"], where)
    try:
        with np.load(io.BytesIO(files["correct.npz"]), allow_pickle=False) as arrays:
            bitmaps = {float(name): arrays[name].tobytes() for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise Damaged(f"{where}: correct.npz holds no bitmaps: {error}") from None
    return Outcome(record, bitmaps, files.get("log.txt", b"").decode("utf-8"))


def whole_files(folder: Path) -> dict[str, bytes]:
    """The files that ``sha256`` lists, after each was found to be what was written.

    All are read from the folder that had the name at first, though another may get the name meanwhile.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Damaged(f"not whole ({error.strerror})") from None
    try:
        lines = _content(SUMS, handle).decode("ascii").splitlines(keepends=True)
        sums = {line[66:-1]: line[:64] for line in lines if line[64:66] == "  " and line.endswith("\n")}
        files = {name: _content(name, handle) for name in sums if "/" not in name}
    except (OSError, ValueError) as error:
        raise Damaged(f"not whole ({error})") from None
    finally:
        os.close(handle)
    if len(sums) != len(lines) or not files.keys() >= NEEDED:
        raise Damaged(f"not whole ({SUMS} does not list all files)")
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise Damaged(f"not whole (checksum of {name} differs)")
    return files


def _content(name: str, folder: int) -> bytes:
    file = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        pieces = [os.read(file, 1 << 16)]
        while pieces[-1]:
            pieces.append(os.read(file, 1 << 20))
        return b"".join(pieces)
    finally:
        os.close(file)


def parse_record(text: bytes, where: str) -> Record:
    """Of this schema or an older one, which is migrated; a newer one is refused."""
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        fault = error
    try:
        raw = json.loads(text)
        version = raw["schema_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{where}: no record: {error}") from None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: record of schema {version}, this program knows up to {SCHEMA_VERSION}: use a newer eavit-bench"
        )
    if isinstance(version, int) and version < SCHEMA_VERSION:
        return _migrated(raw, version, where)
    raise StoreError(f"{where}: the record does not fit schema {SCHEMA_VERSION}: {fault}")


def fits(record: Record) -> bool:
    """Whether the cell's id is the hash of its identity: what was run is what the id stands for."""
    return len(record.cell) >= 8 and digest(record.identity).startswith(record.cell)


def _migrated(raw: dict[str, object], version: int, where: str) -> Record:
    try:
        return Record.model_validate_json(json.dumps(migrate.to(SCHEMA_VERSION, raw)))
    except (ValidationError, migrate.MigrationError) as error:
        raise StoreError(
            f"{where}: a record of schema {version} that does not become one of {SCHEMA_VERSION}: {error}"
        ) from None
