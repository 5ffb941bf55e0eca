"""HydraViT: one k for everything; and ladders, spaces that are lists of nested sizes."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chisquare

from eavit import cost
from eavit.methods.hydravit import CARD, hydravit
from eavit.methods.ladder import Ladder, choosing_rung, rungs_of, tied
from eavit.prepare import prepare
from eavit.samplers import OneOf
from eavit.selectors import SELECTORS, Problem
from eavit.space import Space
from eavit.steps import cost_of_steps, plain
from eavit.submodel import Backbone, Submodel
from eavit.vit import NestedViT
from eavit.weights import pico
from tests.eavit.laws import BACKBONE, ends_on_its_macs, obeys, task_in

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
PICO = NestedViT.from_timm(pico(10)).backbone
LADDER = tied(BACKBONE)


@pytest.mark.parametrize("importance", ["taylor", "none"])
def test_the_law(importance, tmp_path):
    adapted = obeys(hydravit(importance), tmp_path)
    assert adapted.report()["evaluations"] == 0


def test_equal_macs(tmp_path):
    ends_on_its_macs(hydravit(), tmp_path)


def test_sizes_at_all_scales():
    assert [(s.embed, s.heads[0], s.mlp[0]) for s in tied(VIT_B).rungs] == [(64 * k, k, 256 * k) for k in range(3, 13)]
    assert [(s.embed, s.heads[0], s.mlp[0]) for s in tied(PICO).rungs] == [(16 * k, k, 64 * k) for k in range(2, 7)]
    assert [s.heads[0] for s in LADDER.rungs] == [1, 2, 3, 4]
    assert str(tied(Backbone(3, 1, 3, 2, 1, 5, 3)).smallest) == "e3-h1-m2"


@pytest.mark.parametrize("backbone", [VIT_B, PICO, BACKBONE])
def test_it_chooses_the_largest_k_that_fits(backbone):
    rungs = tied(backbone).rungs
    shares = [cost.share(backbone, s) for s in rungs]
    choose = hydra_policy(backbone)
    for rung, share in zip(rungs, shares, strict=True):
        assert choose(share) == rung and choose(share * 1.0001) == rung
    assert choose(shares[0] * 0.999) is None and choose(1.0) == backbone.full


def hydra_policy(backbone):
    problem = Problem(tied(backbone), lambda s: 0.0, lambda s: 0.0, (1.0,), 0)
    return choosing_rung("native", "free", 1).selector(problem).policy


def test_one_uniform_k_a_step():
    plan, counts = plain(OneOf(LADDER, LADDER.rungs)), Counter()
    for step in range(2000):
        (only,) = plan(step / 2000, np.random.default_rng([3, step]))
        counts[only.submodel] += 1
    assert set(counts) == set(LADDER.rungs) and chisquare(list(counts.values())).pvalue > 0.001


def test_the_cost_of_a_step_on_vit_b():
    full = 3 * cost.macs(VIT_B, VIT_B.full)
    space = tied(VIT_B)
    assert cost_of_steps(plain(OneOf(space, space.rungs)), VIT_B, 1, 0, 4000) / full / 4000 == pytest.approx(
        0.46, abs=0.01
    )
    assert cost.macs(VIT_B, space.smallest) / 1e9 == pytest.approx(1.25, abs=0.01)


def test_without_importance_the_pretrained_order_stays(tmp_path):
    task = task_in(tmp_path)
    base = NestedViT.from_timm(task.backbone())
    assert prepare(task, "none").pos_embed.equal(base.pos_embed)
    assert not prepare(task, "taylor").pos_embed.equal(base.pos_embed)
    reports = [hydravit(i).adapt(task_in(tmp_path / i)).report() for i in ("taylor", "none")]
    assert reports[0]["weights"] != reports[1]["weights"]
    assert any("importance='none'" in line for line in CARD.ours)


@pytest.mark.parametrize("select", SELECTORS)
def test_any_selector_chooses_a_size_of_the_list(select, tmp_path):
    adapted = hydravit(select=select, evaluations=12).adapt(task_in(tmp_path))
    chosen = [adapted.select(b) for b in (0.05, 0.4, 0.7, 1.0)]
    assert chosen[0] is None and all(s in LADDER.rungs for s in chosen[1:])
    assert adapted.report()["evaluations"] <= 12


@pytest.mark.parametrize("select", ["greedy", "nsga2"])
def test_equal_macs_with_a_common_selector(select, tmp_path):
    ends_on_its_macs(hydravit(select=select, evaluations=12, nesting="nested"), tmp_path)


def test_a_ladder_is_a_space_of_its_rungs():
    space, rng = LADDER, np.random.default_rng(0)
    assert (space.smallest, space.largest, space.count, space.distinct) == (*space.rungs[:: len(space.rungs) - 1], 4, 4)
    assert rungs_of(space) == space.rungs
    for place, rung in enumerate(space.rungs):
        assert space.from_genes(space.genes(rung)) == rung == space.require(rung)
        assert list(space.narrower(rung)) == list(space.rungs[max(0, place - 1) : place])
        assert list(space.wider(rung)) == list(space.rungs[place + 1 : place + 2])
        assert space.near(cost.macs(BACKBONE, rung), space.noise(rng)) == rung
    assert {space.sample(rng) for _ in range(100)} == set(space.rungs)
    small, large = space.rungs[0], space.rungs[-1]
    mixed = replace(small, embed=large.embed)
    assert Space.contains(space, mixed) and not space.contains(mixed)
    for one, next_one in pairwise(range(7)):
        assert set(space.restrict(one).rungs) <= set(space.restrict(next_one).rungs)
        assert set(space.begin(one).rungs) <= set(space.begin(next_one).rungs)
    assert space.restrict(0).rungs == (large,) and space.begin(0).rungs == (small,) and space.begin(6) == space


def test_what_is_no_ladder_is_refused():
    small, large = LADDER.rungs[0], LADDER.rungs[-1]
    for rungs, match in (
        ([], "no size at all"),
        ([large, small], "not strictly inside"),
        ([small, small], "not strictly inside"),
        ([Submodel(6, (1,), (6,))], "1 layers, the backbone has 3"),
        ([replace(large, embed=99)], "not nested in the backbone"),
    ):
        with pytest.raises(ValueError, match=match):
            Ladder.of(BACKBONE, rungs)
    for stage in (-1, 7):
        with pytest.raises(ValueError, match="stage"):
            LADDER.restrict(stage)
    for code in ([4], [-1], [0, 0]):
        with pytest.raises(ValueError, match="do not fit this ladder"):
            LADDER.from_genes(code)
    with pytest.raises(ValueError, match="not in the space"):
        LADDER.genes(replace(small, embed=12))
    with pytest.raises(TypeError, match="not a list of sizes"):
        rungs_of(Space.eavit(BACKBONE))


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="importance='tailor'.*nearest: taylor"):
        hydravit("tailor")
    with pytest.raises(ValueError, match="select='largest'"):
        hydravit(select="largest")


def test_its_card():
    assert hydravit().card["code"] == "ds-kiel/HydraViT"
    assert {who for _, who in CARD.parameters.values()} <= {"paper", "code", "ours"}
