"""A against B: exact sums, scipy and baycomp as oracles; no p-value out of nothing."""

from __future__ import annotations

from itertools import product

import baycomp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as distributions

from harness.statistics import pairs

DIFFERENCES = st.lists(st.integers(-40, 40).map(lambda value: value / 1000), min_size=1, max_size=9)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_seeds_are_paired_by_number():
    assert pairs.paired({1: 0.5, 0: 0.9, 7: 1.0}, {0: 0.8, 1: 0.6, 3: 0.0}) == pytest.approx([0.1, -0.1])


@given(DIFFERENCES)
def test_sign_flips_equal_brute_force(values):
    found = pairs.sign_flip(values, rng())
    signs = product((1, -1), repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(one, values, strict=True))) for one in signs]
    if sum(value != 0 for value in values) < 2:
        assert found.p is None
    else:
        assert found.p == pytest.approx(np.mean(np.array(sums) >= abs(sum(values)) - 1e-12), abs=1e-12)


def test_sign_flips_equal_scipy_on_the_values_themselves():
    values = [0.01, 0.02, -0.005, 0.03, 0.012]
    oracle = distributions.permutation_test((values,), np.mean, permutation_type="samples")
    assert pairs.sign_flip(values, rng()).p == pytest.approx(oracle.pvalue)


def test_many_sign_flips_are_sampled_and_near_the_exact():
    values = list(rng(1).normal(0.1, 0.3, 18))
    found = pairs.sign_flip(values, rng())
    few = pairs.sign_flip(values[:16], rng())
    assert found.p == pytest.approx(distributions.ttest_1samp(values, 0).pvalue, abs=0.03)
    assert few.p == pytest.approx(distributions.ttest_1samp(values[:16], 0).pvalue, abs=0.03)


@given(st.lists(st.integers(1, 10**6), min_size=6, max_size=12, unique=True), st.data())
def test_wilcoxon_without_ties_equals_scipy(sizes, data):
    values = [size * data.draw(st.sampled_from((-1, 1))) / 10**6 for size in sizes]
    found = pairs.wilcoxon(values, rng())
    assert found.p == pytest.approx(distributions.wilcoxon(values, method="exact").pvalue)


def test_wilcoxon_with_ties_is_still_exact():
    values = [0.01, 0.01, 0.02, -0.01, 0.03, 0.04, 0.0]
    kept = [value for value in values if value]
    ranks = np.sign(kept) * distributions.rankdata(np.abs(kept))
    sums = np.array([np.dot(signs, np.abs(ranks)) for signs in product((1, -1), repeat=len(kept))])
    assert pairs.wilcoxon(values, rng()).p == pytest.approx(np.mean(np.abs(sums) >= abs(ranks.sum())))


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ([0.1] * 5, "5 sets: with fewer than 6"),
        ([0.1], "1 set: with fewer than 6"),
        ([0.0] * 8, "0 sets that differ, of 8"),
        ([0.0, 0.0, *[0.1] * 5], "5 sets that differ, of 7"),
    ],
)
def test_wilcoxon_of_few_sets_has_no_p_value_and_says_why(values, start):
    found = pairs.wilcoxon(values, rng())
    assert found.p is None
    assert found.why.startswith(start)


def test_holm_by_hand():
    assert pairs.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert pairs.holm([]) == []


def test_all_pairs_are_adjusted_together():
    generator = rng(2)
    scores = {name: list(generator.normal(level, 0.01, 9)) for name, level in (("a", 0.9), ("b", 0.9), ("c", 0.7))}
    found = pairs.all_pairs(scores, rng())
    raw = {pair: distributions.wilcoxon(scores[pair[0]], scores[pair[1]]).pvalue for pair in found}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [test.p for test in found.values()] == pytest.approx(pairs.holm(list(raw.values())))
    assert found["a", "c"].p < 0.05 < found["a", "b"].p
    with pytest.raises(ValueError, match="one value for every set"):
        pairs.all_pairs({"a": [1.0], "b": [1.0, 2.0]}, rng())


@settings(max_examples=6)
@given(
    st.lists(st.integers(-30, 30).map(lambda value: value / 1024), min_size=2, max_size=9),
    st.sampled_from([4 / 1024, 8 / 1024]),  # sums are exact: baycomp knows a tie with the bound only to the bit
)
def test_signed_rank_equals_baycomp(differences, zone):
    found = pairs.signed_rank(differences, rng(), zone=zone)
    values = np.array(differences)
    left, same, right = baycomp.SignedRankTest.probs(
        values, np.zeros(len(values)), rope=zone, nsamples=8000, random_state=1
    )
    assert (found.a, found.same, found.b) == pytest.approx((left, same, right), abs=0.03)
    assert found.a + found.same + found.b == pytest.approx(1)


def test_signed_rank_of_one_set_says_so():
    found = pairs.signed_rank([0.1], rng())
    assert (found.a, found.same, found.b, found.why) == (None, None, None, "1 set")
    assert pairs.signed_rank([], rng()).why == "no set"
    with pytest.raises(ValueError, match="zone"):
        pairs.signed_rank([0.1, 0.2], rng(), zone=0.0)


def test_win_tie_loss_has_a_zone():
    assert pairs.win_tie_loss([0.1, 0.005, 0.0, -0.005, -0.0051, 0.96 - 0.955]) == (1, 4, 1)


def test_sign_flips_say_why_there_is_no_p_value():
    whys = [pairs.sign_flip(values, rng()).why for values in ([0.1], [0.1, 0.0], [0.0, 0.0], [1e-13, 0.96 - 0.96])]
    assert whys == ["1 seed", "1 pair that differs", "all pairs are tied", "all pairs are tied"]


def test_patterns_that_differ_in_the_last_digit_are_equal():
    values = [0.96 - 0.95, 0.94 - 0.93, 0.91 - 0.90]  # 0.01 each, but for rounding
    assert pairs.sign_flip(values, rng()).p == pairs.sign_flip([0.01] * 3, rng()).p == 0.25
