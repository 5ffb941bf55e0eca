"""The index of a store: what a plan needs of every cell, so that a plan reads one file and not ten thousand.

A cache and nothing else: an entry counts while the cell's ``sha256`` file is the very file it was taken from, and an
index that is missing, cut or changed by as much as a bit is made again. It says what was read once; only
``Store.records`` reads every byte of every cell.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from harness.jobs.files import write_atomic
from harness.results.cell_files import SUMS
from harness.results.record import Record, Status

VERSION = 2  # grows with the fields of CellSummary
_HEAD: Final = b'{"version":%d,"sha256":"%s","cells":'
_TAIL: Final = b"}\n"

Stamp = tuple[int, int, int]  # size, mtime in ns, inode


class CellSummary(NamedTuple):
    """Fields of a record that planning and forecasts need."""

    status: Status
    reason: str
    method: str
    dataset: str
    finished: str


class IndexEntry(NamedTuple):
    stamp: Stamp
    summary: CellSummary


def summarize(record: Record) -> CellSummary:
    return CellSummary(record.status, record.reason, record.method, record.dataset, record.finished)


def folder_stamp(folder: str) -> Stamp | None:
    """Stamp of a cell's folder; None: no cell there, or one without checksums."""
    try:
        state = os.stat(f"{folder}/{SUMS}")  # noqa: PTH116  # ten thousand of them: no Path is made
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns, state.st_ino


def read_index(path: Path) -> dict[str, IndexEntry]:
    """Empty when there is none that this version's :func:`write_index` wrote, byte for byte."""
    try:
        text = path.read_bytes()
    except OSError:
        return {}
    body = text[len(_head(b"")) : -len(_TAIL)]
    if text != _head(body) + body + _TAIL:
        return {}
    raw = json.loads(body).items()
    return {cell: IndexEntry(tuple(stamp), CellSummary(*summary)) for cell, (stamp, summary) in raw}


def write_index(path: Path, entries: Mapping[str, IndexEntry]) -> None:
    """Write the index atomically. Where it cannot be written, the next reader does without."""
    body = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    with contextlib.suppress(OSError):
        write_atomic(path, _head(body) + body + _TAIL)


def _head(body: bytes) -> bytes:
    return _HEAD % (VERSION, hashlib.sha256(body).hexdigest().encode())
