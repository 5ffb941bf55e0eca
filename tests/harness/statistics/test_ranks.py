"""Ranks over sets: scipy and scikit-posthocs as oracles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from scikit_posthocs._plotting import _find_maximal_cliques
from scipy import stats as distributions

from harness.statistics import ranks
from harness.statistics.intervals import PValue


def within(found: dict[str, float], difference: float):
    """Joined by a critical difference."""
    return lambda a, b: abs(found[a] - found[b]) <= difference


def scores(seed: int, methods: int = 4, sets: int = 12, spread: float = 0.02) -> dict[str, list[float]]:
    generator = np.random.default_rng(seed)
    return {chr(97 + at): list(generator.normal(0.9 + 0.01 * at, spread, sets)) for at in range(methods)}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_mean_ranks_best_first_with_ties():
    found = ranks.mean_ranks({"low": [0.1, 0.2], "high": [0.9, 0.8], "same": [0.9, 0.2]})
    assert found == {"high": 1.25, "same": 2.0, "low": 2.75}
    assert list(found) == ["high", "same", "low"]


@pytest.mark.parametrize("bad", [{}, {"a": []}, {"a": [1.0], "b": [1.0, 2.0]}, {"a": [float("nan")], "b": [1.0]}])
def test_holes_are_refused(bad):
    with pytest.raises(ValueError, match="set"):
        ranks.mean_ranks(bad)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(3, 5), st.integers(2, 9))
def test_friedman_statistic_equals_scipy_with_ties(seed, methods, sets):
    table = np.random.default_rng(seed).integers(0, 3, (methods, sets)) / 10
    if all(len(set(column)) == 1 for column in table.T):
        return
    placed = distributions.rankdata(table.T, axis=1)
    spread = ((placed - placed.mean(axis=1, keepdims=True)) ** 2).sum()
    found = ranks._friedman_statistic(placed.sum(axis=0), sets, spread)
    assert found == pytest.approx(distributions.friedmanchisquare(*table).statistic)


def test_friedman_p_is_near_chi_square_for_many_sets():
    given_scores = scores(1, methods=3, sets=60, spread=0.04)
    oracle = distributions.friedmanchisquare(*given_scores.values()).pvalue
    assert 0.001 < oracle < 0.5
    assert ranks.friedman(given_scores, rng()).p == pytest.approx(oracle, abs=0.02)


def test_friedman_says_why_not():
    assert ranks.friedman({"a": [1.0, 2.0], "b": [2.0, 3.0]}, rng()).why == "fewer than 3 methods"
    assert ranks.friedman({"a": [1.0], "b": [2.0], "c": [3.0]}, rng()).why == "1 set"
    tied = ranks.friedman({"a": [1.0, 1.0], "b": [1.0, 1.0], "c": [1.0, 1.0]}, rng())
    assert (tied.p, tied.why) == (None, "all methods are tied on every set")


def test_friedman_p_cannot_be_below_what_two_sets_allow():
    same = {"a": [1.0, 1.0], "b": [2.0, 2.0], "c": [3.0, 3.0]}
    found = ranks.friedman(same, rng())
    assert found.p == pytest.approx(1 / 6, abs=0.02)


def test_critical_difference_equals_the_published_table():
    # q at 0.05 of Demsar (2006), Table 5(a), infinite degrees of freedom
    for methods, quantile in ((2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)):
        expected = quantile * (methods * (methods + 1) / (6 * 14)) ** 0.5
        assert ranks.critical_difference(methods, 14) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="two methods"):
        ranks.critical_difference(1, 5)


@pytest.mark.parametrize("seed", range(8))
def test_critical_difference_agrees_with_posthocs(seed):
    given_scores = scores(seed)
    table = pd.DataFrame(given_scores)
    ps = scikit_posthocs.posthoc_nemenyi_friedman(table)
    found, gap = ranks.mean_ranks(given_scores), ranks.critical_difference(4, 12)
    for a in given_scores:
        for b in given_scores:
            assert (abs(found[a] - found[b]) > gap) == (ps.loc[a, b] < 0.05)


@pytest.mark.parametrize("seed", range(12))
def test_cliques_of_the_critical_difference_agree_with_posthocs(seed):
    given_scores = scores(seed, methods=6, sets=8, spread=0.015)
    found, gap = ranks.mean_ranks(given_scores), ranks.critical_difference(6, 8)
    joined = within(found, gap)
    names = list(found)
    adjacency = pd.DataFrame([[int(joined(a, b)) for b in names] for a in names], index=names, columns=names)
    oracle = {frozenset(clique) for clique in _find_maximal_cliques(adjacency) if len(clique) > 1}
    assert {frozenset(clique) for clique in ranks.cliques(found, joined)} == oracle


def test_bars_by_hand():
    found = {"a": 1.0, "b": 1.5, "c": 2.5, "d": 4.0}
    assert ranks.cliques(found, within(found, 1.0)) == [("a", "b"), ("b", "c")]
    assert ranks.cliques(found, within(found, 0.1)) == []
    assert ranks.cliques(found, within(found, 3.0)) == [("a", "b", "c", "d")]
    tests = {pair: PValue(0.5) for pair in (("a", "b"), ("b", "c"), ("a", "c"))}
    tests |= {("a", "d"): PValue(0.01), ("b", "d"): PValue(0.01), ("c", "d"): PValue(None, "too few")}
    assert ranks.cliques(found, ranks.not_distinguished(tests)) == [("a", "b", "c"), ("c", "d")]
