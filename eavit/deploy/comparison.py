"""Comparison of choices of several families, such as of several seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eavit.deploy.elastic import MeasuredMember

DRAWS = 20_000


def best_probabilities(members: Sequence[MeasuredMember], seed: int = 0) -> list[float]:
    """Probability of each choice that it is the most accurate of them on new images, from what was measured.

    Accuracies are drawn from their posteriors under Jeffreys' prior, each by itself. That the choices were measured on
    the same images is not used, so the probabilities are nearer to each other than they might be.
    """
    rng = np.random.default_rng(seed)
    right = np.array([m.correct for m in members])
    wrong = np.array([m.n for m in members]) - right
    draws = rng.beta(right + 0.5, wrong + 0.5, size=(DRAWS, len(members)))
    counts = np.bincount(draws.argmax(axis=1), minlength=len(members))
    return [float(count / DRAWS) for count in counts]
