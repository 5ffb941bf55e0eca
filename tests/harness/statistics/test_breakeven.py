"""From how many sizes on elastic is cheaper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import breakeven, intervals

COSTS = st.lists(st.integers(1, 10**6), min_size=2, max_size=4)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_the_fewest_sizes_equal_a_search(elastic, alone):
    ratio = elastic / alone
    if ratio < 1000:
        assert breakeven.sizes_to_win(ratio) == next(n for n in range(1002) if n * alone > elastic)


def test_break_even_by_hand():
    found = breakeven.break_even([[6.0, 7.0, 5.0]], [[2.0, 2.0, 2.0]])
    assert found.ratio.estimate == 3.0
    assert found.sizes == 4, "three trainings cost the same: a tie is no win"
    assert found.ratio.half == pytest.approx(4.302652729911275 * 0.5 / 3**0.5)
    assert (found.low, found.high) == (2, 5)
    assert found.text == "from 4 sizes (2 to 5)"


def test_cheaper_than_a_single_model():
    found = breakeven.break_even([[1.0, 1.1]], [[2.0, 2.0]])
    assert (found.sizes, found.low) == (1, 1)
    assert found.text.startswith("from 1 size (")


def test_counted_costs_that_agree_are_exact():
    found = breakeven.break_even([[5, 5], [5, 5]], [[2, 2], [2, 2]], intervals.counted)
    assert (found.sizes, found.low, found.high) == (3, 3, 3)
    doubtful = breakeven.break_even([[5, 5], [5, 5]], [[2, 2], [2, 2]])
    assert (doubtful.sizes, doubtful.low) == (3, None)
    assert "interval n/a (no spread" in doubtful.text


def test_never_and_not_known():
    free = breakeven.break_even([[5.0, 6.0]], [[0.0, 0.0]])
    assert (free.sizes, free.low, free.high, free.text) == (
        None,
        None,
        None,
        "never: a model trained alone costs nothing",
    )
    assert breakeven.break_even([], []).text == "n/a (no seed)"
    assert breakeven.break_even([[5.0]], [[2.0]]).text == "from 3 sizes; interval n/a (1 seed)"
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="costs"):
            breakeven.break_even([[bad]], [[1.0]])


@given(COSTS, st.integers(2, 50))
def test_the_unit_of_cost_is_irrelevant(costs, unit):
    alone = [3.0] * len(costs)
    one = breakeven.break_even([costs], [alone])
    other = breakeven.break_even([[c * unit for c in costs]], [[a * unit for a in alone]])
    assert one.ratio.estimate == pytest.approx(other.ratio.estimate)
