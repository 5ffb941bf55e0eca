"""MACs, images, steps and seconds that a cell spends, by phase: implements :class:`harness.protocol.Ledger`."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.results.record import PhaseCost

WRITE_INTERVAL = 2.0  # seconds between two writes of the file: a killed cell loses no more


class LedgerError(ValueError):
    """Raised on invalid use of a ledger."""


class CellLedger:
    """``file``: keeps the seconds of every phase if the process is killed; the next attempt starts from them.

    MACs, images and steps are restored from the checkpoints of the method.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, file: Path | None = None) -> None:
        self._clock, self._file = clock, file
        self._phases = {name: PhaseCost(seconds=seconds) for name, seconds in _read_seconds(file).items()}
        self._open: str | None = None
        self._began = 0.0
        self._next_write = time.monotonic() + WRITE_INTERVAL

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to ``name``, also if it raises. Phases do not nest: time would count twice."""
        if self._open is not None:
            raise LedgerError(f"phase {name!r} opened inside phase {self._open!r}: phases do not nest")
        if not name:
            raise LedgerError("a phase needs a name")
        self._phases.setdefault(name, PhaseCost())
        self._open, self._began = name, self._clock()
        try:
            yield
        finally:
            self._add(name, seconds=self._clock() - self._began)
            self._open = None
            self._write()

    def tick(self) -> None:
        """Write the seconds spent so far if ``WRITE_INTERVAL`` has passed. To be called often."""
        if self._file is not None and time.monotonic() >= self._next_write:
            self._write()

    def _write(self) -> None:
        """Not flushed to the disk: it has to outlive the process, not the machine. A full disk fails elsewhere."""
        if self._file is None:
            return
        seconds = {name: cost.seconds for name, cost in self._phases.items()}
        if self._open is not None:
            seconds[self._open] += self._clock() - self._began
        temporary = self._file.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(seconds), encoding="utf-8")
            temporary.replace(self._file)
        self._next_write = time.monotonic() + WRITE_INTERVAL

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        amounts = {"forward_macs": forward_macs, "backward_macs": backward_macs, "images": images, "steps": steps}
        if self._open is None:
            raise LedgerError(f"no phase is open to add {amounts} to: use `with ledger.phase(name)`")
        for key, value in amounts.items():
            if not math.isfinite(value) or value < 0:
                raise LedgerError(f"phase {self._open!r}: {key} = {value}: only finite numbers from 0 up are spent")
        self._add(self._open, **amounts)

    def _add(self, phase: str, **amounts: float) -> None:
        cost = self._phases[phase]
        self._phases[phase] = cost.model_copy(update={key: getattr(cost, key) + more for key, more in amounts.items()})

    @property
    def phases(self) -> dict[str, PhaseCost]:
        return dict(self._phases)


def _read_seconds(file: Path | None) -> dict[str, float]:
    """Seconds by phase; empty where the file is missing or damaged."""
    try:
        saved = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        return {str(name): float(seconds) for name, seconds in saved.items() if 0 <= seconds < math.inf}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
