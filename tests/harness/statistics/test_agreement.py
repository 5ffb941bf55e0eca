"""Kendall's tau-b by its definition."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.agreement import kendall_tau

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=10)


def sign(value: int) -> int:
    return (value > 0) - (value < 0)


@given(PAIRS)
def test_tau_b_equals_its_definition(values):
    found = kendall_tau([g / 10 for g, _ in values], [t / 10 for _, t in values])
    signs = [(sign(g1 - g2), sign(t1 - t2)) for (g1, t1), (g2, t2) in combinations(values, 2)]
    moving = sum(g != 0 for g, _ in signs), sum(t != 0 for _, t in signs)
    if all(moving):
        assert found == pytest.approx(sum(g * t for g, t in signs) / sqrt(moving[0] * moving[1]))
    else:
        assert found is None


def test_perfect_reversed_and_too_few():
    assert (kendall_tau([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]), kendall_tau([1, 2], [4, 3])) == (1.0, -1.0)
    assert kendall_tau([0.5], [0.5]) is None and kendall_tau([], []) is None
    for bad in ([0.5], [0.5, float("nan")]):
        with pytest.raises(ValueError, match="pairs"):
            kendall_tau(bad, [0.5, 0.6])


def test_last_bits_are_ties():
    assert kendall_tau([0.1 + 0.2, 0.3], [0.5, 0.6]) is None
