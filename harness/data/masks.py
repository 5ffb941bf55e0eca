"""Masks of a segmentation: files of one plane whose values are classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    255 is a pixel that does not count.
    """

    paths: Sequence[Path]
    first: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def square(
        self, index: int, extent: tuple[int, int], size: int, resize: int | None, classes: int
    ) -> NDArray[np.uint8]:
        """Centre of a mask, cut and resized as its image of this ``extent`` (width, height) is, by nearest pixels.
        DataError where it is no mask of the image.
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
        counted = values != IGNORED
        wrong = counted & ((values < self.first) | (values >= self.first + classes))
        if wrong.any():
            last = self.first + classes - 1
            raise DataError(f"{name}: value {values[wrong][0]}; allowed: {self.first} to {last}, and {IGNORED}")
        mask = Image.fromarray(np.where(counted, values - self.first, IGNORED).astype(np.uint8))
        return np.asarray(square_image(mask, size, resize, Image.Resampling.NEAREST))


def present_classes(masks: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """0 or 1 for each class of each mask, (n, classes)."""
    return np.stack([(masks == each).any((1, 2)) for each in range(classes)], 1).astype(np.int64)
