"""What cells of the past took, as far as the price of others depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.results.index import Summary
from harness.results.record import USABLE, Record


@dataclass(frozen=True, slots=True)
class Past:
    """What a cell of the past tells. ``stepping``, ``step_macs``: the part spent in ledger phases that count steps;
    None: not known.
    """

    identity: Mapping[str, Any]
    seconds: float
    macs: float
    mib: float | None
    machine: str | None
    workers: int | None
    stepping: float | None = None
    step_macs: float = 0.0
    fit: int | None = None  # images


def pasts(records: Iterable[Record]) -> list[Past]:
    """Of all records that ran to the end; others took as long as their fault let them."""
    return [_past(record) for record in records if record.status in USABLE]


def past_of(kept: Summary, identity: Mapping[str, Any]) -> Past:
    """Of a cell whose content is known: faster than of its record, without what a price for another schedule needs."""
    machine = kept.machine if kept.attempts == 1 else None
    return Past(identity, kept.seconds, kept.train_macs, kept.disk_mib, machine, kept.workers)


def _past(record: Record) -> Past:
    stepping = [spent for spent in record.ledger.values() if spent.steps]
    sizes, about = record.data.get("sizes"), record.environment
    fit = sizes.get("fit") if isinstance(sizes, dict) else None
    machine, workers = about.get("machine"), about.get("workers")
    return Past(
        identity=record.identity,
        seconds=record.seconds,
        macs=record.train_macs,
        mib=record.disk_mib,
        machine=machine if isinstance(machine, str) and record.attempts == 1 else None,  # else of its last part alone
        workers=workers if isinstance(workers, int) else None,
        stepping=sum(spent.seconds for spent in stepping),
        step_macs=sum(spent.forward_macs + spent.backward_macs for spent in stepping),
        fit=fit if isinstance(fit, int) else None,
    )
