"""Listed images in memory: decoded once, or by their labels alone."""

from __future__ import annotations

import numpy as np
import torch

from harness.data.images import content_hash
from harness.data.listed_images import outline_listing, read_listing
from harness.data.listings import ListedImages, Listing

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 8, 12, 3), dtype=np.uint8)


def listing(labels: list[int] | None = None) -> Listing:
    train = ListedImages(PIXELS[:6], labels or [0, 1, 0, 1, 0, 1], [f"picture {i}" for i in range(6)])
    return Listing(("a", "b"), train, test=ListedImages(PIXELS[6:], [0, 1, 1]))


def test_pixels_labels_and_hashes_are_those_of_the_originals() -> None:
    source = read_listing(listing(), 8, 3)
    assert source.select is None and source.test is not None
    assert source.train.pixels.shape == (6, 3, 8, 8) and source.train.labels.tolist() == [0, 1] * 3
    assert np.array_equal(source.train.pixels[0].numpy(), PIXELS[0, :, 2:10].transpose(2, 0, 1))  # the centre
    assert source.test.hashes == tuple(content_hash(image) for image in PIXELS[6:])


def test_resizing_comes_before_the_centre_is_cut_out() -> None:
    source = read_listing(listing(), 4, 3, resize=8)
    assert np.array_equal(source.train.pixels[1].numpy(), PIXELS[1, 2:6, 4:8].transpose(2, 0, 1))


def test_an_outline_has_the_labels_and_no_pixels() -> None:
    outline = outline_listing(listing())
    assert torch.equal(outline.train.labels, read_listing(listing(), 4, 1).train.labels)
    assert outline.train.pixels.numel() == 0 and len(set(outline.train.hashes)) == 6


def test_equal_images_under_two_classes_are_noted_by_name() -> None:
    train = ListedImages(np.concatenate([PIXELS[:3], PIXELS[:1]]), [0, 1, 0, 1], ["p", "q", "r", "s"])
    source = read_listing(Listing(("a", "b"), train), 4, 1)
    assert source.notes == ("2 of 4 images (50.0%) occur under more than one class: p and s",)
    assert read_listing(listing(), 4, 1).notes == ()
