"""Two shares of right images and how far apart they are: paired where single images are known, else by counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as distributions

from harness.statistics.intervals import LEVEL, wilson


@dataclass(frozen=True, slots=True)
class Gap:
    """A minus B on the same images; ``fall``: one-sided p-value that A is no worse, exact where paired.

    What is sampled are the images, not the training.
    """

    estimate: float
    low: float
    high: float
    fall: float
    how: str


def paired(a_bits: ArrayLike, b_bits: ArrayLike, level: float = LEVEL) -> Gap:
    """Adjusted Wald interval (Agresti and Min, 2005), right for few images too, and McNemar's exact test."""
    a, b = np.asarray(a_bits, dtype=np.bool_), np.asarray(b_bits, dtype=np.bool_)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"bitmaps of different images: {a.shape} and {b.shape}")
    only_a, only_b, n = int((a & ~b).sum()), int((b & ~a).sum()), a.size
    centre = (only_a - only_b) / (n + 2)
    variance = (only_a + only_b + 1) / (n + 2) - centre**2
    reach = _z(level) * math.sqrt(max(variance, 0.0) / (n + 2))
    fall = float(distributions.binom.cdf(only_a, only_a + only_b, 0.5))
    return Gap((only_a - only_b) / n, max(-1.0, centre - reach), min(1.0, centre + reach), fall, "paired images")


def counts(a: int, b: int, n_a: int, n_b: int, level: float = LEVEL) -> Gap:
    """From Wilson's intervals (Newcombe, 1998): wider than the paired one: which images are alike is not known."""
    first, second = wilson(a, n_a, level), wilson(b, n_b, level)
    p, q = a / n_a, b / n_b
    ends = [end or 0.0 for end in (first.low, first.high, second.low, second.high)]
    low = p - q - math.hypot(p - ends[0], ends[3] - q)
    high = p - q + math.hypot(ends[1] - p, q - ends[2])
    pooled = (a + b) / (n_a + n_b)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    fall = float(distributions.norm.cdf((p - q) / spread)) if spread else 1.0
    return Gap(p - q, low, high, fall, "counts of images")


def _z(level: float) -> float:
    return float(distributions.norm.ppf((1 + level) / 2))
