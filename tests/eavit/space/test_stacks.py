"""Spaces whose layers leave from the end of each stack, against brute force."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.space.stacks import StackSpace, headwise

SMALL = Backbone(12, 4, 3, 24, 3, 5, 3, 4, 1, 5)
ONE = StackSpace(SMALL, *headwise(SMALL), (3,), (2,))
TWO = StackSpace(Backbone(12, 4, 3, 24, 4, 5, 3, 4, 1, 5), (6, 12), (2, 4), (6, 24), (2, 2), (1, 1))


def everyone(space):
    """All members, by brute force and not by the space's code."""
    found = []
    for embed in space.embeds:
        for counts in product(*(range(low, n + 1) for low, n in zip(space.least, space.sizes, strict=True))):
            on = [i < kept for kept, n in zip(counts, space.sizes, strict=True) for i in range(n)]
            layers = [list(product(space.heads, space.mlps)) if k else [(0, 0)] for k in on]
            found += [Submodel(embed, *zip(*widths, strict=True)) for widths in product(*layers)]
    return found


def test_members_are_what_brute_force_says():
    members = everyone(TWO)
    assert len(members) == len(set(members)) == TWO.distinct
    assert all(map(TWO.contains, members)) and TWO.smallest in members and TWO.largest in members
    assert cost.macs(TWO.backbone, TWO.smallest) == min(cost.macs(TWO.backbone, s) for s in members)
    for text in ("e12-h4.0x2.4-m24.0x2.24", "e12-h4x2.0.4-m24x2.0.24", "e12-h4x4-m24x3.0", "e9-h4x4-m24x4"):
        assert not TWO.contains(Submodel.parse(text)), text
        with pytest.raises(ValueError, match="is not in the space"):
            TWO.require(Submodel.parse(text))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1), st.sampled_from([ONE, TWO]))
def test_codes_paths_and_neighbours_stay_in_the_space(seed, low, high, space):
    rng = np.random.default_rng(seed)
    drawn, noise = space.sample(rng), rng.random(len(space.gene_sizes) + 2)
    assert space.contains(drawn) and space.from_genes(space.genes(drawn)) == drawn
    assert space.contains(space.from_genes(rng.integers(space.gene_sizes)))
    small, large = (space.at(level, noise) for level in sorted((low, high)))
    assert space.contains(small) and small <= large
    assert space.at(0, noise) == space.smallest and space.at(1, noise) == space.largest
    below, above = list(space.narrower(drawn)), list(space.wider(drawn))
    assert all(space.contains(s) and s <= drawn and s != drawn for s in below)
    assert all(space.contains(s) and drawn <= s and s != drawn for s in above)
    assert bool(below) == (drawn != space.smallest) and bool(above) == (drawn != space.largest)


def test_impossible_stacks_are_refused():
    for sizes, least in (((2, 1), (1, 1)), ((2, 2), (0, 1)), ((2, 2), (1, 3))):
        with pytest.raises(ValueError, match=r"must add up to 4 layers, and each stack keep at least 1"):
            replace(TWO, sizes=sizes, least=least)
    with pytest.raises(ValueError, match=r"space: heads=\(4, 2\) must be ascending"):
        replace(TWO, heads=(4, 2))
    for code in ([], [0] * 10, [2] + [0] * 10, [0] * 10 + [2]):
        with pytest.raises(ValueError, match="do not fit this space: 11 genes below"):
            TWO.from_genes(code)
