"""Images: bytes of a size and a number of channels."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import images


def test_shape_is_content():
    flat = np.zeros((1, 16), dtype=np.uint8)
    assert images.content_hash(flat) != images.content_hash(flat.reshape(4, 4))


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(4, 20))
def test_conversions_keep_constant_images(channels, size):
    flat = torch.full((2, 3 if channels > 1 else 1, 9, 9), 93, dtype=torch.uint8)
    for wanted in (1, 3):
        done = images.resize(images.convert_channels(flat, wanted), size)
        assert done.shape == (2, wanted, size, size)
        assert (done.int() - 93).abs().max() <= 1
