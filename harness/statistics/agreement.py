"""Accuracies of shared weights, or predicted ones, against those of the same submodels trained alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.statistics.intervals import TIE


@dataclass(frozen=True, slots=True)
class Agreement:
    """``tau``: Kendall's tau-b, 1 is the same order. ``regret``: accuracy lost by trusting the predicted best.

    Both None where ``why`` says so; ``n`` submodels.
    """

    tau: float | None
    regret: float | None
    n: int
    why: str = ""


def agreement(predicted: Sequence[float], alone: Sequence[float]) -> Agreement:
    """Agreement of two accuracies of the same submodels, in the same order. Ties for the predicted best: the mean."""
    guess, truth = np.asarray(predicted, dtype=np.float64), np.asarray(alone, dtype=np.float64)
    if guess.shape != truth.shape or not (np.isfinite(guess).all() and np.isfinite(truth).all()):
        raise ValueError(f"{guess.size} predicted and {truth.size} true accuracies: needs pairs of finite numbers")
    if len(guess) < 2:
        return Agreement(None, None, len(guess), f"{len(guess)} submodel{'' if len(guess) == 1 else 's'}")
    regret = float(truth.max() - truth[guess >= guess.max() - TIE].mean())
    if np.ptp(guess) <= TIE or np.ptp(truth) <= TIE:
        return Agreement(None, regret, len(guess), "all submodels are tied")
    from scipy.stats import kendalltau

    rounded = np.round(guess, 12), np.round(truth, 12)
    return Agreement(float(kendalltau(*rounded, variant="b").statistic), regret, len(guess))
