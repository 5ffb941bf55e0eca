"""Batches: each image once, streams named by seed and epoch, changes that stay inside the image."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data import batches, images


def split_of(n: int, augment: str = "none", size: int = 28, channels: int = 1) -> batches.MemorySplit:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    hashes = tuple(bytes([i % 256]) for i in range(n))
    made = images.Images(pixels, torch.arange(n) % 3, ("a", "b", "c"), hashes)
    return batches.MemorySplit(made, (0.5,), (0.5,), augment)


@given(st.integers(1, 40), st.integers(1, 17))
def test_fixed_order_gives_every_image_once(n, size):
    split = split_of(n, "crop_flip", size=4)
    shown = list(split.batches(size))
    assert torch.equal(torch.cat([labels for _, labels in shown]), split.labels)
    again = torch.cat([part for part, _ in split.batches(n)])
    assert torch.equal(torch.cat([part for part, _ in shown]), again)
    assert torch.allclose((again * 0.5 + 0.5) * 255, split._pixels.float(), atol=1e-3)


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 3))
def test_epochs_are_full_batches_without_repeats(n, size, epoch):
    shown = list(split_of(n, size=4).batches(size, seed=1, epoch=epoch))
    assert [len(labels) for _, labels in shown] == ([size] * (n // size) if n >= size else [n])
    flat = torch.cat([part.flatten(1) for part, _ in shown])
    assert len(torch.unique(flat, dim=0)) == len(flat)


@pytest.mark.parametrize("augment", ["none", "shift", "crop", "crop_flip"])
def test_seed_and_epoch_name_the_stream(augment):
    def stream(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([part for part, _ in split_of(30, augment, size=8).batches(8, seed=seed, epoch=epoch)])

    torch.manual_seed(1)
    first = stream(3, 1)
    torch.manual_seed(2)
    assert torch.equal(stream(3, 1), first)
    assert not torch.equal(stream(3, 2), first)
    assert not torch.equal(stream(1, 3), first)
    assert not torch.equal(stream(4, 1), first)


def test_global_state_is_left_alone():
    before = torch.get_rng_state()
    list(split_of(30, "crop_flip").batches(8, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_shift_moves_whole_images_and_fills_with_zeros():
    pixels = torch.randint(1, 256, (200, 3, 28, 28), dtype=torch.uint8)
    moved = batches.random_shift(pixels, torch.Generator().manual_seed(0))
    seen = set()
    for image, other in zip(pixels, moved, strict=True):
        for down in range(-2, 3):
            for right in range(-2, 3):
                padded = torch.nn.functional.pad(image, (2, 2, 2, 2))[:, 2 - down : 30 - down, 2 - right : 30 - right]
                if torch.equal(padded, other):
                    seen.add((down, right))
                    break
    assert len(seen) == 25


def test_flip_only_mirrors_and_crop_never_does():
    ramp = torch.arange(16, dtype=torch.uint8).mul(16).expand(300, 1, 16, 16)
    slope = {
        name: (
            batches.AUGMENTS[name](ramp, torch.Generator().manual_seed(0))[:, 0, :, -1]
            - batches.AUGMENTS[name](ramp, torch.Generator().manual_seed(0))[:, 0, :, 0]
        ).mean(1)
        for name in ("crop", "crop_flip")
    }
    assert (slope["crop"] > 0).all()
    assert 0.3 < float((slope["crop_flip"] < 0).float().mean()) < 0.7


@pytest.mark.parametrize("augment", ["crop", "crop_flip"])
def test_crops_stay_inside_the_image(augment):
    pixels = torch.full((64, 3, 12, 12), 77, dtype=torch.uint8)
    cropped = batches.AUGMENTS[augment](pixels, torch.Generator().manual_seed(0))
    assert torch.allclose(cropped, torch.tensor(77.0), atol=1e-4)


def test_batch_of_no_images_is_refused():
    with pytest.raises(ValueError, match="batch size"):
        split_of(3).batches(0)


def test_batches_are_fast():
    split = split_of(640)
    list(split.batches(64, seed=0))
    start = time.process_time()
    for epoch in range(10):
        for _ in split.batches(64, seed=0, epoch=epoch):
            pass
    assert (time.process_time() - start) / 100 < 2e-3  # 0.15 ms when nothing else runs
