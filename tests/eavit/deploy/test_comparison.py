"""The probability to be the best follows from the counts: even for equals, near one for a clear lead."""

import pytest
from scipy.stats import beta, norm

from eavit.deploy.comparison import best_probabilities
from eavit.deploy.elastic import MeasuredMember
from eavit.model.submodel import Submodel
from tests.eavit.families import KEYS


def results(*counts, n=100):
    return [MeasuredMember(Submodel.parse(KEYS[0]), correct, n) for correct in counts]


def test_equals_are_even_and_a_clear_lead_is_sure():
    assert best_probabilities(results(80, 80, 80)) == pytest.approx([1 / 3] * 3, abs=0.02)
    first, second = best_probabilities(results(950, 800, n=1000))
    assert first > 0.999
    assert first + second == pytest.approx(1)
    assert best_probabilities(results(3)) == [1.0]


def test_two_choices_agree_with_the_normal_approximation():
    a, b = (beta(k + 0.5, 1000 - k + 0.5) for k in (820, 805))
    expected = norm.cdf((a.mean() - b.mean()) / (a.var() + b.var()) ** 0.5)
    assert best_probabilities(results(820, 805, n=1000))[0] == pytest.approx(expected, abs=0.015)
