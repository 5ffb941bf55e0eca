"""Contract between the bench and a method: inputs, ledger, and the answers that a method must give.

A method is named in a suite by an import string (``use = "eavit.methods:ea_vit"``) to a callable that takes the
suite's ``options`` as keywords and returns a :class:`Method`. The bench never imports a method's package by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Split(Protocol):
    """Images and labels in a fixed order."""

    @property
    def labels(self) -> Tensor:
        """Class of each image, int64 of shape (n,); where an image may have several, 0 or 1 for each class, float32 of
        shape (n, num_classes); where each pixel has one, masks, uint8 of shape (n, height, width), 255 not counting.
        """

    @property
    def num_classes(self) -> int: ...

    def __len__(self) -> int: ...

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)``: float32 (b, channels, height, width), normalised, and their labels.

        Without a seed: the fixed order, no augmentation, the short last batch included. With a seed: one epoch in
        the order and with the augmentation that ``(seed, epoch)`` name, every batch of full ``size`` (a short last
        batch is dropped unless it is the only one).
        """


class Ledger(Protocol):
    """Account of what a method spends. All counts are totals, not per image."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Assign the block to a phase (``"prepare"``, ``"train"``, ``"search"``, ``"route"``) and add its seconds."""

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        """Add to the open phase."""


@dataclass(frozen=True, slots=True)
class Task:
    """Inputs of an adaptation: data splits, backbone, schedule, budgets, seed. The test split is not reachable."""

    fit: Split
    select_a: Split  # search and fitness
    select_b: Split  # re-estimation of choices made on fold A
    backbone: Callable[[], nn.Module]  # a fresh pretrained timm VisionTransformer with num_classes of the data set
    full_macs: int  # counted MACs of that backbone: budgets are fractions of it
    budgets: tuple[float, ...]
    schedule: Mapping[str, Any]  # the suite's [schedule] table: epochs, batch, lr, ...
    seed: int  # names the data order and every random draw of the cell
    given: Mapping[str, Mapping[float, str]]  # choices of the methods this one comes `after`: name -> budget -> key
    workdir: Path  # scratch and checkpoints; survives a killed cell, removed after success
    ledger: Ledger
    progress: Callable[[str, int, int], None]  # (phase, done, total)
    score: str = "accuracy"  # what a search maximises: a name of harness.tasks
    train_macs: float | None = None  # regime equal_macs: what the method may spend in all phases of its ledger


class Adapted(Protocol):
    """An adapted method. ``str(choice)`` is the key that records and tables show: 1 to 200 printable characters."""

    def select(self, budget: float) -> Any | None:
        """The choice for a budget (fraction of ``task.full_macs``), never above it; ``None``: unreachable.

        The area asks at budgets between those of the task too; a method that has models for these only answers with
        the largest that fits.
        """

    def module(self, choice: Any) -> nn.Module:
        """Module that one would deploy: images (b, c, h, w) -> logits (b, classes), in eval mode.

        Of masks (b, tokens, classes): those of a square of patches, row by row, come last.
        """


class Method(Protocol):
    """Recipe of an adaptation. Optional: ``report() -> Mapping[str, JSON]`` of :class:`Adapted`, kept with the record.
    Optional, too: ``save(folder, task, about)`` of :class:`Adapted`, called last where a run keeps models: it writes to
    ``folder``, which does not exist yet, what one needs to use them. ``about`` has ``classes`` (names), ``data``
    (preprocessing by timm's names) and ``origin`` (suite, method, data set, cell).

    A method may also have ``api = 1`` (the version of this contract) and ``card``, plain values that tables print:
    title, paper, code, elastic, step, distillation, selection, parameters, ours, deviations. An exception with an
    attribute ``skips = True`` means that the user has to supply something, such as weights: the cell is then skipped,
    not failed. A method may have ``check(backbone, budgets, after, regime, batch)``, called before any run with the
    suite's values and a backbone, on the meta device where it can be made there: it raises where no task can be adapted
    and returns warnings as text.
    """

    name: str

    def adapt(self, task: Task) -> Adapted: ...
