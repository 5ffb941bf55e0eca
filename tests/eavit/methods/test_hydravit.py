"""HydraViT: one k for everything."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from eavit.methods.hydravit import CARD, hydravit
from eavit.methods.sizes import choosing_size, tied
from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT
from eavit.selection.selectors import SELECTORS, Problem
from eavit.training.passes import cost_of_steps, plain
from eavit.training.prepare import prepare, start
from eavit.training.samplers import OneOf
from eavit.weights import pico
from tests.eavit.laws import BACKBONE, ends_on_its_macs, obeys, task_in

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
PICO = NestedViT.from_timm(pico(10)).backbone
LADDER = tied(BACKBONE)


@pytest.mark.parametrize("importance", ["taylor", "none"])
def test_choices_of_hydravit_fit_their_budgets(importance, tmp_path):
    adapted = obeys(hydravit(importance), tmp_path)
    assert adapted.report()["evaluations"] == 0


def test_hydravit_spends_equal_macs(tmp_path):
    ends_on_its_macs(hydravit(), tmp_path)


def test_sizes_at_all_scales():
    assert [(s.embed, s.heads[0], s.mlp[0]) for s in tied(VIT_B).members] == [
        (64 * k, k, 256 * k) for k in range(3, 13)
    ]
    assert [(s.embed, s.heads[0], s.mlp[0]) for s in tied(PICO).members] == [(16 * k, k, 64 * k) for k in range(2, 7)]
    assert [s.heads[0] for s in LADDER.members] == [1, 2, 3, 4]
    assert str(tied(Backbone(3, 1, 3, 2, 1, 5, 3)).smallest) == "e3-h1-m2"


@pytest.mark.parametrize("backbone", [VIT_B, PICO, BACKBONE])
def test_it_chooses_the_largest_k_that_fits(backbone):
    sizes = tied(backbone).members
    shares = [cost.share(backbone, s) for s in sizes]
    choose = hydra_policy(backbone)
    for size, share in zip(sizes, shares, strict=True):
        assert choose(share) == size and choose(share * 1.0001) == size
    assert choose(shares[0] * 0.999) is None and choose(1.0) == backbone.full


def hydra_policy(backbone):
    problem = Problem(tied(backbone), lambda s: 0.0, lambda s: 0.0, (1.0,), 0)
    return choosing_size("native", "free", 1).selector(problem).policy


def test_one_uniform_k_a_step():
    plan, counts = plain(OneOf(LADDER, LADDER.members)), Counter()
    for step in range(2000):
        (only,) = plan(step / 2000, np.random.default_rng([3, step]))
        counts[only.submodel] += 1
    assert set(counts) == set(LADDER.members) and chisquare(list(counts.values())).pvalue > 0.001


def test_the_cost_of_a_step_of_hydravit_on_vit_b():
    full = 3 * cost.macs(VIT_B, VIT_B.full)
    space = tied(VIT_B)
    assert cost_of_steps(plain(OneOf(space, space.members)), VIT_B, 1, 0, 4000) / full / 4000 == pytest.approx(
        0.46, abs=0.01
    )
    assert cost.macs(VIT_B, space.smallest) / 1e9 == pytest.approx(1.25, abs=0.01)


def test_without_importance_the_pretrained_order_stays(tmp_path):
    task = task_in(tmp_path)
    base = NestedViT.from_timm(task.backbone())
    assert prepare(task, start(task), "none").pos_embed.equal(base.pos_embed)
    assert not prepare(task, start(task), "taylor").pos_embed.equal(base.pos_embed)
    reports = [hydravit(i).adapt(task_in(tmp_path / i)).report() for i in ("taylor", "none")]
    assert reports[0]["weights"] != reports[1]["weights"]
    assert any("importance='none'" in line for line in CARD.ours)


@pytest.mark.parametrize("select", SELECTORS)
def test_any_selector_chooses_a_size_of_the_list(select, tmp_path):
    adapted = hydravit(select=select, evaluations=12).adapt(task_in(tmp_path))
    chosen = [adapted.select(b) for b in (0.05, 0.4, 0.7, 1.0)]
    assert chosen[0] is None and all(s in LADDER.members for s in chosen[1:])
    assert adapted.report()["evaluations"] <= 12


@pytest.mark.parametrize("select", ["greedy", "nsga2"])
def test_equal_macs_with_a_common_selector(select, tmp_path):
    ends_on_its_macs(hydravit(select=select, evaluations=12, nesting="nested"), tmp_path)


def test_wrong_options_of_hydravit_are_named():
    with pytest.raises(ValueError, match="importance='tailor'.*nearest: taylor"):
        hydravit("tailor")
    with pytest.raises(ValueError, match="select='largest'"):
        hydravit(select="largest")


def test_the_card_of_hydravit():
    assert hydravit().card["code"] == "ds-kiel/HydraViT"
    assert {who for _, who in CARD.parameters.values()} <= {"paper", "code", "ours"}
