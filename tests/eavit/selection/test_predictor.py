"""The accuracy predictor: one row for each function, learns a plain truth, the same by equal seeds, tells its rank."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eavit.model.submodel import Backbone
from eavit.selection.predictor import Predictor, one_hot, rank_agreement
from eavit.space.product import ProductSpace
from tests.strategies import members, seeds, spaces

SMALL = ProductSpace.eavit(Backbone(48, 6, 8, 64, 3, 17, 4, patch_pixels=16))


def truth(submodel):
    return 0.2 + 0.004 * submodel.embed + 0.02 * submodel.heads[0] - 0.01 * submodel.heads[1]


def measured(count, seed=0):
    rng = np.random.default_rng(seed)
    drawn = list(dict.fromkeys(SMALL.sample(rng) for _ in range(3 * count)))[:count]
    return [(s, truth(s)) for s in drawn]


@given(spaces(max_depth=2), st.data())
def test_different_submodels_have_different_rows(space, data):
    some = data.draw(st.lists(st.sampled_from(members(space)), min_size=1, max_size=8, unique=True))
    rows = one_hot(space, some)
    assert rows.shape == (len(some), len(space.embeds) + space.depth * (len(space.heads) + len(space.mlps)))
    assert len({tuple(row.tolist()) for row in rows}) == len(some)
    kept = [1 + sum(map(bool, (*s.heads, *s.mlp))) for s in some]
    assert rows.sum(1).tolist() == kept


def test_it_learns_what_the_widths_tell_and_says_how_well():
    pairs = measured(160)
    predict = Predictor.fit(SMALL, pairs[:128], seed=0)
    found = rank_agreement(SMALL, predict, pairs[128:])
    assert found["held_out"] == 32
    assert found["spearman"] > 0.9 > found["spearman_of_macs"]
    error = np.array(predict([s for s, _ in pairs[128:]])) - [value for _, value in pairs[128:]]
    assert np.abs(error).mean() < 0.35 * np.std([value for _, value in pairs])


def test_shuffled_answers_teach_nothing():
    pairs = measured(120)
    values = np.random.default_rng(1).permutation([value for _, value in pairs])
    predict = Predictor.fit(SMALL, list(zip([s for s, _ in pairs[:90]], values[:90], strict=True)), seed=0)
    assert abs(rank_agreement(SMALL, predict, pairs[90:])["spearman"]) < 0.5


@given(seeds)
@settings(max_examples=10)
def test_equal_seeds_give_equal_bits_whatever_the_global_state(seed):
    pairs = measured(12)
    asked = [s for s, _ in measured(5, 1)]
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = Predictor.fit(SMALL, pairs, seed, epochs=3)(asked)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert Predictor.fit(SMALL, pairs, seed, epochs=3)(asked) == first
    assert Predictor.fit(SMALL, pairs, seed + 1, epochs=3)(asked) != first


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_held_out_have_no_rank(count):
    predict = Predictor.fit(SMALL, measured(4), seed=0, epochs=1)
    found = rank_agreement(SMALL, predict, measured(count, 2))
    assert found == {"held_out": count} | dict.fromkeys(("spearman", "kendall", "spearman_of_macs", "kendall_of_macs"))


def test_equal_answers_are_predicted_as_such():
    pairs = [(s, 0.5) for s, _ in measured(20)]
    predict = Predictor.fit(SMALL, pairs, seed=0, epochs=50)
    assert predict([s for s, _ in pairs]) == pytest.approx([0.5] * 20, abs=0.01)
    assert rank_agreement(SMALL, predict, pairs)["spearman"] is None
