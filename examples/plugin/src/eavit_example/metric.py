"""Metrics: how well the probabilities of a submodel are calibrated, and its log loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Negative logarithm of the probability of the right class, one number for each image."""
    return -_log_probabilities(logits)[np.arange(len(labels)), labels]


def calibration_error(logits: NDArray[np.float32], labels: NDArray[np.int64], bins: int = 10) -> float:
    """Expected calibration error (Guo et al., 2017): gap between confidence and accuracy, over bins of equal width."""
    confidence = np.exp(_log_probabilities(logits).max(axis=1))
    gap = (logits.argmax(axis=1) == labels) - confidence
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, gap, bins)).sum() / len(labels))


def _log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
