"""Fronts of points: the best for each budget, the fittest of each bin, fresh estimates."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eavit.model.submodel import Submodel
from eavit.selection.front import Candidate, Front, non_dominated
from eavit.selection.quotas import bin_of
from eavit.selection.search import find_front
from tests.eavit.selection.searched import (
    TINY,
    Recorder,
    brute_force,
    shape_fitness,
    some_points,
)


@given(some_points)
def test_a_front_equals_brute_force_ties_included(points):
    assert non_dominated(points) == brute_force(points)
    assert non_dominated(points[::-1]) == non_dominated(points)


@given(some_points.filter(bool), st.sampled_from([k / 16 - less for k in range(20) for less in (0, 0.01)]))
def test_best_is_the_fittest_that_fits(points, budget):
    best = Front.of(points, 0).best(budget)
    fitting = [p.fitness for p in points if p.share <= budget]
    if best is None:
        assert not fitting
    else:
        assert best.share <= budget
        assert best.fitness == max(fitting)


def test_of_equals_the_smallest_spelling_stays():
    twins = [Candidate(Submodel(e, (1,), (1,)), 5, 0.5, 0.5) for e in (20, 10, 9)]
    assert [str(p.submodel) for p in non_dominated(twins)] == ["e10-h1-m1"]


def test_a_front_must_hold_points_in_order():
    cheap, dear = Candidate(Submodel(1, (1,), (1,)), 1, 0.1, 0.2), Candidate(Submodel(2, (1,), (1,)), 2, 0.2, 0.2)
    for points in ((), (dear, cheap), (cheap, dear), (cheap, cheap)):
        with pytest.raises(ValueError, match="front"):
            Front(points, 0)


@given(st.integers(0, 99), st.sampled_from([0.0, 0.05, 0.3]))
@settings(max_examples=15)
def test_reestimate_is_the_front_by_the_new_values_and_tells_the_optimism(seed, spread):
    old = find_front(TINY, shape_fitness(TINY, seed), population=8, generations=2, seed=seed)
    again = {p.submodel: p for p in (*old.points, *old.cover)}
    noise = np.random.default_rng(seed)
    fresh = {s: p.fitness - spread * noise.random() for s, p in again.items()}
    asked = Recorder(fresh.__getitem__)
    new, optimism = old.reestimate(asked)
    assert new.points == brute_force([replace(p, fitness=fresh[s]) for s, p in again.items()])
    assert optimism == pytest.approx(np.mean([p.fitness - fresh[p.submodel] for p in old.points]), abs=1e-12)
    assert sorted(map(str, asked.seen)) == sorted(map(str, again))
    assert new.evaluations == old.evaluations + len(again)


@given(some_points.filter(bool), st.integers(1, 10))
def test_the_cover_is_the_fittest_of_each_bin(points, bins):
    cover = {int(bin_of(p.share, bins)): p for p in Front.of(points, 0, bins).cover}
    assert list(cover) == sorted({int(bin_of(p.share, bins)) for p in points})
    for p in points:
        assert p.fitness <= cover[int(bin_of(p.share, bins))].fitness
