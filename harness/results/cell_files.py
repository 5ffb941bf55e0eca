"""The files of one cell: ``cell.json``, ``record.json``, ``correct.npz``, for a failed cell ``log.txt``, where the
suite has metrics ``outputs.npz``, and, written last, ``sha256`` with one ``hex  name`` line for each of them.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.jobs.files import LIMIT, UnreadableError, flush_folder, parse_json, read_regular, write_flushed
from harness.plan import canonical, canonical_digest
from harness.results.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUMS, OUTPUTS = "sha256", "outputs.npz"
NEEDED = frozenset({"cell.json", "record.json", "correct.npz"})
MOST = 8  # files of a cell
NPY = b"\x93NUMPY\x01\x00"  # how an array of version 1.0 begins
UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
RawRecord = dict[str, Any]
_CELL = re.compile(r"[0-9a-f]{1,64}")


class StoreError(ValueError):
    """Raised for a store that cannot be read or written, with what to do about it."""


class Damaged(StoreError):
    """Raised for one cell whose files are incomplete or were changed."""


def is_cell(name: str) -> bool:
    return _CELL.fullmatch(name) is not None


def cell_name(cell: str) -> str:
    """``cell``, which is going to be part of a path; StoreError unless it is an id."""
    if not is_cell(cell):
        raise StoreError(f"{cell!r} is no cell id: an id is 1 to 64 hexadecimal digits, 0-9 and a-f")
    return cell


def unwritable(what: object, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StoreError(f"{what}: {'the disk is full' if full else error.strerror}")


@dataclass(frozen=True)
class Outcome:
    """All that is kept of a cell. ``bitmaps``: budget to one bit a test image, 1 if correct, first bit highest.
    ``outputs``: as :func:`pack_outputs` packs them; empty where the suite has no metrics.
    """

    record: Record
    bitmaps: Mapping[float, bytes] = field(default_factory=dict)
    log: str = ""
    outputs: bytes = b""

    def correct(self, budget: float) -> NDArray[np.bool_]:
        """Bitmap of the test images that were right at ``budget``, shape (n,)."""
        import numpy as np

        n = next(point.n for point in self.record.points if point.budget == budget)
        return np.unpackbits(np.frombuffer(self.bitmaps[budget], np.uint8), count=n).astype(np.bool_)


def pack_bits(correct: NDArray[np.bool_]) -> bytes:
    import numpy as np

    return np.packbits(correct).tobytes()


def pack_outputs(labels: NDArray[np.int64], logits: Mapping[float, NDArray[np.float32]]) -> tuple[bytes, list[str]]:
    """Logits (n, classes) by budget and the labels (n,) as one file; none and a note where it would be too large."""
    import numpy as np

    buffer, budgets = io.BytesIO(), sorted(logits)
    table = np.stack([logits[budget] for budget in budgets])
    np.savez_compressed(buffer, labels=labels, budgets=np.array(budgets), logits=table)
    if (size := len(buffer.getvalue())) > LIMIT:
        return b"", [f"the outputs were dropped: {size} bytes; at most {LIMIT} are kept, and no metric has a value"]
    return buffer.getvalue(), []


def unpack_outputs(data: bytes) -> tuple[NDArray[np.int64], dict[float, NDArray[np.float32]]]:
    """Labels (n,), and by budget logits (n, classes), as :func:`pack_outputs` packed them; Damaged for other bytes."""
    import numpy as np

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            labels, budgets, logits = (held[name] for name in ("labels", "budgets", "logits"))
        return labels, dict(zip(budgets.tolist(), logits, strict=True))
    except UNREADABLE as error:
        raise Damaged(f"{OUTPUTS}: not outputs: {error}") from None


def save_outcome(outcome: Outcome, folder: Path) -> None:
    """Write the files of a cell into a new ``folder``, the checksums last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = encode(outcome)
    files[SUMS] = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()
    for name, data in files.items():
        write_flushed(folder / name, data)
    flush_folder(folder)


def load_outcome(folder: Path) -> Outcome:
    """Read what :func:`save_outcome` wrote; :class:`Damaged` if it is not whole."""
    return decode(whole_files(folder), str(folder))


def encode(outcome: Outcome) -> dict[str, bytes]:
    import numpy as np

    record, bitmaps = outcome.record, io.BytesIO()
    arrays = {repr(budget): np.frombuffer(bits, np.uint8) for budget, bits in outcome.bitmaps.items()}
    np.savez_compressed(bitmaps, **arrays)  # type: ignore[arg-type]  # a budget is never called allow_pickle
    # These come first: a checksum file cut between two lines then always lacks a file that must be there.
    more = {"log.txt": outcome.log.encode("utf-8", "replace")} if outcome.log else {}
    more |= {OUTPUTS: outcome.outputs} if outcome.outputs else {}
    return more | {
        "cell.json": card(record),
        "record.json": record.model_dump_json(indent=1).encode("utf-8") + b"\n",
        "correct.npz": bitmaps.getvalue(),
    }


def card(record: Record) -> bytes:
    """``cell.json``: what was run, for eyes and for other programs."""
    names = {"cell": record.cell, "method": record.method, "dataset": record.dataset, "seed": record.seed}
    return canonical({**names, "identity": record.identity}).encode("utf-8") + b"\n"


def decode(files: Mapping[str, bytes], where: str) -> Outcome:
    record, bitmaps = parse_record(files["record.json"], where), _bitmaps(files["correct.npz"], where)
    try:
        log = files.get("log.txt", b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(f"{where}: log.txt: {error}") from None
    return Outcome(record, bitmaps, log, files.get(OUTPUTS, b""))


def load_bitmaps(folder: Path) -> dict[float, bytes]:
    """Bitmaps of a cell by budget, without its other files and their checksums."""
    try:
        return _bitmaps(read_regular(folder / "correct.npz"), str(folder))
    except UnreadableError as error:
        raise Damaged(f"not whole ({error})") from None


def _bitmaps(data: bytes, where: str) -> dict[float, bytes]:
    try:
        return {float(name): bits for name, bits in _unpack(data)}
    except UNREADABLE as error:
        raise Damaged(f"{where}: correct.npz: not bitmaps: {error}") from None


def _unpack(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each array of an npz file that holds bytes in one dimension; ValueError for any other.

    Unlike numpy's own reader it allocates no more than the archive holds, which is at most LIMIT.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if (size := sum(entry.file_size for entry in archive.infolist())) > LIMIT:
            raise ValueError(f"it unpacks to {size} bytes; at most {LIMIT} are read")
        for entry in archive.infolist():
            array = archive.read(entry)
            if array[: len(NPY)] != NPY:
                raise ValueError(f"{entry.filename}: not an array, or of another version of the format")
            head, start = array[len(NPY) : len(NPY) + 2], len(NPY) + 2
            end = start + int.from_bytes(head, "little")
            (shape, dtype), bits = _npy_header(head + array[start:end]), array[end:]
            if dtype != "uint8" or shape != (len(bits),):
                raise ValueError(f"{entry.filename}: {dtype} of shape {shape} in {len(bits)} bytes")
            yield entry.filename.removesuffix(".npy"), bits


@lru_cache(maxsize=64)
def _npy_header(text: bytes) -> tuple[tuple[int, ...], str]:
    """Shape and type in the header of an npy file. Most headers are alike, and numpy takes long to read one."""
    from numpy.lib import format as npy

    shape, _, dtype = npy.read_array_header_1_0(io.BytesIO(text))
    return shape, str(dtype)


def whole_files(folder: Path) -> dict[str, bytes]:
    """The files that ``sha256`` lists, after each was found to be what was written.

    All are read from the folder that had the name at first, though another may get the name meanwhile.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise Damaged(f"not whole ({error.strerror})") from None
    try:
        lines = read_regular(SUMS, folder=handle).decode("ascii").splitlines(keepends=True)
        sums = {line[66:-1]: line[:64] for line in lines if line[64:66] == "  " and line.endswith("\n")}
        if len(sums) != len(lines) or len(sums) > MOST or not sums.keys() >= NEEDED:
            raise Damaged(f"not whole ({SUMS} does not list all files)")
        files = {name: read_regular(name, folder=handle) for name in sums if "/" not in name}
    except (UnreadableError, UnicodeDecodeError) as error:
        raise Damaged(f"not whole ({error})") from None
    finally:
        os.close(handle)
    for name in sums:
        if name not in files or hashlib.sha256(files[name]).hexdigest() != sums[name]:
            raise Damaged(f"not whole (checksum of {name} differs)")
    return files


def parse_record(text: bytes, where: str) -> Record:
    """Parse a record of this schema or an older one, which is migrated; a newer one is refused."""
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        fault = error
    try:
        raw = parse_json(text, f"{where}: record.json")
        version = raw["schema_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{where}: no record: {error}") from None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: record of schema {version}, this program knows up to {SCHEMA_VERSION}: use a newer eavit-bench"
        )
    if isinstance(version, int) and version < SCHEMA_VERSION:
        return _migrated(raw, version, where)
    raise StoreError(f"{where}: the record does not fit schema {SCHEMA_VERSION}: {fault}")


def fits(record: Record) -> bool:
    """Return whether the cell's id is the hash of its identity: what was run is what the id stands for."""
    return len(record.cell) >= 8 and canonical_digest(record.identity).startswith(record.cell)


def _migrated(raw: dict[str, object], version: int, where: str) -> Record:
    try:
        return Record.model_validate_json(json.dumps(migrate_to(SCHEMA_VERSION, raw)))
    except (ValidationError, MigrationError) as error:
        raise StoreError(
            f"{where}: a record of schema {version} that does not become one of {SCHEMA_VERSION}: {error}"
        ) from None


# --- older schemas -------------------------------------------------------------------------------------------------


class MigrationError(ValueError):
    """A record of a schema that no step leads on from."""


def migrate_to(version: int, raw: RawRecord) -> RawRecord:
    """``raw`` as a record of schema ``version``; it is not changed itself."""
    current = raw.get("schema_version")
    while current != version:
        if not isinstance(current, int) or current not in STEPS:
            raise MigrationError(f"no way from schema {current!r} to {version}; known: {', '.join(map(str, STEPS))}")
        raw = STEPS[current](raw)
        current = raw["schema_version"]
    return raw


def _first(raw: RawRecord) -> RawRecord:
    """Schema 2 counts the attempts at a cell and says what it took of memory and disk, which schema 1 did not note."""
    return {**raw, "schema_version": 2, "attempts": 1, "peak_mib": None, "disk_mib": None}


def _second(raw: RawRecord) -> RawRecord:
    """Schema 3 has the answers to the budgets of the area, which schema 2 did not ask at."""
    return {**raw, "schema_version": 3, "grid": []}


STEPS: Mapping[int, Callable[[RawRecord], RawRecord]] = {1: _first, 2: _second}
