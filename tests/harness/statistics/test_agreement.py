"""Kendall's tau-b by its definition, and regret by search."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.agreement import agreement

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=10)


def sign(value: int) -> int:
    return (value > 0) - (value < 0)


@given(PAIRS)
def test_tau_b_and_regret_equal_their_definitions(values):
    guess, truth = [g / 10 for g, _ in values], [t / 10 for _, t in values]
    found = agreement(guess, truth)
    signs = [(sign(g1 - g2), sign(t1 - t2)) for (g1, t1), (g2, t2) in combinations(values, 2)]
    moving = sum(g != 0 for g, _ in signs), sum(t != 0 for _, t in signs)
    if all(moving):
        assert found.tau == pytest.approx(sum(g * t for g, t in signs) / sqrt(moving[0] * moving[1]))
    else:
        assert (found.tau, found.why) == (None, "all submodels are tied")
    trusted = [t for g, t in zip(guess, truth, strict=True) if g == max(guess)]
    assert found.regret == pytest.approx(max(truth) - sum(trusted) / len(trusted))


def test_perfect_reversed_and_too_few():
    assert (agreement([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]).tau, agreement([1, 2], [4, 3]).tau) == (1.0, -1.0)
    assert agreement([0.9, 0.8], [0.7, 0.75]).regret == pytest.approx(0.05)
    assert (agreement([0.5], [0.5]).tau, agreement([0.5], [0.5]).why) == (None, "1 submodel")
    assert agreement([], []).why == "0 submodels"
    for bad in ([0.5], [0.5, float("nan")]):
        with pytest.raises(ValueError, match="pairs"):
            agreement(bad, [0.5, 0.6])


def test_last_bits_are_ties():
    assert agreement([0.1 + 0.2, 0.3], [0.5, 0.6]).why == "all submodels are tied"
    assert agreement([0.1 + 0.2, 0.3], [0.5, 0.6]).regret == pytest.approx(0.05)
