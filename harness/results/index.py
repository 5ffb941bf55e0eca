"""The index of a store: of every cell what a plan asks for, so that a plan reads one file and not ten thousand.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from harness.jobs.files import write_atomic
from harness.results.cell_files import SUMS
from harness.results.record import Record, Status

VERSION = 1
_HEAD: Final = b'{"version":%d,"sha256":"%s","cells":'
_TAIL: Final = b"}\n"

Stamp = tuple[int, int, int]  # size, mtime in ns, inode


@dataclass(frozen=True, slots=True)
class Summary:
    """Part of a record that planning, forecasts and waiting need. ``choices`` and ``given`` as in a record."""

    status: Status
    reason: str
    seconds: float
    train_macs: float
    method: str
    dataset: str
    seed: int
    choices: dict[str, str]
    given: dict[str, dict[str, str]]
    finished: str
    attempts: int
    peak_mib: float | None
    disk_mib: float | None
    machine: str | None
    workers: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    stamp: Stamp
    summary: Summary


def summarize(record: Record) -> Summary:
    machine, workers = record.environment.get("machine"), record.environment.get("workers")
    return Summary(
        status=record.status,
        reason=record.reason,
        seconds=record.seconds,
        train_macs=record.train_macs,
        method=record.method,
        dataset=record.dataset,
        seed=record.seed,
        choices=record.choices(),
        given=record.given,
        finished=record.finished,
        attempts=record.attempts,
        peak_mib=record.peak_mib,
        disk_mib=record.disk_mib,
        machine=machine if isinstance(machine, str) else None,
        workers=workers if isinstance(workers, int) else None,
    )


def folder_stamp(folder: str) -> Stamp | None:
    """Stamp of a cell's folder; None: no cell there, or one without checksums."""
    try:
        found = os.stat(f"{folder}/{SUMS}")  # noqa: PTH116  # ten thousand of them: no Path is made
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def read_index(path: Path) -> dict[str, Entry]:
    """Empty when there is none that was written by :func:`write_index`, byte for byte."""
    try:
        text = path.read_bytes()
    except OSError:
        return {}
    start = len(_head(b""))
    body = text[start : -len(_TAIL)]
    if text != _head(body) + body + _TAIL:
        return {}
    raw = json.loads(body).items()
    try:
        return {cell: Entry(tuple(stamp), Summary(**kept)) for cell, (stamp, kept) in raw}
    except TypeError:  # of a program with another Summary
        return {}


def write_index(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the index atomically. Where it cannot be written, the next reader does without."""
    raw: dict[str, Any] = {cell: (entry.stamp, _plain(entry.summary)) for cell, entry in entries.items()}
    body = json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()
    with contextlib.suppress(OSError):
        write_atomic(path, _head(body) + body + _TAIL)


def _plain(summary: Summary) -> dict[str, Any]:
    return asdict(summary)


def _head(body: bytes) -> bytes:
    return _HEAD % (VERSION, hashlib.sha256(body).hexdigest().encode())
