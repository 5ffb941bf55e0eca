"""Masks of a segmentation: files of one plane whose values are classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.decoding import square_image
from harness.data.locations import DataError
from harness.messages import quoted
from harness.tasks import IGNORED


@dataclass(frozen=True, slots=True, eq=False)
class MaskFiles:
    """The masks of the images of a split, in the place of labels. Values in the files count classes from ``first`` on;
    255 is a pixel that does not count. ``values``: of the classes in the files, where they do not follow each other;
    pixels of other values do not count.
    """

    paths: Sequence[Path]
    first: int = 0
    values: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def square(
        self, index: int, extent: tuple[int, int], size: int, resize: int | None, classes: int
    ) -> NDArray[np.uint8]:
        """Centre of a mask, cut and resized as its image is, by nearest pixels."""
        mask = Image.fromarray(self.decoded(index, extent, classes))
        return np.asarray(square_image(mask, size, resize, Image.Resampling.NEAREST))

    def decoded(self, index: int, extent: tuple[int, int], classes: int) -> NDArray[np.uint8]:
        """Class of each pixel, or 255, (height, width). DataError where it is no mask of an image of this ``extent``
        (width, height).
        """
        name = quoted(self.paths[index])
        try:
            with Image.open(self.paths[index]) as opened:
                values: NDArray[np.uint8] = np.array(opened)
        except (OSError, ValueError) as error:
            raise DataError(f"{name}: cannot be decoded: {error}; replace the file or remove it") from error
        if values.shape != extent[::-1] or values.dtype != np.uint8:
            shape = " x ".join(map(str, values.shape))
            raise DataError(f"{name}: no mask: {shape} values of {values.dtype}, image {extent[1]} x {extent[0]}")
        if self.values:
            return _class_of_value(tuple(self.values))[values]
        counted = values != IGNORED
        wrong = counted & ((values < self.first) | (values >= self.first + classes))
        if wrong.any():
            last = self.first + classes - 1
            raise DataError(f"{name}: value {values[wrong][0]}; allowed: {self.first} to {last}, and {IGNORED}")
        return np.where(counted, values - self.first, IGNORED).astype(np.uint8)


@cache
def _class_of_value(values: tuple[int, ...]) -> NDArray[np.uint8]:
    table = np.full(256, IGNORED, dtype=np.uint8)
    table[list(values)] = np.arange(len(values))
    return table


def present_classes(masks: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """0 or 1 for each class of each mask, (n, classes)."""
    return np.stack([(masks == each).any((1, 2)) for each in range(classes)], 1).astype(np.int64)
