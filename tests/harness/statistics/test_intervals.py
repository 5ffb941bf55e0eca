"""Intervals: by hand, against scipy, and in a simulation; what cannot be given says why."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions

from harness.statistics import intervals
from harness.statistics.intervals import Moments, moments
from tests import coverage_of_intervals as simulated

T2 = 4.302652729911275  # t(0.975, 2)
VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 4)), min_size=2, max_size=6)
GROUPS = st.lists(VALUES, min_size=1, max_size=5)


mean_of = simulated.average


@given(st.integers(1, 400), st.data())
def test_wilson_bounds_solve_its_equation(n, data):
    correct = data.draw(st.integers(0, n))
    low, high = intervals.wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            assert (correct / n - bound) ** 2 == pytest.approx(
                1.959963984540054**2 * bound * (1 - bound) / n, abs=1e-12
            )


def test_wilson_by_hand_and_refusals():
    # the worked example of Newcombe (1998)
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert intervals.wilson(0, 10)[0] == 0
    assert intervals.wilson(10, 10)[1] == 1
    for correct, n in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="correct"):
            intervals.wilson(correct, n)


def test_t_over_seeds_by_hand_and_against_scipy():
    found = intervals.over_seeds([1.0, 2.0, 3.0])
    assert (found.estimate, found.n, found.sets, found.kind) == (2.0, 3, 1, "t over seeds")
    assert found.half == pytest.approx(T2 / math.sqrt(3))
    values = [0.91, 0.93, 0.9, 0.95]
    oracle = distributions.ttest_1samp(values, 0).confidence_interval(0.9)
    narrow = intervals.over_seeds(values, 0.9)
    assert (narrow.low, narrow.high, narrow.level) == pytest.approx((oracle.low, oracle.high, 0.9))


def test_satterthwaite_by_hand():
    found = intervals.these_sets([[1.0, 2.0, 3.0], [4.0, 6.0]])
    variances = (1 / 3 / 4, 2 / 2 / 4)
    df = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 1)
    assert df == pytest.approx(1.684, abs=1e-3)
    assert (found.estimate, found.n, found.sets) == (3.5, 5, 2)
    assert found.half == pytest.approx(distributions.t.ppf(0.975, df) * math.sqrt(sum(variances)))


def test_satterthwaite_of_two_sets_is_welch():
    a, b = [0.9, 0.93, 0.91], [0.7, 0.78, 0.71, 0.73]
    oracle = distributions.ttest_ind(a, [-value for value in b], equal_var=False).confidence_interval(0.95)
    found = intervals.these_sets([a, b])  # mean of a and b is half of a - (-b)
    assert (2 * found.low, 2 * found.high) == pytest.approx((oracle.low, oracle.high))


def test_sets_like_these_is_t_over_set_means():
    found = intervals.like_sets([[1.0, 3.0], [3.0, 5.0], [8.0, 10.0]])
    assert found.estimate == 5.0
    assert found.half == pytest.approx(T2 * np.std([2, 4, 9], ddof=1) / math.sqrt(3))


@given(GROUPS, st.randoms())
def test_the_order_of_seeds_and_sets_is_irrelevant(groups, random):
    mixed = [random.sample(group, len(group)) for group in random.sample(groups, len(groups))]
    for interval in (intervals.these_sets, intervals.like_sets):
        one, other = interval(groups), interval(mixed)
        assert one.why == other.why
        if one.given:
            assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-9)


@given(GROUPS)
def test_more_confidence_is_wider_and_around_the_same_estimate(groups):
    wide, narrow = intervals.these_sets(groups, 0.99), intervals.these_sets(groups, 0.8)
    assert wide.estimate == narrow.estimate
    if wide.given:
        assert wide.low < narrow.low < wide.estimate < narrow.high < wide.high


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: intervals.over_seeds([0.5]), "1 seed"),
        (lambda: intervals.over_seeds([]), "no seed"),
        (lambda: intervals.over_seeds([0.1 + 0.2, 0.3]), "no spread: all seeds agree to the last digit"),
        (lambda: intervals.these_sets([]), "no set"),
        (lambda: intervals.these_sets([[0.5], [0.6]]), "1 seed"),
        (lambda: intervals.these_sets([[0.5, 0.6], [0.6]]), "1 seed on 1 of 2 sets"),
        (lambda: intervals.like_sets([[0.5], [0.6]]), "1 seed"),
        (lambda: intervals.like_sets([[0.5, 0.6]]), "1 set"),
        (lambda: intervals.like_sets([[0.5, 0.7], [0.6, 0.6]]), "no spread: all sets agree to the last digit"),
        (lambda: intervals.bootstrap([mean_of([0.5])], np.random.default_rng(0)), "1 seed"),
        (lambda: intervals.bootstrap([], np.random.default_rng(0)), "no set"),
        (
            lambda: intervals.bootstrap([(2, lambda w: np.full(len(w), math.nan))], np.random.default_rng(0)),
            "undefined for these curves",
        ),
        (lambda: intervals.counted([[5.0]]), "1 seed"),
    ],
)
def test_what_cannot_be_given_says_why(made, why):
    found = made()
    assert (found.low, found.high, found.half, found.given, found.why) == (None, None, None, False, why)


def test_nothing_but_finite_numbers():
    for values in ([], [math.nan, 1.0], [math.inf]):
        with pytest.raises(ValueError, match="finite"):
            moments(values)


def test_counted_quantities_that_agree_are_exact():
    found = intervals.counted([[5.0, 5.0], [7.0, 7.0]])
    assert (found.low, found.high, found.kind) == (6.0, 6.0, "counted")
    assert intervals.counted([[5.0, 6.0]]) == intervals.these_sets([[5.0, 6.0]])


@given(GROUPS, st.floats(-1, 1), st.sampled_from(intervals.SCOPES))
def test_tails_are_those_of_the_interval(groups, margin, scope):
    parts = [moments(group) for group in groups]
    found = intervals.tails(parts, scope, margin)
    assert (found is None) == (not intervals.from_moments(parts, scope).given)
    if found is not None and 1e-6 < min(found) < 0.49:
        interval = intervals.from_moments(parts, scope, 1 - 2 * min(found))
        assert (interval.low if found[0] < found[1] else interval.high) == pytest.approx(margin, abs=1e-6)


def test_more_seeds_narrow_these_sets_but_not_all_of_sets_like_these():
    parts = [Moments(0.0, 0.04, 3), Moments(1.0, 0.04, 3), Moments(2.0, 0.04, 3)]
    here = [intervals.from_moments(parts, "these sets", seeds=n).half for n in (3, 12, 48)]
    assert here[0] == intervals.from_moments(parts, "these sets").half
    assert here[0] > 1.9 * here[1] > 3.6 * here[2]
    like = [intervals.from_moments(parts, "sets like these", seeds=n).half for n in (3, 12, 10**6)]
    assert like[0] == pytest.approx(intervals.from_moments(parts, "sets like these").half)
    assert like[0] > like[1] > like[2] > 0.9 * like[0]


def test_bootstrap_of_a_mean_has_the_variance_of_t():
    rng = np.random.default_rng(3)
    groups = [list(rng.normal(size=4)) for _ in range(6)]
    found = intervals.bootstrap([mean_of(group) for group in groups], rng, draws=4000)
    oracle = intervals.these_sets(groups)
    assert found.estimate == pytest.approx(oracle.estimate)
    assert found.half == pytest.approx(oracle.half, rel=0.05)


def test_bootstrap_keeps_the_budgets_of_a_seed_together():
    """Two budgets that always sum to 1: redrawn as whole seeds the sum has no spread; taken apart it would."""
    budgets = np.array([(x, 1 - x) for x in (0.1, 0.4, 0.8)])
    found = intervals.bootstrap([(3, lambda w: (w @ budgets).sum(axis=1))], np.random.default_rng(0))
    assert found.why.startswith("no spread")


def test_bootstrap_that_loses_its_statistic_says_how_often():
    found = intervals.bootstrap([(3, lambda w: np.where(w[:, 0] > 0, 1.0, math.nan))], np.random.default_rng(0))
    assert found.why.startswith("undefined in ")


# --- coverage: the fast version of tests/coverage_of_intervals.py ----------------------------------------------------


def rows(*starts):
    every = (*simulated.DEFAULTS, *simulated.UNUSED)
    return [next(row for row in every if row.name == start) for start in starts]


@pytest.mark.parametrize("row", rows("these sets, A - B", "sets like these, A - B"), ids=lambda row: row.name)
def test_defaults_cover_what_they_say_at_three_seeds(row):
    found = simulated.coverage(row, 1200)
    assert found.given == 1200
    assert 0.93 - 2 * found.error <= found.share <= 0.97 + 2 * found.error


def test_budgets_pooled_as_replicates_cover_far_less():
    (row,) = rows("budgets pooled as replicates, A - B")
    assert simulated.coverage(row, 300).share < 0.75


def test_wilson_covers():
    found = simulated.wilson_coverage(2000)
    assert 0.93 <= found.share <= 0.97
