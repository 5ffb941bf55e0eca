"""What a cell spends, phase by phase: the concrete :class:`harness.protocol.Ledger`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


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
    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._phases: dict[str, Spent] = {}
        self._open: str | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Seconds go to ``name`` even if what is inside fails. A phase in a phase would be counted twice: refused."""
        if self._open is not None:
            raise LedgerError(f"phase {name!r} opened inside phase {self._open!r}: phases do not nest")
        if not name:
            raise LedgerError("a phase needs a name")
        spent, began = self._phases.setdefault(name, Spent()), self._clock()
        self._open = name
        try:
            yield
        finally:
            spent.seconds += self._clock() - began
            self._open = None

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
