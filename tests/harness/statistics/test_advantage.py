"""MACs at equal accuracy and accuracy at equal MACs: fine sums as oracles, single curves and means over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import advantage, curves
from harness.statistics.advantage import bundle
from harness.statistics.curves import Steps

POINTS = st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=12)
SEEDS = st.lists(POINTS, min_size=1, max_size=4)
ONE = np.ones((1, 1))
LOW, HIGH, NOTHING = Steps((1.0, 2.0), (1.0, 2.0)), Steps((8.0,), (7.0,)), Steps((), ())


def steps(points) -> Steps:
    return curves.steps([m for m, _ in points], [a / 8 for _, a in points])


def ratio(a: Steps, b: Steps) -> float:
    return float(advantage.log_ratio(bundle([a]), bundle([b]), ONE)[0])


def gained(a: Steps, b: Steps, bounds: tuple[float, float]) -> float:
    return float(advantage.gain(bundle([a]), bundle([b]), bounds, ONE)[0])


def needs(curve: Steps, accuracy: float) -> float:
    return next(m for m, a in zip(curve.macs, curve.accuracy, strict=True) if a >= accuracy)


def mean_curve(seeds: list[Steps], chance: float) -> Steps:
    """At each number of MACs the mean over seeds, chance for one that has no point yet; none where no seed has one."""
    places = sorted({at for curve in seeds for at in curve.macs})
    levels = [[max(chance, chance if (a := curve.at(at)) is None else a) for curve in seeds] for at in places]
    return curves.steps(places, [round(sum(row) / len(row), 12) for row in levels])


@given(POINTS, st.integers(2, 8))
def test_a_curve_shifted_in_macs_saves_just_that(values, factor):
    one = steps(values)
    other = curves.steps([m * factor for m in one.macs], one.accuracy)
    assert advantage.saved(ratio(one, other)) == pytest.approx(1 - 1 / factor)
    assert ratio(other, one) == pytest.approx(math.log2(factor))
    assert advantage.saved(ratio(one, one)) == 0


@given(POINTS, POINTS)
def test_macs_ratio_equals_a_fine_sum_and_turns_its_sign(a, b):
    one, other = steps(a), steps(b)
    found = ratio(one, other)
    low, high = max(one.accuracy[0], other.accuracy[0]), min(one.accuracy[-1], other.accuracy[-1])
    if low > high:
        assert math.isnan(found)
        return
    assert ratio(other, one) == pytest.approx(-found)
    levels = low + (high - low) * (np.arange(800) + 0.5) / 800 if high > low else [high]
    fine = np.mean([math.log2(needs(one, y) / needs(other, y)) for y in levels])
    assert found == pytest.approx(fine, abs=0.02)


@given(POINTS, st.floats(0, 0.3))
def test_a_curve_lifted_gains_just_that(values, lift):
    one = steps(values)
    other = Steps(one.macs, tuple(a + lift for a in one.accuracy))
    assert gained(other, one, (1, 128)) == pytest.approx(lift, abs=1e-9)


@given(POINTS, POINTS)
def test_gain_equals_the_difference_of_areas(a, b):
    one, other = steps(a), steps(b)
    low = max(2.0, one.macs[0], other.macs[0])
    found = gained(one, other, (2, 70))
    assert found == pytest.approx(curves.area(one, (low, 70)) - curves.area(other, (low, 70)))


def test_gaps_where_there_is_nothing_to_compare():
    assert math.isnan(ratio(LOW, HIGH)), "neither reaches what the other has"
    assert math.isnan(ratio(LOW, NOTHING))
    assert math.isnan(gained(LOW, NOTHING, (1, 4)))
    assert math.isnan(gained(LOW, HIGH, (1, 4))), "the other has no point within the bounds"
    assert gained(LOW, HIGH, (1, 8)) == pytest.approx(2 - 7)


@given(SEEDS, SEEDS, st.data())
def test_drawn_seeds_are_the_mean_curve_of_these_seeds(a, b, data):
    """Draws all at once against one mean curve a draw."""
    n = min(len(a), len(b))
    left, right = ([steps(points) for points in side[:n]] for side in (a, b))
    drawn = [data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=3)) for _ in range(3)]
    weights = np.array([[seeds.count(at) / len(seeds) for at in range(n)] for seeds in drawn])
    found = advantage.log_ratio(bundle(left, 0.1), bundle(right, 0.1), weights)
    gains = advantage.gain(bundle(left, 0.1), bundle(right, 0.1), (1, 64), weights)
    for seeds, value, gain in zip(drawn, found, gains, strict=True):
        first, second = (mean_curve([side[at] for at in seeds], 0.1) for side in (left, right))
        assert value == pytest.approx(ratio(first, second), nan_ok=True, abs=1e-9)
        assert gain == pytest.approx(gained(first, second, (1, 64)), nan_ok=True, abs=1e-9)


@given(SEEDS, st.sampled_from([(1.0, 64.0), (4.0, 32.0)]))
def test_the_area_of_the_mean_curve_is_the_mean_of_areas(seeds, bounds):
    found = [steps(points) for points in seeds]
    part = bundle(found, 0.1)
    levels = part.mean(np.full((1, len(found)), 1 / len(found)))[0]
    mean = Steps(tuple(part.macs), tuple(levels))
    expected = np.mean([curves.area(curve, bounds, 0.1) for curve in found])
    assert curves.area(mean, bounds, 0.1) == pytest.approx(expected)


def fronts(shift: float, seeds: int = 3, sets: tuple[str, ...] = ("x", "y")) -> dict[str, dict[int, Steps]]:
    rng = np.random.default_rng(round(100 * shift))
    return {
        name: {seed: Steps((1.0, 2.0, 4.0), (low, low + 0.2, low + 0.3)) for seed, low in enumerate(lows)}
        for name, lows in zip(sets, 0.5 + shift + 0.02 * rng.random((len(sets), seeds)), strict=True)
    }


def test_over_sets_with_an_interval_and_reasons_without():
    rng = np.random.default_rng(0)
    found = advantage.macs_ratio(fronts(0.05), fronts(0.0), rng)
    assert (found.kind, found.n, found.sets) == ("bootstrap over seeds", 6, 2)
    assert found.low < found.estimate < found.high < 0
    bounds = dict.fromkeys("xy", (1.0, 4.0))
    gain = advantage.accuracy_gained(fronts(0.05), fronts(0.0), bounds, rng)
    assert gain.low < gain.estimate < gain.high
    assert gain.estimate == pytest.approx(0.05, abs=0.02)
    lone = advantage.macs_ratio(fronts(0.05, seeds=1), fronts(0.0), rng)
    assert (lone.low, lone.why) == (None, "1 seed")
    assert lone.estimate is not None
    apart = advantage.macs_ratio({**fronts(0.05), "y": {0: NOTHING, 1: NOTHING}}, fronts(0.0), rng)
    assert (apart.estimate, apart.why) == (None, "the curves share no accuracy on y")
    assert advantage.macs_ratio({}, fronts(0.0), rng).why == "no set"
    tied = advantage.macs_ratio(fronts(0.0), fronts(0.0), rng)
    assert (tied.estimate, tied.low) == (0, None)
    assert tied.why.startswith("no spread")
