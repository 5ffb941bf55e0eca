"""Samplers emit members of their space only, cover what they say, and follow the curriculum."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from eavit import cost
from eavit.samplers import TYINGS, Always, Curriculum, OneOf, Random, Sandwich, Stages, chain, per_layer, stratified
from eavit.space import Space
from eavit.submodel import Backbone, Submodel
from tests.strategies import seeds, spaces

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)


def all_samplers(space: Space):
    draws = TYINGS.values()
    fixed = (space.smallest, space.largest)
    return [
        *(Random(space, draw, 2) for draw in draws),
        *(Curriculum(space, draw) for draw in draws),
        Sandwich(space),
        Always(space, fixed),
        OneOf(space, fixed),
        Stages((Always(space, fixed[1:]), Random(space)), (0.0, 0.5)),
    ]


@given(space=spaces(), seed=seeds, progress=st.floats(0, 0.999))
def test_every_submodel_is_a_member(space, seed, progress):
    for sampler in all_samplers(space):
        assert sampler.space == space
        drawn = sampler(progress, np.random.default_rng(seed))
        assert drawn and all(space.contains(s) for s in drawn)


@given(space=spaces(), seed=seeds)
def test_equal_generators_give_equal_draws(space, seed):
    for sampler in all_samplers(space):
        assert sampler(0.7, np.random.default_rng(seed)) == sampler(0.7, np.random.default_rng(seed))


def test_sandwich_holds_both_ends_largest_first():
    space = Space.eavit(VIT_B, 0.5)
    drawn = Sandwich(space)(0.0, np.random.default_rng(0))
    assert (drawn[0], drawn[-1], len(drawn)) == (space.largest, space.smallest, 4)


@given(space=spaces(), seed=seeds)
def test_curriculum_starts_full_and_grows(space, seed):
    sampler = Curriculum(space)
    stages = [sampler.stage(p) for p in (0, 0.0999, 0.1, 0.2, 0.3, 0.35, 1)]
    assert stages == [0, 0, 1, 3, 5, 6, 6]
    assert sampler(0.0, np.random.default_rng(seed)) == (space.largest,)
    for stage, progress in enumerate((0.1, 0.15, 0.2, 0.25, 0.3, 0.35), 1):
        assert space.restrict(stage).contains(sampler(progress, np.random.default_rng(seed))[0])


def test_stratified_is_uniform_in_log_macs_and_per_layer_is_not():
    """Chi-square over ten bins of the log MACs axis; independent layers leave both ends empty (method.md)."""
    space = Space.eavit(VIT_B, 0.5)
    low, high = (log(cost.macs(VIT_B, s)) for s in (space.smallest, space.largest))
    counts = {}
    for draw in (stratified, per_layer):
        rng = np.random.default_rng(1)
        shares = [(log(cost.macs(VIT_B, draw(space, rng))) - low) / (high - low) for _ in range(600)]
        counts[draw] = np.histogram(shares, bins=10, range=(0, 1 + 1e-9))[0]
    assert chisquare(counts[stratified]).pvalue > 0.001
    assert counts[per_layer][[0, 1, 9]].sum() <= 6  # of 600, where uniform would have 180


def test_stratified_layers_differ():
    space = Space.eavit(VIT_B, 0.5)
    rng = np.random.default_rng(0)
    drawn = [stratified(space, rng) for _ in range(50)]
    assert sum(len(set(s.mlp)) > 2 for s in drawn) > 25


def test_one_of_is_uniform_and_always_is_constant():
    space = Space.of_widths(VIT_B, (384, 768, 1536, 3072))
    four = chain(space, space.mlps)
    assert [s.mlp[0] for s in four] == [384, 768, 1536, 3072]
    rng = np.random.default_rng(0)
    seen = [OneOf(space, four)(0.0, rng)[0] for _ in range(800)]
    assert chisquare([seen.count(s) for s in four]).pvalue > 0.001
    assert Always(space, four)(0.5, rng) == four


def test_stages_change_at_their_starts_and_refuse_others():
    space = Space.of_widths(VIT_B, (384, 3072))
    small, full = chain(space, space.mlps)
    stages = Stages((Always(space, (full,)), Always(space, (small,))), (0.0, 0.4))
    rng = np.random.default_rng(0)
    assert [stages(p, rng)[0] for p in (0, 0.39, 0.4, 0.9)] == [full, full, small, small]
    with pytest.raises(ValueError, match="starts from 0"):
        Stages((Always(space, (full,)),), (0.2,))


def test_chain_refuses_foreign_widths():
    with pytest.raises(ValueError, match="not in the space"):
        chain(Space.of_widths(VIT_B, (384, 3072)), (100,))
    assert Submodel(768, (12,) * 12, (384,) * 12) in chain(Space.of_widths(VIT_B, (384, 3072)), (384,))
