"""Curves as steps: fine sums, brute force and moocore as oracles, ties included."""

from __future__ import annotations

import math

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import curves
from harness.statistics.curves import Steps

POINTS = st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=12)
SEEDS = st.lists(POINTS, min_size=1, max_size=5)
BOUNDS = st.sampled_from([(1, 64), (4, 32), (2, 128)])


def steps(points) -> Steps:
    return curves.steps([m for m, _ in points], [a / 8 for _, a in points])


@given(POINTS)
def test_front_equals_brute_force_ties_included(values):
    macs, accuracy = map(list, zip(*values, strict=True))
    expected = [not any((m2 <= m and a2 >= a and (m2, a2) != (m, a)) for m2, a2 in values) for m, a in values]
    assert curves.front(macs, accuracy).tolist() == expected


@given(POINTS, st.randoms())
def test_steps_are_the_front_once_in_any_order(values, random):
    macs, accuracy = map(list, zip(*values, strict=True))
    kept = curves.front(macs, accuracy)
    found = curves.steps(macs, accuracy)
    assert set(zip(found.macs, found.accuracy, strict=True)) == {
        v for v, keep in zip(values, kept, strict=True) if keep
    }
    assert list(found.macs) == sorted(set(found.macs))
    assert list(found.accuracy) == sorted(set(found.accuracy))
    assert steps(random.sample(values, len(values))) == steps(values)


def test_nothing_has_no_steps():
    assert curves.front([], []).tolist() == []
    assert curves.steps([], []).at(10) is None
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            curves.steps([1.0, 2.0], [0.5, bad])


def test_accuracy_at_a_budget_is_never_interpolated_upward():
    curve = curves.steps([2, 4, 4, 8], [0.5, 0.7, 0.6, 0.65])
    assert [curve.at(macs) for macs in (1.99, 2, 3.99, 4, 100)] == [None, 0.5, 0.5, 0.7, 0.7]


@given(POINTS, BOUNDS, st.floats(0, 0.1))
def test_area_equals_a_fine_sum(values, bounds, chance):
    macs, accuracy = [float(m) for m, _ in values], [0.125 * a for _, a in values]
    low, high = bounds
    grid = low * (high / low) ** ((np.arange(4000) + 0.5) / 4000)
    levels = [max([chance, *(a for m, a in zip(macs, accuracy, strict=True) if m <= x)]) for x in grid]
    area = curves.area(curves.steps(macs, accuracy), bounds, chance)
    assert area == pytest.approx(np.mean(levels), abs=2e-3)
    assert 0 <= area <= 1


@given(POINTS, st.tuples(st.integers(1, 64), st.integers(0, 8)), BOUNDS)
def test_a_further_point_never_makes_area_or_hypervolume_smaller(values, more, bounds):
    before, after = steps(values), steps([*values, more])
    assert curves.area(after, bounds) >= curves.area(before, bounds) - 1e-12
    assert curves.hypervolume(after, 64) >= curves.hypervolume(before, 64) - 1e-12


def test_area_by_hand():
    assert curves.area(curves.steps([1.0, 2.0], [0.5, 0.9]), (1, 4)) == pytest.approx(0.7)
    assert curves.area(curves.steps([], []), (1, 4), chance=0.1) == pytest.approx(0.1)
    late = curves.steps([8.0], [1.0])
    assert curves.area(late, (1, 4), chance=0.1) == pytest.approx(0.1), "beyond the bound is out of reach"
    with pytest.raises(ValueError, match="bounds"):
        curves.area(curves.steps([1.0], [1.0]), (4, 4))


@given(POINTS, st.sampled_from([(64.0, 0.0), (32.0, 0.25), (100.0, 0.5), (1.0, 0.9)]))
def test_hypervolume_equals_moocore(values, reference):
    points = np.array([(m, a / 8) for m, a in values], dtype=float)
    oracle = moocore.hypervolume(points, ref=list(reference), maximise=[False, True])
    assert curves.hypervolume(steps(values), *reference) == pytest.approx(oracle)


# --- seeds --------------------------------------------------------------------------------------------------------


@given(SEEDS)
def test_attainment_surfaces_equal_moocore(seeds):
    found = [steps(points) for points in seeds]
    rows = [(m, -a / 8, at) for at, points in enumerate(seeds) for m, a in points]
    table = np.array(rows, dtype=float)
    n = len(seeds)
    surfaces = moocore.eaf(table[:, :2].copy(), table[:, 2].astype(int))
    for seeds_reached in range(1, n + 1):
        share = 100 * seeds_reached / n
        oracle = {(m, -a) for m, a, reached in surfaces if abs(reached - share) < 1e-6}
        surface = curves.attained(found, seeds_reached)
        assert set(zip(surface.macs, surface.accuracy, strict=True)) == oracle


@given(SEEDS)
def test_best_is_never_under_median_nor_median_under_worst(seeds):
    found = curves.attainment([steps(points) for points in seeds])
    for macs in range(65):
        best, median, worst = (-1 if (a := surface.at(macs)) is None else a for surface in found)
        assert best >= median >= worst


def test_attainment_by_hand():
    found = curves.attainment([steps([(1, 2), (4, 6)]), steps([(2, 4)]), steps([(1, 1), (3, 8)])])
    assert found.best == Steps((1, 2, 3), (0.25, 0.5, 1.0))
    assert found.median == Steps((1, 2, 3, 4), (0.125, 0.25, 0.5, 0.75))
    assert found.worst == Steps((2, 3, 4), (0.125, 0.25, 0.5))
    with pytest.raises(ValueError, match="seeds"):
        curves.attained([], 1)
