"""Nested choices: the dynamic programme equals brute force, shrinking keeps to the space, the budget and the chain."""

from itertools import pairwise, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.selection.chains import best_chain, macs_of_step, shrink_into, shrunk_chain
from eavit.selection.front import Candidate
from tests.strategies import members, spaces

widths = st.integers(1, 3)


def point_of(embed, heads, mlp, quarters):
    share = (embed + heads + mlp) / 9
    return Candidate(Submodel(embed, (heads,), (mlp,)), 9 * embed + 3 * heads + mlp, share, quarters / 4)


points = st.builds(point_of, widths, widths, widths, st.integers(0, 4))
budgets = st.lists(st.sampled_from([k / 9 for k in range(2, 10)]), max_size=3, unique=True).map(sorted)


def is_chain(submodels):
    return all(a <= b for a, b in pairwise(submodels))


@given(st.lists(points, max_size=9), budgets)
@settings(max_examples=150)
def test_the_best_chain_is_that_of_brute_force(found, limits):
    every = [
        chain
        for chain in product(found, repeat=len(limits))
        if is_chain([p.submodel for p in chain]) and all(p.share <= b for p, b in zip(chain, limits, strict=True))
    ]
    best = best_chain(found, limits)
    if best is None:
        assert not every
        return
    assert best in every
    assert sum(p.fitness for p in best) == pytest.approx(max(sum(p.fitness for p in chain) for chain in every))
    assert best_chain(found[::-1], limits) == best


def test_a_chain_pays_for_nesting_only_where_it_must():
    def point(embed, heads, fitness):
        return Candidate(Submodel(embed, (heads,), (1,)), 10 * embed + heads, (embed + heads) / 10, fitness)

    wide, tall, both = point(4, 1, 0.6), point(1, 4, 0.7), point(4, 2, 0.9)
    assert best_chain([wide, tall, both], [0.5, 0.6]) == (wide, both)  # tall is better but does not lie in both
    assert best_chain([wide, tall], [0.5, 0.6]) == (tall, tall)
    assert best_chain([wide, tall], [0.4, 0.6]) is None


@st.composite
def pairs(draw):
    """A space, two members and a budget that the first keeps."""
    space = draw(spaces(max_depth=2))
    every = members(space)
    assume(len(every) < 3000)
    own, outer = draw(st.sampled_from(every)), draw(st.sampled_from(every))
    return space, own, outer, max(cost.share(space.backbone, own), draw(st.floats(0, 1)))


@given(pairs())
def test_shrinking_stays_in_the_space_the_budget_and_the_larger_choice(drawn):
    space, own, outer, budget = drawn
    inner = shrink_into(space, own, outer, budget, macs_of_step(space))
    assert space.contains(inner)
    assert inner <= outer
    assert cost.share(space.backbone, inner) <= budget
    if own <= outer:
        assert inner == own
    else:  # filled: no further step inside the larger one fits
        wider = [s for s in space.wider(inner) if s <= outer]
        assert all(cost.share(space.backbone, s) > budget for s in wider)


@given(pairs(), st.data())
def test_a_shrunk_chain_keeps_the_largest_choice(drawn, data):
    space, own, outer, _ = drawn
    third = data.draw(st.sampled_from(members(space)))
    free = sorted((own, outer, third), key=lambda s: cost.macs(space.backbone, s))
    limits = [cost.share(space.backbone, s) for s in free]
    chain = shrunk_chain(space, free, limits, macs_of_step(space))
    assert is_chain(chain)
    assert chain[-1] == free[-1]
    assert all(cost.share(space.backbone, s) <= b for s, b in zip(chain, limits, strict=True))
    assert shrunk_chain(space, [], [], macs_of_step(space)) == ()
