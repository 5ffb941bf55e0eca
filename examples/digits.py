"""Scanned digits of scikit-learn as arrays: small real data that needs no network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset

SIZE = 24  # pixels of the pico ViT


def arrays() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """1,797 grey pictures of 24 x 24, values 0 to 255, and their digits."""
    digits = load_digits()
    small = torch.as_tensor(digits.images, dtype=torch.float32)[:, None] * (255 / 16)
    images = interpolate(small, size=(SIZE, SIZE), mode="bicubic").clamp(0, 255)[:, 0]
    return images.numpy().astype(np.uint8), digits.target.astype(np.int64)


def loaders(batch: int = 32) -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Loaders of 1,200 pictures to train on and of the other 597, normalised to -1..1."""
    images, labels = arrays()
    x, y = torch.as_tensor(images)[:, None].float() / 127.5 - 1, torch.as_tensor(labels)
    train, val = TensorDataset(x[:1200], y[:1200]), TensorDataset(x[1200:], y[1200:])
    return DataLoader(train, batch, shuffle=True), DataLoader(val, 256)
