"""AutoFormer: its space of first layers, its draws, biases that follow their heads, its search."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
import torch

from eavit.methods import families
from eavit.methods.autoformer import autoformer, autoformer_space
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import extract
from eavit.space.stacks import StackSpace
from eavit.training.passes import draws_of
from eavit.training.samplers import Random, per_layer
from tests.eavit.small import SCHEDULE, TinyTask, tiny

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
SPACE = autoformer_space(BACKBONE)
TWO = StackSpace(Backbone(12, 4, 3, 24, 4, 5, 3, 4, 1, 5), (6, 12), (2, 4), (6, 24), (2, 2), (1, 1))
SHORT = SCHEDULE | {"epochs": 2.0}


@dataclass
class Short(TinyTask):
    schedule: Mapping[str, Any] = field(default_factory=lambda: SHORT)
    budgets: tuple[float, ...] = (0.05, 0.5, 1.0)


def test_the_space_of_vit_b_and_of_six_heads():
    space = autoformer_space(Backbone(768, 12, 64, 3072, 12, 197, 100))
    assert space.embeds == tuple(64 * k for k in range(6, 13)) and space.heads == tuple(range(6, 13))
    assert space.mlps == (768, 1536, 2304, 3072) and space.least == (8,)
    assert cost.macs(space.backbone, space.smallest) / 1e9 == pytest.approx(2.2, abs=0.05)
    pico = autoformer_space(Backbone(96, 6, 16, 384, 6, 10, 10))
    assert (pico.embeds, pico.heads, pico.least) == ((48, 64, 80, 96), (3, 4, 5, 6), (4,))


def test_draws_are_uniform_one_a_step_and_keep_the_first_layers():
    sampler = Random(TWO, per_layer)
    drawn = [sampler(0.0, draws_of(0, i)) for i in range(1200)]
    assert all(len(step) == 1 and TWO.contains(step[0]) for step in drawn)
    depths = Counter(TWO.counts(s) for (s,) in drawn)
    assert set(depths) == {(1, 1), (1, 2), (2, 1), (2, 2)} and min(depths.values()) > 0.8 * 300
    heads = Counter(s.heads[0] for (s,) in drawn)
    assert abs(heads[2] - heads[4]) < 150
    assert {(s.heads[0], s.heads[2]) for (s,) in drawn} == set(product((2, 4), repeat=2))  # each layer on its own


def test_biases_follow_their_heads():
    """The source slices q, k and v rows interleaved, and their biases as a prefix: of the first rows' queries alone."""
    vit = tiny()
    with torch.no_grad():
        for i, block in enumerate(vit.blocks):
            block.attn.qkv.bias.copy_(torch.arange(36) + 100.0 * i)
    submodel = SPACE.require(Submodel.parse("e9-h2.3.0-m12.24.0"))
    plain = extract(vit, submodel)
    for layer, heads in enumerate((2, 3)):
        rows = [part * 12 + head * 3 + i for part in range(3) for head in range(heads) for i in range(3)]
        full = vit.blocks[layer].attn.qkv
        assert torch.equal(plain.blocks[layer].attn.qkv.bias, full.bias[rows])
        assert torch.equal(plain.blocks[layer].attn.qkv.weight, full.weight[rows, :9])
    vit(torch.randn(3, 1, 4, 4), submodel).square().sum().backward()
    trained = vit.blocks[0].attn.qkv.bias.grad.view(3, 4, 3)
    assert (trained[:, 2:] == 0).all() and (trained[0, :2] != 0).any() and (trained[2, :2] != 0).any()


@pytest.mark.parametrize("options", [{}, {"select": "nsga2"}, {"nesting": "nested"}])
def test_choices_are_trained_members_within_the_limit_of_evaluations(options, tmp_path):
    run = Short(tmp_path, budgets=(0.05, 0.4, 0.7, 1.0))
    adapted = autoformer(evaluations=16, **options).adapt(run)
    assert adapted.select(0.05) is None
    for budget in run.budgets[1:]:
        choice = adapted.select(budget)
        assert SPACE.contains(choice) and cost.share(BACKBONE, choice) <= budget
    assert options.get("nesting") or adapted.report()["evaluations"] <= 16


@pytest.mark.parametrize("options", [{}, {"distill": True}])
def test_autoformer_spends_equal_macs_to_five_per_cent(options, tmp_path):
    macs = 2500.0 * FULL
    run = Short(tmp_path, train_macs=macs)
    autoformer(evaluations=8, **options).adapt(run)
    assert 0.95 * macs < run.ledger.forward_macs + run.ledger.backward_macs <= 1.05 * macs


def test_a_teacher_is_trained_charged_and_left_alone(tmp_path, watch_fits):
    seen = watch_fits(families)
    run = Short(tmp_path)
    told = autoformer(distill=True, select="mix_n_match").adapt(run).report()
    first, second = seen
    assert (first.run.phase, second.run.phase, first.teacher) == ("teacher", "train", None)
    assert second.teacher is first.vit and second.vit is not first.vit
    assert second.before[1] == second.after[1] and not any(p.requires_grad for p in second.teacher.parameters())
    assert [p.submodel for p in first.plan(0.5, draws_of(0, 0))] == [BACKBONE.full]
    assert [(p.hard, p.soft, p.source) for p in second.plan(0.5, draws_of(0, 0))] == [(0.5, 0.5, "teacher")]
    assert told["steps"] == {"teacher": 3, "train": 9} and run.ledger.steps == 12


def test_wrong_options_of_autoformer_are_named():
    for options, words in [
        ({"distill": 1}, "option distill=1"),
        ({"evaluations": 0, "select": "random"}, "option evaluations=0"),
        ({"select": "evolutoin"}, "nearest: evolution"),
        ({"importance": "tailor"}, "nearest: taylor"),
    ]:
        with pytest.raises(ValueError, match=words):
            autoformer(**options)
