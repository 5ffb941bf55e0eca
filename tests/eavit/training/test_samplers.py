"""Samplers emit members of their space only, cover what they say, and follow the curriculum."""

import json
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare, kstest

from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.space.product import ProductSpace
from eavit.training.samplers import (
    ORDERS,
    STARTS,
    TYINGS,
    Always,
    Curriculum,
    Feedback,
    OneOf,
    Random,
    Sandwich,
    Triggered,
    chain,
    newest_only,
    per_layer,
    published,
    shared,
    smallest_first,
    stratified,
)
from tests.strategies import seeds, spaces

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)


def all_samplers(space: ProductSpace):
    draws = TYINGS.values()
    fixed = (space.smallest, space.largest)
    return [
        *(Random(space, draw, 2) for draw in draws),
        *(Curriculum(space, draw) for draw in draws),
        *(Triggered(space, draw) for draw in draws),
        Sandwich(space),
        Always(space, fixed),
        OneOf(space, fixed),
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
    space = ProductSpace.eavit(VIT_B, 0.5)
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
    space = ProductSpace.eavit(VIT_B, 0.5)
    low, high = (log(cost.macs(VIT_B, s)) for s in (space.smallest, space.largest))
    counts = {}
    for draw in (stratified, per_layer):
        rng = np.random.default_rng(1)
        shares = [(log(cost.macs(VIT_B, draw(space, rng))) - low) / (high - low) for _ in range(600)]
        counts[draw] = np.histogram(shares, bins=10, range=(0, 1 + 1e-9))[0]
    assert chisquare(counts[stratified]).pvalue > 0.001
    assert counts[per_layer][[0, 1, 9]].sum() <= 6  # of 600, where uniform would have 180


def test_stratified_layers_differ():
    space = ProductSpace.eavit(VIT_B, 0.5)
    rng = np.random.default_rng(0)
    drawn = [stratified(space, rng) for _ in range(50)]
    assert sum(len(set(s.mlp)) > 2 for s in drawn) > 25


def uniform(values, options):
    """Is every option as frequent as the others? (p of a chi-square)"""
    return chisquare([values.count(option) for option in options]).pvalue > 0.001


def test_shared_is_uniform_in_each_width_and_drops_each_branch_once_in_depth():
    space = ProductSpace.eavit(VIT_B, 0.5)
    rng = np.random.default_rng(0)
    drawn = [shared(space, rng) for _ in range(3000)]
    assert uniform([s.embed for s in drawn], space.embeds)
    assert uniform([max(s.heads) for s in drawn], space.heads)
    assert uniform([max(s.mlp) for s in drawn], space.mlps)
    assert (
        chisquare(
            np.histogram2d([max(s.heads) for s in drawn], [s.embed for s in drawn], bins=(7, 7))[0].ravel()
        ).pvalue
        > 0.001
    )
    for rows in ([s.heads for s in drawn], [s.mlp for s in drawn]):
        assert all(len(set(row) - {0}) == 1 and row.count(0) <= 1 for row in rows)
        dropped = [row.index(0) for row in rows if 0 in row]
        assert binomtest(len(dropped), len(rows), 1 / 12).pvalue > 0.001
        assert uniform(dropped, range(12))


def test_per_layer_is_uniform_over_configurations():
    space = ProductSpace.eavit(VIT_B)
    rng = np.random.default_rng(0)
    drawn = [per_layer(space, rng) for _ in range(2000)]
    assert uniform([s.embed for s in drawn], space.embeds)
    for layer in (0, 5, 11):
        assert uniform([s.heads[layer] for s in drawn if s.heads[layer]], space.heads)
        assert uniform([s.mlp[layer] for s in drawn if s.mlp[layer]], space.mlps)
    kept = [sum(map(bool, s.heads)) for s in drawn]
    assert binomtest(sum(kept), 12 * len(kept), 0.5).pvalue > 0.001
    limited = [per_layer(ProductSpace.eavit(VIT_B, 0.5), rng) for _ in range(200)]
    assert min(sum(map(bool, s.mlp)) for s in limited) >= 6


def test_random_draws_count_independent_submodels_and_never_waits():
    space = ProductSpace.eavit(VIT_B, 0.5)
    rng = np.random.default_rng(0)
    drawn = [Random(space, shared, 2)(0.0, rng) for _ in range(1500)]
    assert all(len(pair) == 2 for pair in drawn)
    both = np.histogram2d([a.embed for a, _ in drawn], [b.embed for _, b in drawn], bins=(7, 7))[0]
    assert chisquare(both.ravel()).pvalue > 0.001


def test_stratified_passes_kolmogorov_smirnov_where_per_layer_covers_the_middle_only():
    """Uniform in log MACs between the smallest and the largest;
    independent layers only where the law of large numbers puts them."""
    rng = np.random.default_rng(2)
    space = ProductSpace.eavit(VIT_B, 0.5)
    low, high = (log(cost.macs(VIT_B, s)) for s in (space.smallest, space.largest))
    found = {d: [log(cost.macs(VIT_B, d(space, rng))) for _ in range(400)] for d in (stratified, per_layer)}
    assert kstest(found[stratified], "uniform", (low, high - low)).pvalue > 0.001
    assert kstest(found[per_layer], "uniform", (low, high - low)).pvalue < 1e-9
    assert log(2e9) < min(found[per_layer]) < max(found[per_layer]) < log(13e9)  # of 1.28 to 17.6
    assert min(found[stratified]) < log(1.4e9) < log(16e9) < max(found[stratified])


def test_a_floor_ends_the_strata_there():
    space = ProductSpace.eavit(VIT_B, 0.5)
    rng = np.random.default_rng(0)
    shares = [cost.share(VIT_B, stratified(space, rng, 0.3)) for _ in range(150)]
    assert 0.28 < min(shares) < 0.4


def test_one_of_is_uniform_and_always_is_constant():
    space = ProductSpace.of_widths(VIT_B, (384, 768, 1536, 3072))
    four = chain(space, space.mlps)
    assert [s.mlp[0] for s in four] == [384, 768, 1536, 3072]
    rng = np.random.default_rng(0)
    seen = [OneOf(space, four)(0.0, rng)[0] for _ in range(800)]
    assert chisquare([seen.count(s) for s in four]).pvalue > 0.001
    assert Always(space, four)(0.5, rng) == four


def test_chain_refuses_foreign_widths():
    with pytest.raises(ValueError, match="not in the space"):
        chain(ProductSpace.of_widths(VIT_B, (384, 3072)), (100,))
    assert Submodel(768, (12,) * 12, (384,) * 12) in chain(ProductSpace.of_widths(VIT_B, (384, 3072)), (384,))


BEGINS = (0.0, *STARTS)


@given(space=spaces(), seed=seeds, progress=st.floats(0, 1), tying=st.sampled_from(sorted(TYINGS)))
def test_every_order_of_a_curriculum_stays_in_the_space_and_without_starts_draws_from_all(space, seed, progress, tying):
    for name, order in ORDERS.items():
        sampler = Curriculum(space, TYINGS[tying], order=order)
        (drawn,) = sampler(progress, np.random.default_rng(seed))
        assert space.contains(drawn), name
        free = Curriculum(space, TYINGS[tying], (), order)
        assert free(progress, np.random.default_rng(seed)) == (TYINGS[tying](space, np.random.default_rng(seed)),)


def test_the_default_order_draws_what_it_always_drew():
    space, rng = ProductSpace.eavit(VIT_B, 0.5), np.random.default_rng
    assert Curriculum(space)(0.05, rng(3)) == (space.largest,)
    assert Curriculum(space)(0.22, rng(3)) == (stratified(space.restrict(3), rng(3)),)


@given(space=spaces(), seed=seeds)
def test_smallest_first_is_the_reverse_it_grows_upwards(space, seed):
    sampler = Curriculum(space, per_layer, order=smallest_first)
    assert sampler(0.0, np.random.default_rng(seed)) == (space.smallest,)
    rng = np.random.default_rng(seed)
    for stage, progress in enumerate(BEGINS):
        (drawn,) = sampler(progress, rng)
        part = space.restrict_from_below(stage)
        assert drawn.embed <= part.embeds[-1]
        assert max(drawn.heads) <= part.heads[-1] and max(drawn.mlp) <= part.mlps[-1]
        assert sum(map(bool, drawn.heads)) <= max(
            space.min_attn, space.min_attn + stage * (space.depth - space.min_attn) // 6
        )
    assert space.restrict_from_below(6) == space
    assert space.restrict_from_below(0).largest.embed == space.embeds[0]


def test_smallest_first_reaches_the_largest_at_its_end():
    space = ProductSpace.of_widths(VIT_B, (384, 3072))
    rng = np.random.default_rng(0)
    drawn = {Curriculum(space, shared, order=smallest_first)(0.9, rng)[0] for _ in range(40)}
    assert {space.smallest, space.largest} <= drawn


@given(space=spaces(), seed=seeds)
def test_stage_wise_trains_what_the_stage_adds(space, seed):
    sampler = Curriculum(space, per_layer, order=newest_only)
    rng = np.random.default_rng(seed)
    for stage, progress in enumerate(BEGINS):
        current = space.restrict(stage)
        (drawn,) = sampler(progress, rng)
        assert current.contains(drawn)
        older = [space.restrict(s) for s in range(stage) if space.restrict(s) != current]
        if older and current.distinct > 2 * older[-1].distinct:  # the shell is no needle
            assert not older[-1].contains(drawn)


def test_published_stages_are_those_of_the_code_and_differ_from_restrict_where_reported():
    space = ProductSpace.eavit(VIT_B)
    ratios = {3072: "4", 2304: "3", 1536: "2", 768: "1", 384: ".5"}
    rng = np.random.default_rng(0)
    seen, losses = [], []
    for progress in BEGINS:
        drawn = [Curriculum(space, order=published)(progress, rng)[0] for _ in range(700)]
        seen.append({ratios[max(s.mlp)] for s in drawn})
        assert {max(s.heads) for s in drawn} == set(range(12 - len(seen) + 1, 13))
        assert {s.embed for s in drawn} == {64 * h for h in range(12 - len(seen) + 1, 13)}
        losses.append(sum(0 in s.heads for s in drawn))
        assert all((not h) == (not m) for s in drawn for h, m in zip(s.heads, s.mlp, strict=True))
    assert losses[0] > 20  # from the first stage on
    assert chisquare(losses).pvalue > 0.001 and binomtest(sum(losses), 7 * 700, 1 / 12).pvalue > 0.001
    assert seen == [{"4"}, {"4"}, {"4", "3"}, {"4", "3"}, {"4", "3", "2"}, {"4", "3", "2", "1"}, set(ratios.values())]
    counts = [[max(s.mlp) for s in drawn].count(width) for width in (3072, 2304, 1536, 768, 384)]
    assert chisquare(counts, np.array([2, 2, 1, 1, 1]) / 7 * len(drawn)).pvalue > 0.001
    restricted = [{ratios[m] for m in space.restrict(stage).mlps} for stage in range(7)]
    assert [stage for stage in range(7) if restricted[stage] != seen[stage]] == [3]


def test_published_keeps_its_blocks_where_the_space_demands_all():
    space = ProductSpace.of_widths(VIT_B, (384, 3072))
    rng = np.random.default_rng(0)
    assert all(space.contains(Curriculum(space, order=published)(0.9, rng)[0]) for _ in range(100))


def stages_of(sampler, losses):
    found = []
    for step, loss in enumerate(losses):
        sampler(step / len(losses), np.random.default_rng(step))
        found.append(sampler.stage(step / len(losses)))
        sampler.observe(loss)
    return found


SPACE = ProductSpace.eavit(VIT_B, 0.5)


def test_a_stage_rises_when_the_loss_stalls_and_not_before():
    def sampler():
        return Triggered(SPACE, patience=10, gain=0.01, decay=0.0, deadline=1.0)

    falling = [0.98**i for i in range(60)]
    assert stages_of(sampler(), falling)[:9] == [0] * 9
    flat = stages_of(sampler(), [1.0] * 600)
    assert [flat.index(stage) for stage in range(7)] == [0, 11, 22, 33, 44, 55, 66]
    late = stages_of(sampler(), [0.98**i for i in range(30)] + [0.5] * 600)
    assert late.index(1) > 30
    slow = stages_of(sampler(), [1 - 0.0005 * i for i in range(200)])  # better, but by too small a fraction
    assert slow.index(1) < 25


def test_the_average_forgives_a_single_lucky_step():
    losses = [0.98**i for i in range(30)] + [0.5] * 400
    losses[10] = 0.1
    eager, calm = (Triggered(SPACE, patience=8, decay=d, deadline=1.0) for d in (0.0, 0.9))
    assert stages_of(calm, losses)[:30] == [0] * 30
    assert stages_of(eager, losses)[19] == 1


def test_whatever_the_loss_all_stages_come_by_the_deadline():
    sampler = Triggered(SPACE, patience=10_000, deadline=0.6)
    found = stages_of(sampler, [0.9**i for i in range(100)])
    assert found[0] == 0 and found[59] == 5 and found[60:] == [6] * 40


@given(st.lists(st.floats(0, 10), max_size=60), st.integers(0, 60), seeds)
def test_a_restored_sampler_goes_on_bit_for_bit(losses, cut, seed):
    def step(sampler, at):
        drawn = sampler(at / 60, np.random.default_rng([seed, at]))
        sampler.observe(losses[at])
        return drawn

    whole = Triggered(SPACE, patience=3)
    drawn = [step(whole, at) for at in range(len(losses))]
    first = Triggered(SPACE, patience=3)
    again = [step(first, at) for at in range(min(cut, len(losses)))]
    second = Triggered(SPACE, patience=3)
    second.restore(json.loads(json.dumps(first.state())))
    again += [step(second, at) for at in range(len(again), len(losses))]
    assert again == drawn
    assert second.state() == whole.state()
    assert all(np.isfinite(list(whole.state().values())))


def test_only_the_triggered_one_asks_for_losses_and_it_checks_what_it_is_given():
    assert isinstance(Triggered(SPACE), Feedback)
    assert not any(isinstance(s, Feedback) for s in all_samplers(SPACE) if not isinstance(s, Triggered))
    with pytest.raises(ValueError, match="must have"):
        Triggered(SPACE).restore({"stage": 1.0})
    with pytest.raises(ValueError, match="patience=0"):
        Triggered(SPACE, patience=0)
    with pytest.raises(ValueError, match="deadline=0"):
        Triggered(SPACE, deadline=0)
    one, other = Triggered(SPACE), Triggered(SPACE)
    one.observe(1.0)
    assert other.state()["seen"] == 0
