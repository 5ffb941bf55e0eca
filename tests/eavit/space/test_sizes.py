"""Spaces that are lists: chains of nested sizes, and sizes that need not nest."""

from dataclasses import replace

import numpy as np
import pytest

from eavit.methods.dynabert import grid
from eavit.methods.sizes import members_of, tied
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.space.product import ProductSpace
from eavit.space.sizes import ListSpace
from tests.eavit.laws import BACKBONE

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
LADDER = tied(BACKBONE)


def test_a_chain_is_a_space_of_its_sizes():
    space, rng = LADDER, np.random.default_rng(0)
    assert (space.smallest, space.largest, space.count, space.distinct) == (
        *space.members[:: len(space.members) - 1],
        4,
        4,
    )
    assert members_of(space) == space.members
    for place, size in enumerate(space.members):
        assert space.from_genes(space.genes(size)) == size == space.require(size)
        assert list(space.narrower(size)) == list(space.members[max(0, place - 1) : place])
        assert list(space.wider(size)) == list(space.members[place + 1 : place + 2])
        assert space.near(cost.macs(BACKBONE, size), rng) == size
    assert {space.sample(rng) for _ in range(100)} == set(space.members)
    small, large = space.members[0], space.members[-1]
    assert not space.contains(replace(small, embed=large.embed))


def test_what_is_no_chain_is_refused():
    small, large = LADDER.members[0], LADDER.members[-1]
    for sizes, match in (
        ([], "no size at all"),
        ([large, small], "not strictly inside"),
        ([small, small], "not strictly inside"),
        ([Submodel(6, (1,), (6,))], "1 layers, the backbone has 3"),
        ([replace(large, embed=99)], "not nested in the backbone"),
    ):
        with pytest.raises(ValueError, match=match):
            ListSpace.chain(BACKBONE, sizes)
    for code in ([4], [-1], [0, 0]):
        with pytest.raises(ValueError, match="genes.*(do not fit this space: 1 genes below|must be at least 0)"):
            LADDER.from_genes(code)
    with pytest.raises(ValueError, match="e12-h1x3-m6x3 is none of the sizes e3-h1x3-m6x3"):
        LADDER.genes(replace(small, embed=12))
    with pytest.raises(TypeError, match="not a list of sizes"):
        members_of(ProductSpace.eavit(BACKBONE))


def test_neighbours_on_the_grid_have_nothing_between_them():
    space = grid(VIT_B)
    by_key = {(s.heads[0] // 3, sum(map(bool, s.heads))): s for s in space.members}
    assert set(space.narrower(by_key[3, 9])) == {by_key[2, 9], by_key[3, 6]}
    assert set(space.wider(by_key[3, 9])) == {by_key[4, 9], by_key[3, 12]}
    assert not list(space.narrower(space.smallest)) and not list(space.wider(space.largest))
    assert all(space.from_genes(space.genes(s)) == s for s in space.members)
    with pytest.raises(ValueError, match="is none of the sizes e768"):
        space.require(Submodel(768, (1,) * 12, (1,) * 12))


def test_sizes_are_listed_once_and_by_their_macs():
    small, middle, large = LADDER.members[0], *LADDER.members[-2:]
    space = ListSpace.of(BACKBONE, [large, small, middle, small])
    assert space.members == (small, middle, large)
    far = [-1.0, cost.macs(BACKBONE, middle), 1e18]
    assert [space.near(target, np.random.default_rng(0)) for target in far] == [small, middle, large]
