"""Agreement of two orders: accuracies with shared weights against those of the same submodels trained alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.statistics.intervals import TIE


def kendall_tau(shared: Sequence[float], alone: Sequence[float]) -> float | None:
    """Kendall's tau-b of two accuracies of the same submodels, 1 for the same order; None where there is none: fewer
    than two submodels, or all of them tied.
    """
    guess, truth = np.asarray(shared, dtype=np.float64), np.asarray(alone, dtype=np.float64)
    if guess.shape != truth.shape or not (np.isfinite(guess).all() and np.isfinite(truth).all()):
        raise ValueError(f"{guess.size} shared and {truth.size} own accuracies: needs pairs of finite numbers")
    if len(guess) < 2 or np.ptp(guess) <= TIE or np.ptp(truth) <= TIE:
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(np.round(guess, 12), np.round(truth, 12), variant="b").statistic)
