"""Two answers on the same images: exact sums and published intervals as oracles."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import images

N = 500


def bits(correct: int, n: int = N) -> np.ndarray:
    return np.arange(n) < correct


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_the_binomial_sum(answers):
    a, b = zip(*answers, strict=True)
    only_a = sum(x and not y for x, y in answers)
    only_b = sum(y and not x for x, y in answers)
    found = images.mcnemar(a, b)
    assert (found.only_a, found.only_b, found.images) == (only_a, only_b, len(answers))
    n, k = only_a + only_b, min(only_a, only_b)
    if not n:
        assert (found.p, found.p_worse) == (None, 1.0)
    else:
        assert found.p == pytest.approx(min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n), abs=1e-12)
        assert found.p_worse == pytest.approx(sum(comb(n, i) for i in range(only_a + 1)) / 2**n, abs=1e-12)
        assert images.mcnemar(b, a).p == pytest.approx(found.p)


def test_other_images_are_refused():
    for test in (images.mcnemar, images.paired_images):
        with pytest.raises(ValueError, match="different images"):
            test(bits(1, 5), bits(1, 6))
    with pytest.raises(ValueError, match="no image"):
        images.paired_images([], [])


def test_the_paired_interval_covers():
    """Of 400 pairs of correlated classifiers, the 95 % interval holds the true difference in 93 % at least."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        easy = rng.random(N)
        a, b = (easy + 0.2 * rng.random((2, N))) < np.array([[0.9], [0.88]])
        found = images.paired_images(a, b)
        covered += found.low <= 0.02 <= found.high
    assert 0.92 <= covered / 400 <= 0.99


def test_the_one_sided_p_value_is_exact():
    assert images.paired_images(bits(490), bits(500)).p_worse == pytest.approx(0.5**10)
    assert images.paired_images(bits(500), bits(500)).p_worse == 1.0


def test_an_interval_from_counts_as_published():
    found = images.counted_images(56, 48, 70, 80)  # the worked example (a) of Newcombe (1998), method 10
    assert (found.estimate, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert images.counted_images(0, 0, 5, 5).p_worse == 1.0
