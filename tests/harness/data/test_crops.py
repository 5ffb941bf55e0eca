"""Random crops with masks: their geometry, their padding, and what one class may fill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data.crops import CROPS, segmentation_crop
from tests.harness.specs import Shown

Masks = list[tuple[Image.Image, np.ndarray]]


def crops(values: np.ndarray, count: int = 40, **input: Any) -> Masks:
    """Crops of an image that is 0 where its mask is 0, and 200 where it is 1."""
    crop = segmentation_crop(Shown(**{"size": 20, "channels": 3, "mean": (0.5, 0.5, 0.5), **input}))  # type: ignore[arg-type]
    image = Image.fromarray(values * np.uint8(200)).convert("RGB")
    torch.manual_seed(0)
    made = [crop(image, values) for _ in range(count)]
    return [(part, mask) for part, mask in made if mask is not None]


def halves(height: int, width: int) -> np.ndarray:
    return (np.arange(width) >= width // 2).astype(np.uint8)[None].repeat(height, 0)


def test_the_mask_of_a_segmentation_crop_is_cut_where_its_image_is() -> None:
    for image, mask in crops(halves(40, 60)):
        counted = mask != 255
        bright = np.asarray(image.convert("L")) > 60
        assert image.size == mask.shape[::-1] == (20, 20)
        assert (bright == (mask == 1))[counted].mean() > 0.9


def test_scales_go_from_half_to_double_and_what_is_too_small_is_padded() -> None:
    """A stripe of a tenth of the height, 4 pixels of 40, is 1 to 4 pixels high where the shorter side is 10 to 40."""
    values = np.zeros((40, 60), np.uint8)
    values[18:22] = 1
    heights = [(mask == 1).sum(0).max() for _, mask in crops(values, 150)]
    assert {1, 2, 3, 4} <= set(heights) and max(heights) <= 5
    made = crops(halves(40, 60))
    padded = [(image, mask) for image, mask in made if (mask == 255).any()]
    assert 0 < len(padded) < len(made)


def test_padding_is_grey_of_the_mean_but_for_colours_that_are_drawn() -> None:
    values = [np.asarray(image)[mask == 255] for image, mask in crops(halves(40, 60), mean=(0.4, 0.4, 0.4))]
    greys = np.array([part.mean() for part in values if len(part)])
    assert (np.abs(greys - 102) < 1).any() and np.ptp(greys) > 5


def test_one_class_fills_a_crop_only_where_no_other_can_be_had() -> None:
    values = np.zeros((80, 80), np.uint8)
    values[:, 40:] = 1
    shares = [max((mask == each).mean() / (mask != 255).mean() for each in (0, 1)) for _, mask in crops(values, 80)]
    assert np.mean([share < 0.75 for share in shares]) > 0.9
    assert all((mask[mask != 255] == 0).all() for _, mask in crops(np.zeros((30, 30), np.uint8), 5))


@pytest.mark.parametrize("augment", sorted(CROPS))
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_have_the_input_size_with_and_without_masks(augment: str, channels: int) -> None:
    crop, _ = CROPS[augment]
    made = crop(Shown(12, channels, mean=(0.5,) * channels, resize=16))  # type: ignore[arg-type]
    image = Image.fromarray(np.arange(900, dtype=np.uint8).reshape(30, 30))
    for mask in (None, np.eye(30, dtype=np.uint8)):
        part, values = made(image, mask)
        assert part.size == (12, 12) and (values is None) == (mask is None)
        assert values is None or values.shape == (12, 12)
