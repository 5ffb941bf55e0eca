"""What this library needs of a task: the structural twin of ``harness.protocol``; neither house imports the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Split(Protocol):
    """Images to train or to score on; see ``harness.protocol.Split`` for the one contract."""

    @property
    def labels(self) -> Tensor: ...
    def __len__(self) -> int: ...
    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


class Ledger(Protocol):
    def phase(self, name: str) -> AbstractContextManager[None]: ...
    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None: ...


class NoLedger:
    """Counts nothing, for use without a bench."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        return None


class Task(Protocol):
    """What a recipe is given; the bench's one contract is ``harness.protocol.Task``.

    It may also have ``train_macs: float | None``, what the whole method may spend in all phases (regime equal MACs).
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
    def progress(self) -> Callable[[str, int, int], None]: ...
