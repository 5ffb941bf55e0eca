"""Costs of finished cells, read from the stores of this machine: what a forecast is derived from. Needs no torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.results import index
from harness.results.cell_files import StoreError, parse_record
from harness.results.record import USABLE, Record
from harness.results.store import Store

NEWEST = 4  # records that are read of each method and data set in a store


@dataclass(frozen=True, slots=True)
class PastCost:
    """Cost of one finished cell. ``machine`` is None where the seconds are those of its last start alone.

    ``step_seconds``, ``step_macs``: the part spent in ledger phases that count steps. ``images``: those that the whole
    schedule shows to the method; None: not known.
    """

    content: Mapping[str, Any]
    seconds: float
    macs: float
    mib: float | None
    machine: str | None
    workers: int | None
    images: float | None = None
    step_seconds: float = 0.0
    step_macs: float = 0.0


def read_history(folder: Path, methods: Collection[str]) -> list[PastCost]:
    """Costs of the newest cells of ``methods``, by name, that the indexes of all stores in ``folder`` list."""
    costs = []
    for path in sorted(folder.glob("*/index.json")):
        groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for id_, entry in index.read_index(path).items():
            summary = entry.summary
            if summary.method in methods and summary.status in USABLE:
                groups.setdefault((summary.method, summary.dataset), []).append((summary.finished, id_))
        newest = [id_ for group in groups.values() for _, id_ in sorted(group)[-NEWEST:]]
        costs += [of_record(record) for record in _records(path.parent, newest)]
    return costs


def read_committed(folder: Path, methods: Collection[str]) -> list[PastCost]:
    """Costs of the newest cells of ``methods`` in the ``records.jsonl`` of all suites in ``folder`` whose cells are not
    there, as in a fresh clone.
    """
    costs = []
    for path in sorted(folder.glob("*/records.jsonl")):
        there = set(Store(path.parent, lambda text: None).ids())
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in _lines_of(path, methods):
            if record.cell not in there and record.status in USABLE:
                groups.setdefault((record.method, record.dataset), []).append(record)
        newest = [record for group in groups.values() for record in sorted(group, key=lambda r: r.finished)[-NEWEST:]]
        costs += [of_record(record) for record in newest]
    return costs


def _lines_of(path: Path, methods: Collection[str]) -> Iterator[Record]:
    """Records of the methods; other lines are not parsed."""
    words = [f'"method":{json.dumps(method)}'.encode() for method in methods]
    for line in path.read_bytes().splitlines():
        if any(word in line for word in words):
            with contextlib.suppress(StoreError):  # written by a newer version, or damaged: `verify` says so
                yield parse_record(line, str(path))


def of_record(record: Record) -> PastCost:
    stepping = [spent for spent in record.ledger.values() if spent.steps]
    content: Mapping[str, Any] = record.identity
    about: Mapping[str, Any] = record.environment
    sizes: Any = record.data.get("sizes") or {}
    return PastCost(
        content=content,
        seconds=record.seconds,
        macs=record.train_macs,
        mib=record.disk_mib,
        machine=about.get("machine") if record.attempts == 1 else None,
        workers=about.get("workers"),
        images=content["schedule"]["epochs"] * sizes["fit"] if "fit" in sizes else None,
        step_seconds=sum(spent.seconds for spent in stepping),
        step_macs=sum(spent.forward_macs + spent.backward_macs for spent in stepping),
    )


def _records(root: Path, ids: Collection[str]) -> Iterator[Record]:
    store = Store(root, lambda text: None)
    for id_ in ids:
        try:
            record = store.record(id_)
        except StoreError:  # written by a newer version
            continue
        if record is not None:
            yield record
