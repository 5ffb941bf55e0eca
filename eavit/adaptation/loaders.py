"""Splits of a task from re-iterables of (images, labels), such as data loaders, each batch checked as it comes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from eavit.deploy.members import ImageDigest
from eavit.model.arguments import described
from eavit.model.inputs import Batches

CACHE_GIB = 4.0  # of decoded validation images kept in memory


class LoaderError(ValueError):
    """A loader that cannot be adapted on; the message names the loader and what is wrong."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Channels and image size (None: any) that a model takes, and the classes of its head."""

    channels: int
    size: tuple[int, int] | None
    classes: int


class CheckedLoader:
    """A loader whose batches are checked as they are read."""

    def __init__(self, name: str, loader: Batches, expected: Expected) -> None:
        if not isinstance(loader, Iterable):
            raise LoaderError(f"{name} is {described(loader)}; must be a re-iterable of (images, labels): a DataLoader")
        if isinstance(loader, Iterator):
            raise LoaderError(
                f"{name} is {described(loader)}, which can be read once only; give a DataLoader or a list of batches"
            )
        self.name, self.loader, self.expected = name, loader, expected

    def read(self, *draws: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass: images (b, channels, height, width) and labels int64 (b,). ``draws``: numbers that name everything
        which the loader draws from global generators, and its own generator, during this pass.
        """
        names, count = _Draws(*draws), 0
        generator = getattr(self.loader, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(names.seed)
        with names:
            batches = iter(self.loader)
        while True:
            with names:
                batch = next(batches, None)
            if batch is None:
                break
            count += 1
            yield self._checked(batch, count)
        if not count:
            raise LoaderError(f"{self.name} gave no batch{self._why_empty()}")

    def _why_empty(self) -> str:
        if getattr(self.loader, "drop_last", False):
            return "; its drop_last leaves nothing of fewer images than a batch"
        return "; it must have images, and give them again each time that it is read"

    def _checked(self, batch: Any, number: int) -> tuple[Tensor, Tensor]:
        where = f"{self.name}, batch {number}"
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise LoaderError(f"{where} is {described(batch)}; must be a pair (images, labels)")
        images, labels = batch
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            raise LoaderError(
                f"{where}: images are {described(images)}; must be a float tensor (b, channels, height, width), "
                "normalised as the model expects"
            )
        self._check_shape(where, images)
        labels = torch.as_tensor(labels)
        if labels.ndim != 1 or len(labels) != len(images) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise LoaderError(f"{where}: labels are {described(labels)}; must be one whole number for each image")
        classes = self.expected.classes
        wrong = [int(label) for label in labels if not 0 <= int(label) < classes]
        if wrong:
            raise LoaderError(
                f"{where}: label {wrong[0]} is out of range: the model's head has {classes} classes, so labels are "
                f"0 to {classes - 1}; build the model with the num_classes of your data"
            )
        return images, labels.long()

    def _check_shape(self, where: str, images: Tensor) -> None:
        channels, size = self.expected.channels, self.expected.size
        if images.shape[1] != channels:
            raise LoaderError(
                f"{where}: images have {images.shape[1]} channels, the model takes {channels}; build it with "
                f"in_chans={images.shape[1]}, or convert the images"
            )
        if size is not None and tuple(images.shape[2:]) != size:
            high, wide = images.shape[2:]
            raise LoaderError(
                f"{where}: images are {high} x {wide}, the model takes {size[0]} x {size[1]}; resize them, or build "
                f"the model with img_size=({high}, {wide})"
            )


class _Draws:
    """Global generators of torch, numpy and Python named by some numbers inside, going on where they were each time,
    and untouched outside.
    """

    def __init__(self, *numbers: int) -> None:
        self.seed = int(np.random.SeedSequence(list(numbers)).generate_state(1)[0])
        self._inside: tuple[Any, Any, Any] | None = None
        self._outside: tuple[Any, Any, Any] | None = None

    def __enter__(self) -> None:
        self._outside = _get_states()
        if self._inside is None:
            torch.default_generator.manual_seed(self.seed)
            np.random.seed(self.seed)  # noqa: NPY002  # what transforms draw from
            random.seed(self.seed)
        else:
            _set_states(self._inside)

    def __exit__(self, *error: Any) -> None:
        self._inside = _get_states()
        if self._outside is not None:
            _set_states(self._outside)


def _get_states() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _set_states(states: tuple[Any, Any, Any]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


def in_batches(batches: Batches, size: int, *, short: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The same images in batches of ``size``; ``short``: with the last, shorter one."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    held = 0
    for more_images, more_labels in batches:
        images.append(more_images)
        labels.append(more_labels)
        held += len(more_labels)
        while held >= size:
            whole, targets = torch.cat(images), torch.cat(labels)
            yield whole[:size], targets[:size]
            images, labels, held = [whole[size:]], [targets[size:]], held - size
    if short and held:
        yield torch.cat(images), torch.cat(labels)


class FitSplit:
    """Training images of a loader, in the loader's own order and with its own augmentation.

    Each epoch's draws are named by (seed, epoch), so that a run that was killed and resumed reads the same batches.
    """

    def __init__(self, loader: CheckedLoader, count: int, num_classes: int) -> None:
        self.loader, self.count, self.num_classes = loader, count, num_classes

    @cached_property
    def labels(self) -> Tensor:
        return torch.cat([labels for _, labels in self.loader.read(0, 0)])

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        draws = (0, 0) if seed is None else (1, seed, epoch)
        short = seed is None or self.count < size
        yield from in_batches(self.loader.read(*draws), size, short=short)


class SelectSplit:
    """Validation images of one fold, in the loader's order, which must be the same at each pass."""

    def __init__(self, loader: Callable[[], Iterator[tuple[Tensor, Tensor]]], labels: Tensor, rows: Tensor) -> None:
        self._read, self._all, self.rows = loader, labels, rows

    @property
    def labels(self) -> Tensor:
        return self._all[self.rows]

    @property
    def num_classes(self) -> int:
        return int(self._all.max()) + 1

    def __len__(self) -> int:
        return int(self.rows.sum())

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        yield from in_batches(self._own(), size, short=True)

    def _own(self) -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for images, labels in self._read():
            rows = self.rows[start : start + len(labels)]
            start += len(labels)
            if rows.any():
                yield images[rows], labels[rows]


@dataclass(frozen=True, slots=True)
class ValidationImages:
    """All validation images: both folds, their SHA-256, and how often each class occurs."""

    whole: SelectSplit
    fold_a: SelectSplit
    fold_b: SelectSplit
    sha256: str

    @property
    def labels(self) -> Tensor:
        return self.whole.labels


def read_validation(loader: CheckedLoader, cache_gib: float = CACHE_GIB) -> ValidationImages:
    """Read a loader once, keep the images where they fit into ``cache_gib``, and divide them into two folds: the
    images of each class alternate.
    """
    kept: list[tuple[Tensor, Tensor]] | None = []
    digest, taken, labels = ImageDigest(), 0, []
    for images, targets in loader.read(2):
        digest.add(images, targets)
        labels.append(targets)
        taken += images.numel() * images.element_size()
        if kept is not None:
            kept = [*kept, (images, targets)] if taken <= cache_gib * 2**30 else None
    every = torch.cat(labels)
    if len(every) < 2:
        raise LoaderError(f"{loader.name} gave {len(every)} image; at least 2 are needed, far more are useful")
    read = _again(loader, every) if kept is None else lambda: iter(kept)
    fold = _alternating(every)
    whole = SelectSplit(read, every, torch.ones(len(every), dtype=torch.bool))
    folds = (SelectSplit(read, every, fold == 0), SelectSplit(read, every, fold == 1))
    return ValidationImages(whole, *folds, digest.hexdigest())


def _again(loader: CheckedLoader, labels: Tensor) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    def read() -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for images, targets in loader.read(2):
            if not torch.equal(labels[start : start + len(targets)], targets):
                raise LoaderError(
                    f"{loader.name} gives its images in another order each time; set shuffle=False and no augmentation"
                )
            start += len(targets)
            yield images, targets

    return read


def _alternating(labels: Tensor) -> Tensor:
    """0 or 1 for each image, in turn within the images of a class, class after class."""
    fold = torch.empty(len(labels), dtype=torch.long)
    fold[torch.argsort(labels, stable=True)] = torch.arange(len(labels)) % 2
    return fold


def count_images(loader: CheckedLoader) -> tuple[int, int]:
    """Images of one epoch, and those of the first batch. A DataLoader over a sized data set is asked; other loaders
    are read once.
    """
    first = next(iter(loader.read(0, 0)), None)
    batch = len(first[1]) if first is not None else 0
    inner = loader.loader
    if isinstance(inner, DataLoader) and inner.batch_sampler is not None and isinstance(inner.sampler, Sized):
        whole, size = len(inner.sampler), inner.batch_size or 0
        if size:
            return (whole // size * size if inner.drop_last else whole), min(size, whole)
    return sum(len(labels) for _, labels in loader.read(0, 0)), batch
