"""Random crops of original images, each with its mask where it has one, by the transforms of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from harness.suite import Input
from harness.tasks import IGNORED

CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # share of the original's area, and width by height
SCALES = (0.5, 2.0)  # of the shorter side; this and what follows are those of mmsegmentation, which SETR trains with
MOST_OF_ONE_CLASS, TRIES = 0.75, 10  # share of a crop's pixels that one class may take; crops that are tried
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32 / 255, 0.5, 0.5, 0.1

Mask = NDArray[np.uint8]
Pair = tuple[Image.Image, Mask | None]
Crop = Callable[[Image.Image, Mask | None], Pair]  # draws from torch's global generator


def imagenet_crop(input: Input) -> Crop:
    """Random resized crop of 8 to 100 % of the area, bicubic."""
    from torchvision.transforms import InterpolationMode, v2  # late: takes seconds, and memory has no need of it

    crop = v2.RandomResizedCrop(input.size, scale=CROP_AREA, ratio=CROP_RATIO, interpolation=InterpolationMode.BICUBIC)
    return lambda image, mask: _together(crop, image, mask)


def segmentation_crop(input: Input) -> Crop:
    """Random scale around ``resize``, else the size; crop, padded where it is too large; random colours.

    A crop that one class fills is drawn again. Pixels of the padding do not count.
    """
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    base, grey = input.resize or input.size, [round(255 * mean) for mean in input.mean]
    scale = v2.RandomResize(round(SCALES[0] * base), round(SCALES[1] * base) + 1)
    fill: Any = {tv_tensors.Mask: IGNORED, "others": grey[0] if input.channels == 1 else grey}
    crop = v2.RandomCrop(input.size, pad_if_needed=True, fill=fill)
    changes = ({"brightness": BRIGHTNESS}, {"contrast": CONTRAST}, {"saturation": SATURATION}, {"hue": HUE})
    colours = v2.Compose([v2.RandomApply([v2.ColorJitter(**change)], 0.5) for change in changes])

    def cropped(image: Image.Image, mask: Mask | None) -> Pair:
        scaled = _together(scale, image.convert("L" if input.channels == 1 else "RGB"), mask)
        tried = (_together(crop, *scaled) for _ in range(TRIES))
        pair = next((pair for pair in tried if pair[1] is None or not _is_filled_by_one(pair[1])), None)
        part, classes = pair or _together(crop, *scaled)
        return colours(part), classes

    return cropped


def _together(transform: Callable[..., Any], image: Image.Image, mask: Mask | None) -> Pair:
    if mask is None:
        return transform(image), None
    from torchvision import tv_tensors

    moved, values = transform(image, tv_tensors.Mask(torch.from_numpy(mask)))
    return moved, np.asarray(values)


def _is_filled_by_one(mask: Mask) -> bool:
    counts = np.bincount(mask[mask != IGNORED])
    return bool(np.count_nonzero(counts) < 2 or counts.max() >= MOST_OF_ONE_CLASS * counts.sum())


CROPS: Mapping[str, tuple[Callable[[Input], Crop], float]] = {  # by the name of the augmentation; chance of a mirror
    "imagenet_crop": (imagenet_crop, 0.0),
    "imagenet_crop_flip": (imagenet_crop, 0.5),
    "segmentation": (segmentation_crop, 0.5),
}
