"""Task as this library needs it, the structural twin of ``harness.protocol``; and compute that was spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from eavit.model.cost import Measure
from eavit.model.submodel import Submodel

Progress = Callable[[str, int, int], None]  # of phase, done and total

SLACK = 1e-9  # of a budget, for rounding


def silent(phase: str, done: int, total: int) -> None:
    """Report no progress."""


class Split(Protocol):
    """Images to train or to score on; the contract is ``harness.protocol.Split``."""

    @property
    def labels(self) -> Tensor: ...
    def __len__(self) -> int: ...
    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


class Ledger(Protocol):
    """Account of what a method spends; the contract is ``harness.protocol.Ledger``."""

    def phase(self, name: str) -> AbstractContextManager[None]: ...
    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None: ...


@dataclass(slots=True)
class Spent:
    """Compute that was spent: MACs forward and backward, images, optimiser steps. A ledger that can be read;
    ``onward``, if any, gets the same phases and amounts.
    """

    forward_macs: float = 0.0
    backward_macs: float = 0.0
    images: int = 0
    steps: int = 0
    onward: Ledger | None = field(default=None, repr=False, compare=False)

    @property
    def macs(self) -> float:
        """MACs forward and backward."""
        return self.forward_macs + self.backward_macs

    @property
    def amounts(self) -> dict[str, Any]:
        """Counts as keywords of :meth:`add`."""
        return {name: getattr(self, name) for name in ("forward_macs", "backward_macs", "images", "steps")}

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext() if self.onward is None else self.onward.phase(name)

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        """Add to the counts, here and onward."""
        self.forward_macs += forward_macs
        self.backward_macs += backward_macs
        self.images += images
        self.steps += steps
        if self.onward is not None:
            self.onward.add(forward_macs=forward_macs, backward_macs=backward_macs, images=images, steps=steps)


@dataclass(frozen=True, slots=True)
class Target:
    """Limit that a member uses up: a fraction of the full model's size, by a measure."""

    measure: Measure
    budget: float

    def fits(self, submodel: Submodel) -> bool:
        """Return whether a submodel is within the limit."""
        return self.measure.share(submodel) <= self.budget * (1 + SLACK)


class Task(Protocol):
    """Inputs of an adaptation; the contract is ``harness.protocol.Task``.

    A task may also have ``train_macs: float | None``, the MACs of all phases of the method together (regime equal
    MACs); :func:`eavit.training.allocation.allocate` alone reads it. And ``score: str``, what a search maximises
    (:mod:`eavit.training.scores`); accuracy where it has none. And ``targets: Sequence[Target]``, in the place of
    budgets, for methods whose recipe says that they fill any measure.
    """

    @property
    def fit(self) -> Split: ...
    @property
    def select_a(self) -> Split: ...
    @property
    def select_b(self) -> Split: ...
    @property
    def backbone(self) -> Callable[[], nn.Module]: ...
    @property
    def budgets(self) -> tuple[float, ...]: ...
    @property
    def schedule(self) -> Mapping[str, Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def given(self) -> Mapping[str, Mapping[float, str]]: ...
    @property
    def workdir(self) -> Path: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def progress(self) -> Progress: ...
