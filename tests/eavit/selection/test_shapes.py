"""Families of members that need no measurement, in any space."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eavit.model import cost
from eavit.model.cost import Measure
from eavit.model.submodel import Backbone, Submodel
from eavit.selection.shapes import greedy_path, importance_per_size, mixes, uniforms
from eavit.space.product import ProductSpace
from eavit.space.stacks import StackSpace, headwise
from tests.eavit.selection.searched import scores_of
from tests.strategies import seeds, spaces

B = Backbone(48, 6, 8, 64, 3, 17, 4, patch_pixels=16)
PRODUCT = ProductSpace.eavit(B, 0.5)
STACKS = StackSpace(B, *headwise(B), (3,), (2,))


@pytest.mark.parametrize("space", [PRODUCT, STACKS])
def test_mixes_are_members_that_never_narrow_with_depth_most_uniform_first(space):
    every = list(mixes(space))
    assert len(set(every)) == len(every) and all(map(space.contains, every))
    assert all(list(s.mlp) == sorted(s.mlp) and list(s.heads) == sorted(s.heads) for s in every)
    assert len({*every[0].mlp}) == len({*every[0].heads}) == 1


@given(space=spaces())
def test_uniform_shapes_ascend_in_macs_and_in_their_narrowest_width(space):
    shapes = uniforms(space)
    assert all(map(space.contains, shapes)) and shapes[0] == space.largest
    b = space.backbone
    for dear, cheap in pairwise(shapes):
        assert cost.macs(b, cheap) <= cost.macs(b, dear)
        narrowest = [min(s.embed / b.embed, s.heads[0] / b.heads, s.mlp[0] / b.mlp) for s in (cheap, dear)]
        assert narrowest[0] <= narrowest[1]


@given(space=spaces(max_depth=2) | st.sampled_from([PRODUCT, STACKS]), seed=seeds)
def test_the_greedy_path_is_nested_from_the_largest_to_a_cheapest_member(space, seed):
    path = greedy_path(space, scores_of(space.backbone, seed))
    assert path[0] == space.largest and all(map(space.contains, path))
    assert all(small <= large and small != large for large, small in pairwise(path))
    assert cost.macs(space.backbone, path[-1]) == cost.macs(space.backbone, space.smallest)


def test_importance_per_mac_counts_the_units_between():
    scores = scores_of(B)
    large, small = Submodel(48, (6, 6, 6), (64, 64, 64)), Submodel(40, (6, 0, 6), (64, 64, 32))
    units = scores.channels[40:].sum() + scores.heads[1].sum() + scores.neurons[2, 32:].sum()
    saved = cost.macs(B, large) - cost.macs(B, small)
    assert importance_per_size(PRODUCT, scores)(small, large) == pytest.approx(float(units) / saved)


DEPTH = Measure("depth", lambda s: 1.0 + sum(map(bool, (*s.heads, *s.mlp))), 7.0)


def test_the_greedy_path_by_another_measure_drops_branches_where_widths_save_nothing():
    path = greedy_path(PRODUCT, scores_of(B), DEPTH)
    assert all(small <= large and small != large for large, small in pairwise(path)) and all(
        map(PRODUCT.contains, path)
    )
    dropped = [s for s in path if DEPTH.of(s) < 7]
    least = PRODUCT.min_attn + PRODUCT.min_mlp
    assert [DEPTH.of(s) for s in path[: 7 - least]] == [float(7 - i) for i in range(7 - least)]  # before any width
    assert dropped[0].embed == B.embed and DEPTH.of(path[-1]) == 1 + least


def test_steps_that_save_nothing_have_infinite_value():
    value = importance_per_size(PRODUCT, scores_of(B), DEPTH)
    assert value(Submodel(40, (6,) * 3, (64,) * 3), B.full) == float("inf")
    assert 0 < value(Submodel(48, (6, 6, 0), (64,) * 3), B.full) < float("inf")
