"""What a cell spends, phase by phase: the concrete :class:`harness.protocol.Ledger`."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

EVERY = 2.0  # seconds between two times that seconds are kept: so much is lost at most when a cell is killed


class LedgerError(ValueError):
    """A method keeps its books wrongly."""


@dataclass
class Spent:
    """Totals of one phase; MACs are multiply-accumulates, backward ones counted apart."""

    seconds: float = 0.0
    forward_macs: float = 0.0
    backward_macs: float = 0.0
    images: int = 0
    steps: int = 0


class Ledger:
    """``kept``: the file in which the seconds of every phase outlive the process. A cell that goes on after it was
    killed starts from them; what else it spent comes back with its checkpoints.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, kept: Path | None = None) -> None:
        self._clock, self._kept = clock, kept
        self._phases = {name: Spent(seconds=seconds) for name, seconds in _read(kept).items()}
        self._open: str | None = None
        self._began = 0.0
        self._due = time.monotonic() + EVERY

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Seconds go to ``name`` even if what is inside fails. A phase in a phase would be counted twice: refused."""
        if self._open is not None:
            raise LedgerError(f"phase {name!r} opened inside phase {self._open!r}: phases do not nest")
        if not name:
            raise LedgerError("a phase needs a name")
        spent, self._began = self._phases.setdefault(name, Spent()), self._clock()
        self._open = name
        try:
            yield
        finally:
            spent.seconds += self._clock() - self._began
            self._open = None
            self._write()

    def tick(self) -> None:
        """Keep the seconds spent so far, if that is due. To be called often."""
        if self._kept is not None and time.monotonic() >= self._due:
            self._write()

    def _write(self) -> None:
        """Not flushed to the disk: it has to outlive the process, not the machine. A full disk tells others."""
        if self._kept is None:
            return
        seconds = {name: spent.seconds for name, spent in self._phases.items()}
        if self._open is not None:
            seconds[self._open] += self._clock() - self._began
        beside = self._kept.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps(seconds), encoding="utf-8")
            beside.replace(self._kept)
        self._due = time.monotonic() + EVERY

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        given = {"forward_macs": forward_macs, "backward_macs": backward_macs, "images": images, "steps": steps}
        if self._open is None:
            raise LedgerError(f"nothing is open to add {given} to: use `with ledger.phase(name)`")
        spent = self._phases[self._open]
        for key, value in given.items():
            if not math.isfinite(value) or value < 0:
                raise LedgerError(f"phase {self._open!r}: {key} = {value}: only finite numbers from 0 up are spent")
            setattr(spent, key, getattr(spent, key) + value)

    @property
    def train_macs(self) -> float:
        return sum(spent.forward_macs + spent.backward_macs for spent in self._phases.values())

    @property
    def train_seconds(self) -> float:
        return sum(spent.seconds for spent in self._phases.values())

    def as_dict(self) -> dict[str, dict[str, float]]:
        return {name: asdict(spent) for name, spent in self._phases.items()}


def _read(kept: Path | None) -> dict[str, float]:
    """Nothing where there is nothing, or nothing whole."""
    try:
        found = json.loads(kept.read_text(encoding="utf-8")) if kept is not None else {}
        return {str(name): float(seconds) for name, seconds in found.items() if 0 <= seconds < math.inf}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
