from __future__ import annotations

import math
from itertools import product
from math import comb

import numpy as np
import pandas as pd
import pytest
from example_points import example, row, spoil
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions

from harness import stats

ALL_ACCURACIES = st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=12)


@given(st.integers(1, 400), st.data())
def test_wilson_bounds_solve_its_equation(n, data):
    correct = data.draw(st.integers(0, n))
    low, high = stats.wilson(correct, n)
    share = correct / n
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            assert (share - bound) ** 2 == pytest.approx(1.959963984540054**2 * bound * (1 - bound) / n, abs=1e-12)


def test_wilson_by_hand_and_refusals():
    assert stats.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # the worked example of Newcombe (1998)
    assert stats.wilson(0, 10)[0] == 0
    assert stats.wilson(10, 10)[1] == 1
    for correct, n in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="correct"):
            stats.wilson(correct, n)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_the_binomial_sum(pairs):
    a, b = zip(*pairs, strict=True)
    only_a = sum(x and not y for x, y in pairs)
    only_b = sum(y and not x for x, y in pairs)
    n, k = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)
    found = stats.mcnemar_exact(a, b)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(expected)
    assert stats.mcnemar_exact(b, a).p == pytest.approx(found.p)


def test_mcnemar_refuses_other_images():
    with pytest.raises(ValueError, match="different images"):
        stats.mcnemar_exact([True], [True, False])


def test_t_interval_by_hand():
    found = stats.paired_t_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half == pytest.approx(4.302652729911275 / math.sqrt(3))  # t(0.975, 2) times 1 / sqrt(3)
    assert stats.paired_t_interval([0.5]) is None
    assert stats.paired_t_interval([]) is None


def test_satterthwaite_by_hand():
    found = stats.satterthwaite([[1.0, 2.0, 3.0], [4.0, 6.0]])
    variances = (1 / 3 / 4, 2 / 2 / 4)
    df = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 1)
    assert df == pytest.approx(1.684, abs=1e-3)
    assert (found.mean, found.n) == (3.5, 5)
    assert found.half == pytest.approx(distributions.t.ppf(0.975, df) * math.sqrt(sum(variances)))
    assert stats.satterthwaite([[1.0, 2.0], [3.0]]) is None
    assert stats.satterthwaite([]) is None
    alone = stats.satterthwaite([[1.0, 2.0, 4.0]])
    assert alone.half == pytest.approx(stats.t_interval([1.0, 2.0, 4.0]).half)


def test_satterthwaite_of_equal_seeds_is_a_point():
    assert stats.satterthwaite([[0.5, 0.5], [0.7, 0.7]]).half == 0


@given(ALL_ACCURACIES)
def test_front_equals_brute_force_ties_included(values):
    macs, accuracy = map(list, zip(*values, strict=True))
    expected = [not any((m2 <= m and a2 >= a and (m2, a2) != (m, a)) for m2, a2 in values) for m, a in values]
    assert stats.front(macs, accuracy).tolist() == expected


def test_front_of_nothing():
    assert stats.front([], []).tolist() == []


@given(ALL_ACCURACIES, st.sampled_from([(1, 64), (4, 32), (2, 128)]), st.floats(0, 0.1))
def test_area_equals_a_fine_sum(values, bounds, chance):
    macs, accuracy = [float(m) for m, _ in values], [0.125 * a for _, a in values]
    low, high = bounds
    grid = low * (high / low) ** ((np.arange(4000) + 0.5) / 4000)
    levels = [max([chance, *(a for m, a in zip(macs, accuracy, strict=True) if m <= x)]) for x in grid]
    area = stats.step_area(macs, accuracy, bounds, chance)
    assert area == pytest.approx(np.mean(levels), abs=2e-3)
    assert 0 <= area <= 1


def test_area_by_hand():
    assert stats.step_area([1.0, 2.0], [0.5, 0.9], (1, 4)) == pytest.approx(0.7)
    assert stats.step_area([], [], (1, 4), chance=0.1) == pytest.approx(0.1)
    assert stats.step_area([8.0], [1.0], (1, 4), chance=0.1) == pytest.approx(0.1), "beyond the bound is out of reach"
    with pytest.raises(ValueError, match="bounds"):
        stats.step_area([1.0], [1.0], (4, 4))


def test_summary_is_over_seeds_within_method_set_and_budget():
    points = example(seeds=(0, 1, 2))
    found = stats.summary(points).set_index(stats.KEYS)
    picked = points[(points.method == "ea_vit") & (points.dataset == "digits") & (points.budget == 0.4)]
    here = found.loc[("ea_vit", "digits", 0.4)]
    assert here["mean"] == pytest.approx(picked["accuracy"].mean())
    assert here["half"] == pytest.approx(4.302652729911275 * picked["accuracy"].std(ddof=1) / math.sqrt(3))
    assert (here["seeds"], here["ok"], here["missing"]) == (3, 3, 0)
    assert len(found) == 5 * 2 * 5


def test_summary_counts_every_status_and_invents_nothing():
    points = example(seeds=(0, 1), methods=("ea_vit", "matformer"), datasets=("digits",))
    points = spoil(points, (points.method == "matformer") & (points.seed == 1), "oom")
    points = points[~((points.method == "ea_vit") & (points.seed == 1) & (points.budget == 0.2))]
    found = stats.summary(points).set_index(stats.KEYS)
    half_gone, holed = found.loc[("matformer", "digits", 0.2)], found.loc[("ea_vit", "digits", 0.2)]
    assert (half_gone["oom"], half_gone["seeds"], holed["missing"], holed["seeds"]) == (1, 1, 1, 1)
    assert math.isnan(half_gone["half"])
    assert math.isnan(holed["half"])
    assert half_gone["mean"] > 0.5, "a failed seed is left out, not counted as zero"


def test_areas_leave_out_curves_with_holes_and_count_unreachable_as_chance():
    points = example(seeds=(0, 1), methods=("ea_vit", "matformer"), datasets=("digits",))
    points = spoil(points, (points.method == "matformer") & (points.budget == 0.2), "unreachable")
    points = spoil(points, (points.method == "ea_vit") & (points.seed == 1) & (points.budget == 0.6), "nan")
    found = stats.areas(points, chance={"digits": 0.1}).set_index(stats.CELL)["area"]
    assert math.isnan(found["ea_vit", "digits", 1])
    assert 0.9 < found["ea_vit", "digits", 0] < 1
    without = stats.areas(points).set_index(stats.CELL)["area"]
    gap = math.log2(0.4 * 0.98 / 0.2) / math.log2(5)  # from the lower bound to the first choice, in the whole range
    difference = found["matformer", "digits", 0] - without["matformer", "digits", 0]
    assert difference == pytest.approx(0.1 * gap)


def test_paired_goes_by_seed_not_by_row():
    points = pd.DataFrame(
        [row("a", "d", 1, 0.5, 0.5), row("a", "d", 0, 0.5, 0.9), row("b", "d", 0, 0.5, 0.8), row("b", "d", 1, 0.5, 0.6)]
    )
    assert stats.paired(points, "a", "b", "d", 0.5) == pytest.approx([0.1, -0.1])
    assert stats.paired(points[1:], "a", "b", "d", 0.5) == pytest.approx([0.1])


def test_use_of_budgets():
    found = stats.use(example(seeds=(0,), methods=("ea_vit",)))
    assert found["use"].to_numpy() == pytest.approx([0.98] * 10)


def test_reading_back_keeps_words_and_ids(tmp_path):
    points = example(seeds=(0,), methods=("ea_vit",), datasets=("digits",))
    points["cell"] = "12e4567890123456"
    points = spoil(points, points.budget == 0.2, "nan", "NaN loss")
    points["reason"] = points["reason"].replace("", None)
    points.to_csv(tmp_path / "points.csv", index=False)
    back = stats.read_points(tmp_path / "points.csv")
    assert back["status"].tolist() == ["nan", "ok", "ok", "ok", "ok"]
    assert set(back["cell"]) == {"12e4567890123456"}
    assert math.isnan(back["accuracy"][0])
    pd.testing.assert_frame_equal(stats.summary(back), stats.summary(points))


def test_reading_something_else_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a table of points"):
        stats.read_points(tmp_path / "x.csv")


def test_grid_spans_all_that_was_seen():
    points = pd.DataFrame([row("a", "x", 0, 0.5, 0.5), row("b", "y", 1, 1.0, 0.5)])
    full = stats.completed(points)
    assert len(full) == 16
    assert (full["status"] == "missing").sum() == 14
    assert {tuple(key) for key in full[["method", "dataset", "seed", "budget"]].to_numpy().tolist()} == set(
        product(("a", "b"), ("x", "y"), (0, 1), (0.5, 1.0))
    )
