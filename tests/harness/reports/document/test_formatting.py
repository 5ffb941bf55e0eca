"""Values are written the same everywhere: percent, points, SI prefixes."""

import math
from dataclasses import replace

import pytest

from harness.reports.document import formatting
from harness.statistics.intervals import Interval, over_seeds


@pytest.mark.parametrize(("budget", "text"), [(0.2, "20 %"), (0.125, "12.5 %"), (1.0, "100 %")])
def test_a_budget_is_written_as_it_was_declared(budget, text):
    assert formatting.budget_text(budget) == text


def interval(mean, half, n=3, sets=1):
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Interval(mean, low, high, "t over seeds", n=n, sets=sets)


def test_an_accuracy_has_half_its_interval_or_none():
    assert formatting.accuracy_text(interval(0.9534, 0.0188)) == "95.3 (±1.9)"
    assert formatting.accuracy_text(interval(0.9534, None)) == "95.3 (n/a)"


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (interval(0.98, 0.05), "98.0 (93.0 to 100.0)"),
        (interval(0.03, 0.05), "3.0 (0.0 to 8.0)"),
        (interval(0.5, 1.2), "50.0 (0.0 to 100.0)"),
        (interval(0.487, 0.563, n=2), "48.7 (2 seeds)"),
        (interval(0.487, 0.563, n=4, sets=2), "48.7 (2 seeds)"),
        (interval(0.487, 0.09, n=2), "48.7 (±9.0)"),
    ],
)
def test_an_interval_is_cut_to_what_is_possible_and_two_seeds_are_named(one, text):
    assert formatting.accuracy_text(one) == text


def test_a_difference_is_cut_at_100_points_to_each_side():
    assert formatting.difference_text(interval(-0.6, 0.5)) == "−60.0 (−100.0 to −10.0)"


@pytest.mark.parametrize(("value", "text"), [(0.021, "+2.1"), (-0.091, "−9.1"), (-0.0001, "+0.0")])
def test_points_have_a_sign_and_zero_has_none_of_its_own(value, text):
    assert formatting.signed_points(value) == text


def test_a_difference_without_an_estimate_is_not_available():
    found = over_seeds([0.01, 0.03])
    assert formatting.difference_text(found) == "+2.0 (2 seeds)"
    assert formatting.difference_text(over_seeds([0.019, 0.021])) == "+2.0 (±1.3)"
    assert formatting.difference_text(over_seeds([0.01])) == "+1.0 (n/a)"
    assert formatting.difference_text(replace(found, estimate=None, low=None, high=None)) == "n/a"
    assert formatting.with_interval(replace(found, low=0.02, high=0.02), "{:.2f}".format) == "0.02"


@pytest.mark.parametrize(
    ("value", "text"), [(17.564e9, "17.6 G"), (1361248, "1.36 M"), (2000.0, "2 k"), (0.5, "0.5"), (-3e6, "-3 M")]
)
def test_si_prefixes_keep_three_digits(value, text):
    assert formatting.si_text(value) == text


def test_giga_has_no_unit():
    assert [formatting.giga_text(value) for value in (242.9e9, 6.81e9, 4100e9)] == ["243", "6.81", "4,100"]


def test_text_of_nothing_is_empty_and_of_much_is_cut():
    assert formatting.shortened(None) == formatting.shortened(math.nan) == ""
    assert len(formatting.shortened("x" * 10_000)) == formatting.LONGEST
