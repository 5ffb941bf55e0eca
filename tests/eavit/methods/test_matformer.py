"""MatFormer: its four granularities, its two ways to train them, Mix'n'Match."""

from itertools import combinations_with_replacement
from math import nextafter

import numpy as np
import pytest

from eavit.methods.matformer import CARD, SAMPLERS, granularities_of, matformer
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.selection.selectors import SELECTORS, Problem, mix_n_match
from eavit.selection.shapes import mixes
from eavit.space.product import ProductSpace
from eavit.training.passes import cost_of_steps, plain
from eavit.training.samplers import chain
from eavit.weights import pico
from tests.eavit.laws import BACKBONE, ends_on_its_macs, obeys, task_in

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
PICO = NestedViT.from_timm(pico(10)).backbone


def space_of(backbone):
    return ProductSpace.of_widths(backbone, granularities_of(backbone))


def plan_of(backbone, granularities):
    space = space_of(backbone)
    return plain(SAMPLERS[granularities](space, chain(space, space.mlps)))


def policy_of(backbone):
    problem = Problem(space_of(backbone), lambda s: 0.0, lambda s: 0.0, (1.0,), 0)
    return mix_n_match(mixes)(problem).policy


@pytest.mark.parametrize("granularities", ["all", "one"])
def test_choices_of_matformer_fit_their_budgets(granularities, tmp_path):
    adapted = obeys(matformer(granularities), tmp_path)
    assert adapted.select(0.4) is None and adapted.report()["evaluations"] == 0


@pytest.mark.parametrize("granularities", ["all", "one"])
def test_matformer_spends_equal_macs(granularities, tmp_path):
    ends_on_its_macs(matformer(granularities), tmp_path)


def test_widths_at_all_sizes():
    assert granularities_of(VIT_B) == (384, 768, 1536, 3072)
    assert granularities_of(PICO) == (48, 96, 192, 384)
    assert granularities_of(BACKBONE) == (3, 6, 12, 24)
    assert granularities_of(Backbone(4, 2, 2, 5, 2, 5, 3)) == (1, 2, 5)  # never 0, none twice


def test_all_train_every_granularity_and_one_trains_one():
    drawn = {name: plan_of(BACKBONE, name)(0.5, np.random.default_rng(0)) for name in SAMPLERS}
    assert sorted(p.submodel.mlp[0] for p in drawn["all"]) == [3, 6, 12, 24] and len(drawn["one"]) == 1
    assert all(p.hard == 1 and p.soft == 0 and p.source is None for p in drawn["all"])


def test_the_cost_of_a_step_of_matformer_on_vit_b():
    full = 3 * cost.macs(VIT_B, VIT_B.full)
    assert cost_of_steps(plan_of(VIT_B, "all"), VIT_B, 1, 0, 10) / full / 10 == pytest.approx(2.65, abs=0.01)
    assert cost_of_steps(plan_of(VIT_B, "one"), VIT_B, 1, 0, 4000) / full / 4000 == pytest.approx(0.66, abs=0.01)
    floor = cost.macs(VIT_B, space_of(VIT_B).smallest)
    assert floor / 1e9 == pytest.approx(7.80, abs=0.01)


@pytest.mark.parametrize("backbone", [BACKBONE, PICO])
def test_mix_n_match_is_the_nearest_at_most_and_the_most_uniform(backbone):
    """Against all non-decreasing mixes, by brute force, at budgets on and beside every MACs value."""
    space, choose = space_of(backbone), policy_of(backbone)
    full = space.largest
    every = [Submodel(full.embed, full.heads, m) for m in combinations_with_replacement(space.mlps, space.depth)]
    shares = sorted({cost.share(backbone, s) for s in every})
    for share in shares[:: max(1, len(shares) // 12)]:
        for budget in (share, nextafter(share, 2), nextafter(share, 0)):
            fits = [s for s in every if cost.share(backbone, s) <= budget]
            choice = choose(budget)
            if not fits:
                assert choice is None
                continue
            best = max(cost.macs(backbone, s) for s in fits)
            ties = [s for s in fits if cost.macs(backbone, s) == best]

            def spread(s):
                sizes = [space.mlps.index(m) for m in s.mlp]
                return max(sizes) - min(sizes), round(float(np.var(sizes)), 9)

            assert choice in ties and spread(choice) == min(map(spread, ties))


@pytest.mark.parametrize("select", SELECTORS)
def test_any_selector_chooses_from_its_own_space(select, tmp_path):
    task = task_in(tmp_path, budgets=(0.4, 0.8, 1.0))
    adapted = matformer(select=select, evaluations=12).adapt(task)
    space = space_of(BACKBONE)
    assert adapted.select(0.4) is None
    assert all(space.contains(adapted.select(b)) for b in (0.8, 1.0))
    assert adapted.report()["evaluations"] <= 12


def test_nested_choices(tmp_path):
    task = task_in(tmp_path, budgets=(0.75, 0.85, 1.0))
    adapted = matformer(nesting="nested").adapt(task)
    small, middle, large = map(adapted.select, task.budgets)
    assert small <= middle <= large


def test_wrong_options_of_matformer_are_named():
    for options, match in (
        ({"granularities": "al"}, "granularities='al'.*all, one; nearest: all"),
        ({"importance": "tailor"}, "importance='tailor'.*nearest: taylor"),
        ({"select": "nsga"}, "select='nsga'.*native.*nearest: nsga2"),
        ({"nesting": "nest"}, "nesting='nest'.*free, nested"),
        ({"select": "evolution", "evaluations": 0}, "evaluations=0"),
    ):
        with pytest.raises(ValueError, match=match):
            matformer(**options)


def test_the_card_of_matformer():
    assert matformer().card["title"] == "MatFormer" == CARD.title
    assert CARD.parameters["hidden widths of ViT-B"][0] == granularities_of(VIT_B)
    assert {who for _, who in CARD.parameters.values()} <= {"paper", "code", "ours"}
