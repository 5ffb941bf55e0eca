"""What COUNTER_VERSION = 1 means, pinned. Whoever changes a number here raises the version in harness/plan.py.

The version is part of every cell's id: records made under another meaning must never be taken for the same.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from harness import plan
from harness.data import batches, decoding, images, splits
from harness.evaluation import measure

GREY = np.arange(40 * 36, dtype=np.int64).reshape(40, 6, 6) * 7919 % 251

AUGMENTED = {
    "crop": ([1, 1, 1, 0, 0, 1, 1, 1], [-0.053437, -0.016287, -0.518754]),
    "crop_flip": ([1, 1, 1, 0, 0, 1, 1, 1], [-0.053364, -0.021011, -0.026311]),
    "none": ([1, 1, 1, 0, 0, 1, 1, 1], [-0.054847, -0.026254, -1.058823]),
    "shift": ([1, 1, 1, 0, 0, 1, 1, 1], [-0.514815, -0.057747, -1.654902]),
}


def tiny() -> images.Images:
    return images.images_from_arrays(GREY.astype(np.uint8), np.arange(40) % 2, ("even", "odd"))


def named(part: images.Images) -> str:
    """Which images, in which order, with which labels."""
    content = b"".join(part.hashes) + part.labels.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def test_this_file_pins_the_version_that_plans_use() -> None:
    assert plan.COUNTER_VERSION == 1
    assert decoding.DECODING_VERSION == 2  # what it means is pinned in test_decoding.py


def test_counting() -> None:
    vit = VisionTransformer(
        img_size=28, patch_size=7, in_chans=1, embed_dim=24, depth=2, num_heads=3, num_classes=5, init_values=0.1
    )
    assert (measure.count_macs(vit, (1, 28, 28)), measure.count_params(vit)) == (281688, 16349)


def test_splitting() -> None:
    divided = splits.divide(splits.SourceSplits(tiny()), {"fit": 20, "select": 6, "test": 8})
    assert {name: named(part) for name, part in divided.parts.items()} == {
        "fit": "6372635e64d24bde",
        "select_a": "9feb10c7100f5fab",
        "select_b": "3232e6bc998c7e00",
        "test": "a5c3e1f1ee11495b",
    }


def test_resizing() -> None:
    shown = images.to_input(tiny(), 4, 3).pixels
    assert shown.shape == (40, 3, 4, 4)
    assert shown[3, 1].flatten().tolist() == pytest.approx(
        [137, 148, 89, 104, 178, 92, 127, 133, 118, 124, 159, 73, 147, 162, 103, 114], abs=1
    )


@pytest.mark.parametrize("augment", sorted(batches.AUGMENTS))
def test_augmenting(augment: str) -> None:
    """Order and labels are exact; pixels to rounding, since bilinear sampling differs in the last bit by machine."""
    split = batches.MemorySplit(tiny(), (0.5,), (0.25,), augment)
    shown, labels = next(split.batches(8, seed=3, epoch=2))
    weights = torch.linspace(-1, 1, shown.numel()).reshape(shown.shape)
    told = (labels.tolist(), [float(shown.mean()), float((shown * weights).mean()), float(shown[5, 0, 2, 3])])
    assert told[0] == AUGMENTED[augment][0]
    assert told[1] == pytest.approx(AUGMENTED[augment][1], abs=1e-4)


def test_measuring() -> None:
    """The first of equal logits, at any batch size."""
    split = batches.MemorySplit(tiny(), (0.5,), (0.5,))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2, bias=False)).eval()
    with torch.no_grad():
        module[1].weight.copy_(torch.linspace(-1, 1, 72).reshape(2, 36))
    assert np.packbits(measure.split_outputs(module, split, 7).correct).tolist() == [202, 59, 45, 160, 190]
