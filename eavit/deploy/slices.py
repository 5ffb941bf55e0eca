"""Reading of parts of tensors from a safetensors file: only what is asked for, and each value once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

Axes = tuple[tuple[int, ...], ...]  # ascending places along each axis of a tensor


def runs(places: Iterable[int]) -> Iterator[slice]:
    """Ascending places as slices of consecutive ones."""
    start = stop = None
    for place in places:
        if place != stop:
            if start is not None:
                yield slice(start, stop)
            start = place
        stop = place + 1
    if start is not None:
        yield slice(start, stop)


class SlicedWeights:
    """Tensors of a file, filled in as their parts are asked for; ``bytes_read`` counts the values that were read."""

    def __init__(self, path: Path) -> None:
        self.bytes_read = 0
        self._file = _open(path)
        self._names: frozenset[str] = frozenset(self._file.keys())
        self._tensors: dict[str, tuple[Tensor, Axes]] = {}  # by name: the whole, and the places that are filled

    def names(self, start: str = "") -> list[str]:
        """Names of tensors that begin so."""
        return sorted(name for name in self._names if name.startswith(start))

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        shape = self._file.get_slice(name).get_shape()
        return self.part(name, tuple(tuple(range(size)) for size in shape))

    def part(self, name: str, axes: Axes) -> Tensor:
        """The values at these places along each axis: a view where they are consecutive, else a copy."""
        whole, known = self._tensors.get(name) or (None, ((),) * len(axes))
        wanted = tuple(tuple(sorted({*a, *b})) for a, b in zip(known, axes, strict=True))
        if whole is None or wanted != known:
            whole = self._filled(name, whole, known, wanted)
            self._tensors[name] = (whole, wanted)
        for axis, places in enumerate(axes):
            pieces = [whole.narrow(axis, run.start, run.stop - run.start) for run in runs(places)]
            whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
        return whole

    def _filled(self, name: str, whole: Tensor | None, known: Axes, wanted: Axes) -> Tensor:
        """The tensor with the box ``wanted`` read, but for the box ``known`` inside it."""
        source = self._file.get_slice(name)
        for axis in range(len(wanted)):
            new = tuple(place for place in wanted[axis] if place not in set(known[axis]))
            for where in boxes((*known[:axis], new, *wanted[axis + 1 :])):
                values: Tensor = source[where]
                self.bytes_read += values.numel() * values.element_size()
                if whole is None:  # pages that are never written take no memory
                    whole = torch.empty(source.get_shape(), dtype=values.dtype)
                whole[where] = values
        if whole is None:
            raise ValueError(f"{name}: no part of it is asked for")
        return whole


def boxes(axes: Sequence[Sequence[int]]) -> Iterator[tuple[slice, ...]]:
    """The consecutive boxes whose places along each axis these are."""
    yield from product(*(list(runs(places)) for places in axes))


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}); copy the folder again") from error
