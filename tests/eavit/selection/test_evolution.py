"""Evolution under a limit: members that fit, nobody twice, never too many, better than its own random start."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.selection.evolution import AUTOFORMER, OFA, Rules, draw_under, evolve
from eavit.space.product import ProductSpace
from tests.strategies import seeds, spaces

SMALL = ProductSpace.eavit(Backbone(48, 6, 8, 64, 3, 17, 4, patch_pixels=16))
FEW = Rules(8, 3, 3, 3, 3, rate=0.2, embed_rate=0.4, window=0.5)


def brightness(space):
    worth = np.random.default_rng(0).random(2 * space.depth)
    return lambda s: s.embed / 100 + float(worth @ np.sqrt([*s.heads, *s.mlp]))


def test_the_rules_are_those_of_the_sources():
    assert (AUTOFORMER.population, AUTOFORMER.rounds, AUTOFORMER.parents) == (50, 20, 10)
    assert (AUTOFORMER.mutants, AUTOFORMER.crosses, AUTOFORMER.rate, AUTOFORMER.embed_rate) == (25, 25, 0.2, 0.4)
    assert (OFA.population, OFA.parents, OFA.mutants, OFA.rate, OFA.window) == (100, 25, 50, 0.1, 0.0)
    with pytest.raises(ValueError, match="population=0, rate=2"):
        replace(FEW, population=0, rate=2)


def test_a_small_share_shrinks_generations_and_their_number_alike():
    assert AUTOFORMER.within(1050) == AUTOFORMER.within(5000) == AUTOFORMER
    small = AUTOFORMER.within(60)
    assert (small.population, small.parents, small.mutants, small.crosses) == (12, 2, 6, 6)
    assert AUTOFORMER.within(0) == AUTOFORMER.within(1)


@given(spaces(), seeds, st.floats(0, 1.2), st.integers(0, 40))
@settings(max_examples=40)
def test_it_evaluates_members_that_fit_once_and_never_too_many(space, seed, budget, limit):
    asked = []

    def fitness(brood):
        asked.extend(brood)
        return [brightness(space)(s) for s in brood]

    found = evolve(space, fitness, budget, FEW, np.random.default_rng(seed), limit)
    assert list(found) == asked
    assert len(set(asked)) == len(asked) <= min(limit, FEW.population * (1 + FEW.rounds))
    assert all(space.contains(s) and cost.share(space.backbone, s) <= budget for s in asked)
    if cost.share(space.backbone, space.smallest) > budget:
        assert not found
    plain = brightness(space)
    again = evolve(space, lambda brood: [plain(s) for s in brood], budget, FEW, np.random.default_rng(seed), limit)
    assert again == found


def test_children_beat_random_draws_and_keep_to_the_window():
    fitness = brightness(SMALL)
    gains = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found = evolve(SMALL, lambda brood: list(map(fitness, brood)), 0.5, replace(AUTOFORMER, rounds=6), rng)
        assert min(cost.share(SMALL.backbone, s) for s in found) > 0.3
        drawn = [draw_under(SMALL, 0.5, 0.8, rng) for _ in range(len(found))]
        gains.append(max(found.values()) - max(fitness(s) for s in drawn if s is not None))
    assert min(gains) >= 0 < np.mean(gains)


@given(spaces(), seeds, st.floats(0.01, 1.0))
def test_draws_under_a_budget_keep_it(space, seed, budget):
    if cost.share(space.backbone, space.smallest) <= budget:
        drawn = draw_under(space, budget, 0.8, np.random.default_rng(seed))
        assert drawn is None or (space.contains(drawn) and cost.share(space.backbone, drawn) <= budget)
