"""A space counts, draws, encodes and bounds exactly its own members; on tiny backbones, against brute force."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import backbones, members, seeds, spaces, submodels

from eavit.model.cost import Measure, macs
from eavit.model.submodel import Backbone, Submodel
from eavit.space.members import nearest_in_size
from eavit.space.product import ProductSpace, uniform_shape
from eavit.space.space import Space

VIT_B = Backbone(embed=768, heads=12, head_dim=64, mlp=3072, depth=12, tokens=197, num_classes=1000)
SMALL = Backbone(embed=12, heads=3, head_dim=4, mlp=24, depth=2, tokens=5, num_classes=3)
levels = st.floats(0, 1) | st.sampled_from((0.0, 0.5, 1.0))


def noise_of(space: ProductSpace, seed: int) -> np.ndarray:
    """What :meth:`ProductSpace.near` draws with a generator of this seed."""
    return np.random.default_rng(seed).random(len(space.gene_sizes) + 2)


def same(one: ProductSpace, other: ProductSpace) -> bool:
    return set(members(one)) == set(members(other))


# Counting


def test_the_papers_space_for_vit_b():
    space = ProductSpace.eavit(VIT_B)
    assert space.count == 5**12 * 7**12 * 7 * 2**24
    assert f"{space.count:.3g}" == "3.97e+26"
    assert space.embeds == (384, 448, 512, 576, 640, 704, 768)
    assert space.heads == (6, 7, 8, 9, 10, 11, 12)
    assert space.mlps == (384, 768, 1536, 2304, 3072)
    assert space.largest == VIT_B.full
    assert space.smallest == Submodel(384, (0,) * 12, (0,) * 12)


def codes(space: ProductSpace) -> list[tuple[int, ...]]:
    """Every code whose gates keep enough branches, by trying each."""
    n, sizes = space.depth, [range(size) for size in space.gene_sizes.tolist()]
    every = list(product(*sizes))
    return [
        c for c in every if sum(c[1 + 2 * n : 1 + 3 * n]) >= space.min_attn and sum(c[1 + 3 * n :]) >= space.min_mlp
    ]


@given(spaces(max_depth=2))
def test_count_and_distinct_equal_brute_force(space):
    assume(np.prod(space.gene_sizes.astype(float)) < 3000)
    assert space.count == len(codes(space))
    assert space.distinct == len(members(space)) == len({space.from_genes(code) for code in codes(space)})


@given(spaces(max_depth=2))
def test_distinct_equals_the_number_of_members(space):
    assert space.distinct == len(members(space)) == len(set(members(space)))


@given(st.data())
def test_contains_means_nested_widths_from_the_lists(data):
    space = data.draw(spaces())
    submodel = data.draw(submodels(space.backbone))
    kept_heads, kept_mlp = [h for h in submodel.heads if h], [m for m in submodel.mlp if m]
    allowed = {submodel.embed} <= {*space.embeds} and {*kept_heads} <= {*space.heads} and {*kept_mlp} <= {*space.mlps}
    enough = len(kept_heads) >= space.min_attn and len(kept_mlp) >= space.min_mlp
    assert space.contains(submodel) == (allowed and enough)


# Members


@given(spaces())
def test_largest_and_smallest_are_members_and_extremes(space):
    everything = members(space)
    assert space.largest in everything
    assert space.smallest in everything
    assert all(submodel <= space.largest for submodel in everything)
    spent = [macs(space.backbone, submodel) for submodel in everything]
    assert macs(space.backbone, space.smallest) == min(spent)
    assert macs(space.backbone, space.largest) == max(spent)


@given(spaces(), seeds)
def test_samples_are_members_and_repeat_with_their_generator(space, seed):
    draws = [[space.sample(rng) for _ in range(5)] for rng in map(np.random.default_rng, (seed, seed))]
    assert draws[0] == draws[1]
    assert all(space.contains(submodel) for submodel in draws[0])


def test_samples_are_uniform_over_configurations():
    space = ProductSpace(SMALL, (8, 12), (2, 3), (24,), min_attn=1, min_mlp=1)
    expected = Counter(space.from_genes(code) for code in codes(space))
    rng, draws = np.random.default_rng(0), 6000
    found = Counter(space.sample(rng) for _ in range(draws))
    assert set(found) == set(expected)
    chi_square = sum((found[s] - draws * n / space.count) ** 2 / (draws * n / space.count) for s, n in expected.items())
    assert chi_square < len(expected) + 5 * (2 * len(expected)) ** 0.5  # five deviations above the mean


# Genes


@given(st.data())
def test_genes_and_members_are_inverses(data):
    space = data.draw(spaces())
    submodel = space.sample(np.random.default_rng(data.draw(seeds)))
    genes = space.genes(submodel)
    assert genes.dtype == np.int64
    assert len(genes) == len(space.gene_sizes) == 1 + 4 * space.depth
    assert ((genes >= 0) & (genes < space.gene_sizes)).all()
    assert space.from_genes(genes) == submodel
    assert (space.genes(space.from_genes(genes)) == genes).all()


@given(st.data())
def test_any_code_in_range_decodes_to_a_member(data):
    space = data.draw(spaces())
    code = [data.draw(st.integers(0, size - 1)) for size in space.gene_sizes.tolist()]
    submodel = space.from_genes(code)
    assert space.contains(submodel)
    on = code[1 + 2 * space.depth :]
    found = [int(width > 0) for width in (*submodel.heads, *submodel.mlp)]
    assert all(now >= asked for now, asked in zip(found, on, strict=True)), "repair only switches branches on"
    assert space.from_genes(np.array(code)) == submodel


@given(spaces(max_depth=2))
def test_every_member_has_its_own_genes(space):
    everything = members(space)[:300]
    assert len({tuple(space.genes(submodel)) for submodel in everything}) == len(everything)


# Curriculum


@given(spaces(), st.integers(1, 9))
def test_restrict_grows_from_the_largest_to_the_whole(space, stages):
    steps = [set(members(space.restrict(stage, stages))) for stage in range(stages + 1)]
    assert steps[0] == {space.largest}
    assert steps[-1] == set(members(space))
    for inner, outer in pairwise(steps):
        assert inner <= outer
    assert space.restrict(stages, stages) == space


def test_the_six_stages_of_vit_b_grow_each_time():
    space = ProductSpace.eavit(VIT_B)
    stages = [space.restrict(stage) for stage in range(7)]
    assert stages[0].count == 1
    assert stages[0].largest == stages[0].smallest == VIT_B.full
    assert [len(s.heads) for s in stages] == [1, 2, 3, 4, 5, 6, 7]
    assert [s.min_attn for s in stages] == [12, 10, 8, 6, 4, 2, 0]
    assert all(one.count < other.count for one, other in pairwise(stages))
    assert stages[6] == space


# Paths


@given(spaces(), seeds, levels, levels)
def test_paths_are_nested_in_level_and_stay_inside(space, seed, one, other):
    noise = noise_of(space, seed)
    low, high = space.at(min(one, other), noise), space.at(max(one, other), noise)
    assert space.contains(low)
    assert space.contains(high)
    assert low <= high


@given(spaces(), seeds)
def test_paths_end_at_a_cheapest_member_and_at_the_largest(space, seed):
    noise = noise_of(space, seed)
    assert macs(space.backbone, space.at(0, noise)) == macs(space.backbone, space.smallest)
    assert space.at(1, noise) == space.largest


@given(spaces(), seeds, st.floats(-0.2, 1.2))
def test_near_is_the_member_of_the_path_closest_to_the_target(space, seed, fraction):
    noise, target = noise_of(space, seed), fraction * macs(space.backbone, space.largest)
    found = space.near(target, np.random.default_rng(seed))
    assert space.contains(found)
    path = [space.at(step / 64, noise) for step in range(65)]
    closest = min(abs(macs(space.backbone, submodel) - target) for submodel in path)
    assert abs(macs(space.backbone, found) - target) <= closest


@pytest.mark.parametrize(("end", "target"), [("smallest", 0.0), ("largest", 1e9)])
@pytest.mark.parametrize("offset", [0.0, np.nextafter(1, 0)])
def test_near_reaches_both_ends_of_the_path_whatever_the_noise(end, target, offset):
    space = ProductSpace(SMALL, (8, 12), (2, 3), (6, 24), 0, 0)
    path = partial(space.at, noise=np.full(len(space.gene_sizes) + 2, offset))
    found = nearest_in_size(path, Measure.of_macs(SMALL), target)
    assert macs(SMALL, found) == macs(SMALL, getattr(space, end))


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9])
def test_near_comes_close_on_vit_b(fraction):
    space = ProductSpace.eavit(VIT_B)
    whole = macs(VIT_B, VIT_B.full)
    rngs = map(np.random.default_rng, range(30))
    gaps = [abs(macs(VIT_B, space.near(fraction * whole, rng)) / whole - fraction) for rng in rngs]
    assert max(gaps) < 0.06
    assert np.mean(gaps) < 0.015


def test_near_differs_from_seed_to_seed():
    space = ProductSpace.eavit(VIT_B)
    assert len({space.near(8e9, np.random.default_rng(seed)) for seed in range(20)}) == 20


# Spaces of any backbone


@given(backbones(), st.integers(0, 100))
def test_the_papers_space_fits_any_backbone(backbone, percent):
    space = ProductSpace.eavit(backbone, percent / 100)
    assert space.largest == backbone.full
    assert macs(backbone, space.smallest) <= macs(backbone, backbone.full)
    assert space.min_attn == space.min_mlp == -(-percent * backbone.depth // 100)
    assert space.heads[0] == (backbone.heads + 1) // 2


@pytest.mark.parametrize(("embed", "heads"), [(10, 4), (3, 4), (7, 2)])
def test_the_papers_space_fits_backbones_whose_channels_are_not_whole_heads(embed, heads):
    # What a uniform extract, nested again, looks like.
    backbone = Backbone(embed, heads, 4, mlp=16, depth=2, tokens=5, num_classes=3)
    space = ProductSpace.eavit(backbone)
    assert space.largest == backbone.full
    assert space.restrict(0).count == 1


@given(backbones(), st.data())
def test_hidden_widths_alone(backbone, data):
    widths = tuple(sorted(data.draw(st.sets(st.integers(1, backbone.mlp), min_size=1, max_size=4))))
    space = ProductSpace.of_widths(backbone, widths)
    assert space.count == space.distinct == len(widths) ** backbone.depth
    assert {s.embed for s in members(space)} == {backbone.embed}
    assert {s.heads for s in members(space)} == {backbone.full.heads}


# Uniform shapes


@given(backbones(), st.floats(0.01, 1.0))
def test_a_uniform_shape_is_uniform_and_within_budget(backbone, budget):
    shape = uniform_shape(backbone, budget)
    limit = budget * macs(backbone, backbone.full)
    if shape is None:
        thinnest = Submodel(backbone.embed // backbone.heads, (1,) * backbone.depth, (1,) * backbone.depth)
        assert macs(backbone, thinnest) > limit
        return
    assert shape <= backbone.full
    assert len(set(shape.heads)) == len(set(shape.mlp)) == 1
    assert min(*shape.heads, *shape.mlp) > 0
    assert macs(backbone, shape) <= limit
    if shape.mlp[0] < backbone.mlp:
        wider = Submodel(shape.embed, shape.heads, tuple(m + 1 for m in shape.mlp))
        assert macs(backbone, wider) > limit, "the hidden width fills the budget"


@pytest.mark.parametrize("budget", [0.2, 0.4, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("backbone", [Backbone(192, 3, 64, 768, 12, 197, 10), VIT_B], ids=["tiny", "base"])
def test_a_uniform_shape_leaves_little_of_a_budget(backbone, budget):
    """Of ViT-tiny, two heads of three with the whole hidden width would leave a quarter of 80 %."""
    shape = uniform_shape(backbone, budget)
    assert macs(backbone, shape) >= 0.95 * budget * macs(backbone, backbone.full)


@given(backbones())
def test_the_uniform_shape_of_the_whole_budget_is_the_full_model(backbone):
    assert uniform_shape(backbone, 1.0) == backbone.full


def test_no_uniform_shape_below_the_thinnest():
    assert uniform_shape(VIT_B, 1e-4) is None
    assert uniform_shape(VIT_B, 0.0) is None


def test_uniform_shapes_of_vit_b_use_their_budget():
    for budget in (0.2, 0.4, 0.6, 0.8):
        shape = uniform_shape(VIT_B, budget)
        assert 0.995 * budget < macs(VIT_B, shape) / macs(VIT_B, VIT_B.full) <= budget
        assert 2.5 < shape.mlp[0] / shape.embed < 6


# Bad input


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"embeds": ()}, "space: embeds=() must be ascending, unique and within 1..12"),
        ({"embeds": (8, 13)}, "embeds=(8, 13)"),
        ({"embeds": (0, 8)}, "embeds=(0, 8)"),
        ({"heads": (3, 2)}, "heads=(3, 2) must be ascending"),
        ({"heads": (2, 2)}, "heads=(2, 2) must be ascending, unique"),
        ({"mlps": (6, 25)}, "mlps=(6, 25) must be ascending, unique and within 1..24"),
        ({"min_attn": 3}, "min_attn=3, min_mlp=0 must lie in 0..2"),
        ({"min_mlp": -1}, "min_attn=0, min_mlp=-1 must lie in 0..2"),
    ],
)
def test_impossible_spaces_are_refused(changes, says):
    parts = {"embeds": (12,), "heads": (3,), "mlps": (24,), "min_attn": 0, "min_mlp": 0, **changes}
    with pytest.raises(ValueError, match=re.escape(says)):
        ProductSpace(SMALL, **parts)


@pytest.mark.parametrize("min_depth", [-0.1, 1.1, float("nan")])
def test_impossible_fractions_of_depth_are_refused(min_depth):
    with pytest.raises(ValueError, match=r"min_depth is .* a fraction of the layers"):
        ProductSpace.eavit(SMALL, min_depth)


def test_widths_are_multiples_where_asked():
    odd = replace(SMALL, embed=15, head_dim=5, mlp=50)
    assert ProductSpace.eavit(odd).mlps == (6, 12, 25, 37, 50)
    space = ProductSpace.eavit(odd, multiple_of=8)
    assert (space.embeds, space.mlps) == ((15,), (8, 16, 32, 40, 50))  # the full widths stay as they are
    assert ProductSpace.eavit(odd, multiple_of=99).mlps == (50,)
    assert Space.eavit(odd, multiple_of=8) == space
    with pytest.raises(ValueError, match="multiple_of"):
        ProductSpace.eavit(odd, multiple_of=0)


@pytest.mark.parametrize(("stage", "stages"), [(-1, 6), (7, 6), (0, -1), (0, 0)])
def test_impossible_stages_are_refused(stage, stages):
    with pytest.raises(ValueError, match="stage"):
        ProductSpace.eavit(SMALL).restrict(stage, stages)


@pytest.mark.parametrize(
    "stranger",
    [
        Submodel(11, (3, 3), (24, 24)),
        Submodel(12, (1, 3), (24, 24)),
        Submodel(12, (3, 3), (5, 24)),
        Submodel(12, (0, 0), (24, 24)),
        Submodel(12, (3, 3), (0, 0)),
        Submodel(12, (3,), (24,)),
        Submodel(12, (3,) * 3, (24,) * 3),
    ],
    ids=str,
)
def test_strangers_are_refused_by_name(stranger):
    space = ProductSpace.eavit(SMALL, min_depth=0.5)
    assert not space.contains(stranger)
    for door in (space.require, space.genes):
        with pytest.raises(ValueError, match=re.escape(f"submodel {stranger} is not in the space embed=(8, 12)")):
            door(stranger)
    assert space.require(space.largest) == space.largest


@pytest.mark.parametrize("code", [[], [0] * 8, [0] * 10, [2] + [0] * 8, [0, -1] + [0] * 7, [0] * 8 + [2]])
def test_codes_that_do_not_fit_are_refused(code):
    with pytest.raises(ValueError, match="genes.*(do not fit this space: 9 genes below|must be at least 0)"):
        ProductSpace.eavit(SMALL).from_genes(code)
