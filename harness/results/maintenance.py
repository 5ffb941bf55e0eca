"""Maintenance of stores: ``verify`` lists faults, ``merge`` joins stores, ``restore`` makes cells of committed records,
``list_removable`` lists what can go.

None of them runs a cell, and none touches a cell that another process works on.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.jobs.files import leftover_files
from harness.messages import choices
from harness.results import checksums, kept_models
from harness.results.cell_files import (
    Damaged,
    Outcome,
    StoreError,
    card,
    decode,
    fits,
    is_cell,
    load_outcome,
    pack_bits,
    whole_files,
)
from harness.results.points import read_records
from harness.results.record import AGAIN, Point, Record
from harness.results.store import OLD, Store, cell_of

Conflicts = Literal["refuse", "ours", "theirs"]
CONFLICTS: tuple[Conflicts, ...] = ("refuse", "ours", "theirs")

# What differs between two runs of one cell though the numbers are the same: time, place, and how a person calls things.
_OF_A_RUN = {
    *("started", "finished", "seconds", "environment", "attempts", "peak_mib", "disk_mib"),
    *("suite", "method", "dataset", "schema_version"),
}
_GOES_ON = AGAIN | {"timeout"}  # run again, these go on from their checkpoints


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of a store. ``where``: the cell's folder or the file; ``what`` is wrong with it."""

    where: Path
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


Kind = Literal["new", "better", "same", "conflict", "damaged"]


@dataclass(frozen=True, slots=True)
class Met:
    """One cell of one source, beside what the target or an earlier source says of it.

    ``better``: the cell there was only killed or skipped. ``what``: in which fields they differ, or what is damaged.
    """

    kind: Kind
    cell: str
    title: str
    ours: Path
    theirs: Path
    what: str = ""

    def __str__(self) -> str:
        if self.kind == "damaged":
            return f"{self.theirs}: {self.what}"
        return f"{self.cell} {self.title}: {self.ours} and {self.theirs} differ in {self.what}"


@dataclass(frozen=True, slots=True)
class Merged:
    """Result of a merge and the ids of cells that it wrote, none if it had to ask about conflicts first."""

    met: tuple[Met, ...]
    written: tuple[str, ...]

    def of(self, kind: Kind) -> list[Met]:
        return [met for met in self.met if met.kind == kind]


@dataclass(frozen=True, slots=True)
class Removable:
    """Something that may go. ``cell``: the one that it belongs to."""

    path: Path
    reason: str
    cell: str


def verify(store: Store) -> list[Fault]:
    """All that is wrong with a store, every byte of it read; nothing is moved or mended.

    A store may have no cells, as in a fresh clone: then what is kept beside them is checked against its list.
    """
    listed = (store.root / checksums.NAME).is_file()
    if not store.cells.is_dir() and not listed:
        return [Fault(store.root, f"no store: there is neither a folder cells/ nor a {checksums.NAME}")]
    faults = [Fault(store.root / name, what) for name, what in checksums.checksum_faults(store.root).items()]
    if store.cells.is_dir():
        faults += [fault for cell in store.ids() for fault in _cell_faults(store.cells / cell)]
        faults += [
            Fault(entry, "not a cell: a cell's folder is named by 1 to 64 hexadecimal digits")
            for entry in sorted(store.cells.iterdir())
            if entry.name[0] != "." and not (is_cell(entry.name) and entry.is_dir())
        ]
    if store.quarantine.is_dir():
        faults += [
            Fault(entry, f"in quarantine: {'; '.join(fault.what for fault in _cell_faults(entry)) or 'whole'}")
            for entry in sorted(store.quarantine.iterdir())
        ]
    return faults


def _cell_faults(folder: Path) -> list[Fault]:
    try:
        files = whole_files(folder)
        outcome = decode(files, folder.name)
    except StoreError as error:
        return [Fault(folder, str(error))]
    record = outcome.record
    whats = [*_identity_faults(record, folder.name.partition(".")[0]), *_bitmap_faults(outcome)]
    if files["cell.json"] != card(record):
        whats.append("cell.json and record.json are of different cells")
    return [Fault(folder, what) for what in whats]


def _identity_faults(record: Record, cell: str) -> Iterator[str]:
    if record.cell != cell:
        yield f"the record is of cell {record.cell}"
    if not fits(record):
        yield f"the record's identity does not hash to {record.cell}: it was changed"


def _bitmap_faults(outcome: Outcome) -> Iterator[str]:
    measured = {point.budget: point for point in outcome.record.points if point.correct is not None}
    for budget, point in measured.items():
        if budget not in outcome.bitmaps:
            yield f"no bitmap of budget {budget}"
        elif wrong := _bitmap_fault(point, outcome.bitmaps[budget]):
            yield f"bitmap of budget {budget}: {wrong}"
    for budget in sorted(outcome.bitmaps.keys() - measured.keys()):
        yield f"a bitmap of budget {budget}, for which the record has no accuracy"


def _bitmap_fault(point: Point, bits: bytes) -> str:
    if point.n is None or len(bits) != (point.n + 7) // 8:
        return f"{len(bits)} bytes for {point.n} images"
    number = int.from_bytes(bits, "big")
    if number & ((1 << (-point.n % 8)) - 1):
        return f"bits after the last of {point.n} images"
    if number.bit_count() != point.correct:
        return f"{number.bit_count()} images right, the record says {point.correct}"
    return ""


def merge(target: Store, sources: Sequence[Store], on_conflict: Conflicts = "refuse") -> Merged:
    """Bring the cells of ``sources`` into ``target``, cell by cell, each whole; sources are only read.

    Two cells are the same if all but times, places and names is equal, and then ``target`` keeps its own. A cell that
    was killed or skipped says nothing and yields to any other. StoreError: a source is none, a record is of a newer
    schema, or another process works on a cell that is to be written; in all these nothing was written.
    """
    if on_conflict not in CONFLICTS:
        raise StoreError(f"on_conflict = {on_conflict!r}: {choices(str(on_conflict), CONFLICTS)}")
    met: list[Met] = []
    chosen: dict[str, Met] = {}
    for source in sources:
        if not source.cells.is_dir():
            raise StoreError(f"{source.root}: no store: there is no folder cells/; nothing was merged")
        for cell in source.ids():
            ours = chosen[cell].theirs if cell in chosen else target.cells / cell
            met.append(_meet(cell, ours, source.cells / cell))
            if met[-1].kind in ("new", "better") or (met[-1].kind == "conflict" and on_conflict == "theirs"):
                chosen[cell] = met[-1]
    if on_conflict == "refuse" and any(one.kind == "conflict" for one in met):
        return Merged(tuple(met), ())
    return Merged(tuple(met), _write(target, chosen))


def _meet(cell: str, ours: Path, theirs: Path) -> Met:
    try:
        incoming = load_outcome(theirs)
    except Damaged as error:
        return Met("damaged", cell, cell, ours, theirs, str(error))
    title = incoming.record.title
    try:
        there = load_outcome(ours)
    except Damaged:  # or not there
        return Met("new", cell, title, ours, theirs)
    differs = differences(there, incoming)
    if not differs or incoming.record.status in AGAIN:
        return Met("same", cell, title, ours, theirs)
    if there.record.status in AGAIN:
        return Met("better", cell, title, ours, theirs)
    return Met("conflict", cell, title, ours, theirs, ", ".join(differs))


def _write(target: Store, chosen: Mapping[str, Met]) -> tuple[str, ...]:
    if not chosen:
        return ()
    target.prepare()
    busy = [f"{cell} ({holder})" for cell in chosen if (holder := target.locks.holder(cell)) is not None]
    if busy:
        raise StoreError(f"{target.root}: other processes work on {', '.join(busy)}; nothing was merged")
    for cell, met in chosen.items():
        _bring(target, cell, met)
    return tuple(chosen)


def _bring(target: Store, cell: str, met: Met) -> None:
    """Write one cell under its lock: a process that works on it, or has done it meanwhile, goes first."""
    lock = target.locks.acquire(cell)
    if lock is None:
        raise StoreError(f"{target.root}: {target.locks.holder(cell)} works on cell {cell}; merge again for the rest")
    with lock:
        if met.kind == "new" and target.record(cell) is not None:
            raise StoreError(f"{target.root}: cell {cell} was run while cells were merged; merge again for the rest")
        target.write(load_outcome(met.theirs))


def differences(one: Outcome, other: Outcome) -> list[str]:
    """The fields in which two outcomes of a cell say different things; times and places are none."""
    first, second = _said(one.record), _said(other.record)
    names = [name for name in first if first[name] != second[name]]
    return names + (["bitmaps"] if dict(one.bitmaps) != dict(other.bitmaps) else [])


def _said(record: Record) -> dict[str, Any]:
    raw = record.model_dump(mode="json", exclude=_OF_A_RUN)
    for point in raw["points"]:
        del point["latency_ms"]
    for spent in raw["ledger"].values():
        del spent["seconds"]
    return raw


def restore(store: Store, planned: Container[str]) -> list[str]:
    """Make cells of the records and bitmaps that the folder keeps beside them, of those planned and not there.

    Return their ids; a cell that another process works on is left to it. Logs, and outputs of suites with metrics, are
    not in these files and do not come back. StoreError where a file is missing or damaged, or the two do not agree:
    then nothing was restored.
    """
    from harness.results.bitmaps import NAME, read_bitmaps

    bitmaps: dict[str, dict[float, bytes]] = defaultdict(dict)
    for (cell, budget), correct in read_bitmaps(store.root / NAME).items():
        bitmaps[cell][budget] = pack_bits(correct)
    there = set(store.ids())
    committed = read_records(store.root / "records.jsonl")
    outcomes = {
        cell: Outcome(record, bitmaps.get(cell, {}))
        for cell, record in committed.items()
        if cell in planned and cell not in there
    }
    for cell, outcome in outcomes.items():
        for fault in _bitmap_faults(outcome):
            raise StoreError(f"{store.root / NAME}: cell {cell}: {fault}; nothing was restored")
    return [cell for cell, outcome in outcomes.items() if _restored(store, cell, outcome)]


def _restored(store: Store, cell: str, outcome: Outcome) -> bool:
    """Write a cell under its lock, unless another process works on it or has done it meanwhile."""
    lock = store.locks.acquire(cell)
    if lock is None:
        return False
    with lock:
        if store.record(cell) is not None:
            return False
        store.write(outcome)
    return True


def list_removable(store: Store, planned: Collection[str], runs: Path) -> list[Removable]:
    """Files of a store and its ``runs`` folder that can be removed; ``planned``: ids of all cells that any suite wants.

    All that belongs to a cell that another process works on is left alone.
    """
    removable = [
        *(Removable(store.cells / cell, "no plan names it", cell) for cell in store.ids() if cell not in planned),
        *(Removable(path, "in quarantine", path.name.partition(".")[0]) for path in sorted(store.quarantine.glob("*"))),
        *_unfinished(store),
        *_worked(store, planned, runs),
    ]
    busy = {cell for cell in {one.cell for one in removable} if is_cell(cell) and store.locks.holder(cell) is not None}
    return [one for one in removable if one.cell not in busy]


def _unfinished(store: Store) -> Iterator[Removable]:
    """Leftovers of killed writers, except for a cell that has no other copy: that is restored by the next run."""
    for path in store.leftovers():
        if not path.name.endswith(OLD) or (store.cells / cell_of(path)).exists():
            yield Removable(path, "left by a writer that is gone", cell_of(path))
    for cell in store.locks.names():
        yield Removable(store.locks.path(cell), "a lock that no process holds", cell)
    for path in leftover_files(store.root):  # of points, index or report, which any run writes again
        yield Removable(path, "left by a writer that is gone", "")


def _worked(store: Store, planned: Collection[str], runs: Path) -> Iterator[Removable]:
    folders = [entry for entry in sorted(runs.glob("*")) if entry.is_dir() and is_cell(entry.name)]
    summaries = store.summaries(entry.name for entry in folders)
    for entry in folders:
        if entry.name not in planned:
            yield Removable(entry, "work of a cell that no plan names", entry.name)
        elif entry.name in summaries and summaries[entry.name].status not in _GOES_ON:
            yield Removable(entry, f"work of a cell that is done: {summaries[entry.name].status}", entry.name)
    for entry in kept_models.model_folders(runs):
        if entry.name not in planned:
            yield Removable(entry, "model of a cell that no plan names", entry.name)


def remove(store: Store, removable: Iterable[Removable]) -> list[Removable]:
    """Remove what ``removable`` lists, each under its cell's lock, and return it; cells in work stay."""
    return [one for one in removable if _remove(store, one)]


def _remove(store: Store, each: Removable) -> bool:
    if not is_cell(each.cell):  # nobody works under such a name
        return _clear(each.path)
    lock = store.locks.acquire(each.cell)
    if lock is None:
        return False
    with lock:
        if each.path == store.cells / each.cell:
            store.remove(each.cell)
        elif each.path != store.locks.path(each.cell):  # which goes when it is released
            return _clear(each.path)
    return True


def _clear(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return not path.exists()
