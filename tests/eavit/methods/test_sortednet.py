"""SortedNet: its chains, one size for each micro-batch, no distillation."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.nn import functional as F

from eavit.methods.sizes import tied
from eavit.methods.sortednet import CARD, CHAINS, sortednet
from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT
from eavit.selection.selectors import SELECTORS
from eavit.training.distributed import Share
from eavit.training.passes import Step, cost_of_steps, terms_of
from eavit.training.plans import micro_batches
from eavit.training.samplers import OneOf
from eavit.weights import pico
from tests.eavit.laws import BACKBONE, ends_on_its_macs, obeys, task_in
from tests.eavit.small import Blobs, tiny

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
PICO = NestedViT.from_timm(pico(10)).backbone
OWN = ["e6-h1x3-m3.0x2", "e6-h2x3-m6x3", "e12-h4x3-m24x3"]


def plan_of(backbone, count, chain="tied"):
    space = CHAINS[chain](backbone)
    return micro_batches(OneOf(space, space.members), count)


@pytest.mark.parametrize("chain", [*CHAINS, OWN])
def test_choices_of_sortednet_fit_their_budgets(chain, tmp_path):
    adapted = obeys(sortednet(chain), tmp_path)
    members = OWN if chain is OWN else [str(s) for s in CHAINS[chain](BACKBONE).members]
    chosen = [adapted.select(b) for b in (0.05, 0.4, 0.7, 1.0)]
    assert str(chosen[-1]) == members[-1] and {str(s) for s in chosen if s is not None} <= set(members)
    assert adapted.report()["evaluations"] == 0
    kept = [s for s in chosen if s is not None]
    assert all(small <= large for small, large in pairwise(kept))


@pytest.mark.parametrize("count", [1, 5])
def test_sortednet_spends_equal_macs(count, tmp_path):
    ends_on_its_macs(sortednet(micro_batches=count), tmp_path)


@pytest.mark.parametrize("backbone", [VIT_B, PICO, BACKBONE, Backbone(4, 1, 4, 3, 1, 5, 3)])
@pytest.mark.parametrize("chain", CHAINS)
def test_chains_nest_and_end_at_the_full_model(chain, backbone):
    sizes = CHAINS[chain](backbone).members
    assert sizes[-1] == backbone.full
    assert all(small <= large and small != large for small, large in pairwise(sizes))


def test_the_depth_chain_keeps_first_layers():
    assert [str(s) for s in CHAINS["depth"](BACKBONE).members][:2] == ["e12-h4.0x2-m24.0x2", "e12-h4x2.0-m24x2.0"]
    assert len(CHAINS["depth"](VIT_B).members) == 10


def test_one_uniform_size_for_each_piece_of_the_batch():
    counts = Counter()
    for step in range(800):
        passes = plan_of(BACKBONE, 4)(0.5, np.random.default_rng([2, step]))
        assert [p.part for p in passes] == [(i, 4) for i in range(4)]
        assert all((p.hard, p.soft, p.source) == (0.25, 0, None) for p in passes)
        counts.update(p.submodel for p in passes)
    assert set(counts) == set(tied(BACKBONE).members) and chisquare(list(counts.values())).pvalue > 0.001


def test_the_gradient_is_the_mean_over_the_pieces():
    vit = tiny().double().eval()
    images, labels = next(Blobs(12, 5).batches(12))
    images, step = images.double(), Step(3, 10, 7, Share(0, 12, 12))
    passes = plan_of(BACKBONE, 3)(step.progress, step.rng)
    total = sum(term.loss for term in terms_of(vit, plan_of(BACKBONE, 3), 0.0)(vit, images, labels, step))
    pieces = zip(passes, images.split(4), labels.split(4), strict=True)
    wanted = [F.cross_entropy(vit(x, p.submodel), y) for p, x, y in pieces]
    assert torch.allclose(total, torch.stack(wanted).mean())


@pytest.mark.parametrize("count", [1, 4])
def test_the_cost_of_a_step_of_sortednet_on_vit_b(count):
    full = 12 * cost.macs(VIT_B, VIT_B.full)
    spent = cost_of_steps(plan_of(VIT_B, count), VIT_B, 4, 0, 3000) / full / 3000
    assert spent == pytest.approx(0.46, abs=0.015)


@pytest.mark.parametrize("select", SELECTORS)
def test_any_selector_chooses_from_the_chain(select, tmp_path):
    adapted = sortednet(OWN, select=select, evaluations=12).adapt(task_in(tmp_path))
    assert all(str(adapted.select(b)) in OWN for b in (0.4, 1.0))
    assert adapted.report()["evaluations"] <= 12


def test_wrong_options_of_sortednet_are_named(tmp_path):
    for options, match in (
        ({"chain": "tide"}, "chain='tide'.*tied, hidden, depth, or a list.*nearest: tied"),
        ({"chain": []}, "at least one"),
        ({"chain": ["e6-h1"]}, "not a submodel"),
        ({"micro_batches": 0}, "micro_batches=0"),
        ({"importance": "tailor"}, "importance='tailor'.*nearest: taylor"),
    ):
        with pytest.raises(ValueError, match=match):
            sortednet(**options)
    with pytest.raises(ValueError, match="not strictly inside"):
        sortednet(OWN[::-1]).adapt(task_in(tmp_path / "order"))
    with pytest.raises(ValueError, match="needs 0 <= i < g <= 16"):
        sortednet(micro_batches=17).adapt(task_in(tmp_path / "pieces"))


def test_the_card_of_sortednet():
    assert sortednet().card["code"] == "none public"
    assert {who for _, who in CARD.parameters.values()} <= {"paper", "code", "ours"}
