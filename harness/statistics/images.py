"""Two answers on the same test images: exact where single images are known, else by counts of right images.

What is sampled are the images, not the training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from harness.statistics.intervals import LEVEL, wilson


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact test. ``p``: two-sided, None where no image tells A and B apart; ``p_worse``: that A is no worse than B."""

    only_a: int  # images that only A gets right
    only_b: int
    images: int
    p: float | None
    p_worse: float


@dataclass(frozen=True, slots=True)
class ImageDifference:
    """Share of right images, A minus B; ``p_worse``: one-sided p-value that A is no worse."""

    estimate: float
    low: float
    high: float
    p_worse: float
    kind: Literal["paired images", "counts of images"]


def mcnemar(a_bits: ArrayLike, b_bits: ArrayLike) -> McNemar:
    """Two bitmaps of right images, the same images in the same order."""
    a, b = np.asarray(a_bits, dtype=np.bool_), np.asarray(b_bits, dtype=np.bool_)
    if a.shape != b.shape:
        raise ValueError(f"bitmaps of different images: {a.shape} and {b.shape}")
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    n = only_a + only_b
    if not n:
        return McNemar(0, 0, a.size, None, 1.0)
    # Binomial sums; scipy.stats.binomtest gives the same, a hundred times slower.
    p, p_worse = 2 * float(special.bdtr(min(only_a, only_b), n, 0.5)), float(special.bdtr(only_a, n, 0.5))
    return McNemar(only_a, only_b, a.size, min(1.0, p), p_worse)


def paired_images(a_bits: ArrayLike, b_bits: ArrayLike, level: float = LEVEL) -> ImageDifference:
    """Adjusted Wald interval (Agresti and Min, 2005), right for few images too, and McNemar's exact test."""
    test = mcnemar(a_bits, b_bits)
    if not test.images:
        raise ValueError("bitmaps of no image")
    centre = (test.only_a - test.only_b) / (test.images + 2)
    variance = (test.only_a + test.only_b + 1) / (test.images + 2) - centre**2
    z = float(special.ndtri((1 + level) / 2))
    reach = z * math.sqrt(max(variance, 0.0) / (test.images + 2))
    estimate = (test.only_a - test.only_b) / test.images
    return ImageDifference(estimate, max(-1.0, centre - reach), min(1.0, centre + reach), test.p_worse, "paired images")


def counted_images(a: int, b: int, n_a: int, n_b: int, level: float = LEVEL) -> ImageDifference:
    """Interval from Wilson's intervals (Newcombe, 1998), wider than the paired one: the pairing is not known."""
    p, q = a / n_a, b / n_b
    (low_a, high_a), (low_b, high_b) = wilson(a, n_a, level), wilson(b, n_b, level)
    low = p - q - math.hypot(p - low_a, high_b - q)
    high = p - q + math.hypot(high_a - p, q - low_b)
    pooled = (a + b) / (n_a + n_b)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    p_worse = float(special.ndtr((p - q) / spread)) if spread else 1.0
    return ImageDifference(p - q, low, high, p_worse, "counts of images")
