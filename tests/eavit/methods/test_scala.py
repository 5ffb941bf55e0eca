"""Scala: ratios of a step, who teaches whom, isolated tails; and the two errors of its source that ours lacks."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.nn import functional as F

from eavit.methods.scala import CARD, FourSizes, TwoEnded, scala
from eavit.methods.sizes import tied
from eavit.model import cost
from eavit.model.objective import distillation
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT, extract
from eavit.selection.selectors import SELECTORS
from eavit.space.sizes import ListSpace
from eavit.training.distributed import Share
from eavit.training.passes import Step, cost_of_steps, terms_of
from eavit.training.plans import next_larger
from eavit.training.train import accuracy
from eavit.weights import pico
from tests.eavit.laws import BACKBONE, SHORT, ends_on_its_macs, obeys, task_in
from tests.eavit.small import Blobs, TinyTask, plain, tiny

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
PICO = NestedViT.from_timm(pico(10)).backbone
STEP = Step(3, 10, 7, Share(0, 12, 12))
LADDER = tied(BACKBONE)
QUARTER = LADDER.smallest  # 1 of 4 heads


def plan_of(backbone, **options):
    return next_larger(FourSizes(tied(backbone)), **options)


def passes_of(backbone, seed=0, **options):
    return plan_of(backbone, **options)(0.5, np.random.default_rng([seed, 1]))


def widths(passes):
    return [p.submodel.heads[0] for p in passes]


@pytest.mark.parametrize("options", [{}, {"warm": 0.25, "importance": "none"}, {"isolated": True}])
def test_choices_of_scala_fit_their_budgets(options, tmp_path):
    adapted = obeys(scala(**options), tmp_path)
    assert adapted.report()["evaluations"] == 0
    assert all(adapted.select(b) in LADDER.members for b in (0.4, 0.7, 1.0))


@pytest.mark.parametrize("isolated", [False, True])
def test_scala_spends_equal_macs(isolated, tmp_path):
    ends_on_its_macs(scala(isolated), tmp_path)


def test_largest_mid_small_smallest_each_taught_by_the_next_larger():
    mids, smalls = Counter(), Counter()
    for seed in range(1000):
        passes = passes_of(VIT_B, seed)
        top, mid, small, low = widths(passes)
        assert (top, low) == (12, 3) and 8 <= mid <= 11 and 4 <= small <= 7
        assert [p.source for p in passes] == [None, 0, 1, 2]
        assert [(p.hard, p.soft) for p in passes] == [(1, 0), (1, 1), (1, 1), (1, 1)]
        mids[mid] += 1
        smalls[small] += 1
    assert all(len(c) == 4 and chisquare(list(c.values())).pvalue > 0.001 for c in (mids, smalls))


def test_small_backbones_train_what_there_is():
    assert widths(passes_of(PICO))[::3] == [6, 2] and widths(passes_of(PICO))[1] in (4, 5)
    assert widths(passes_of(BACKBONE)) == [4, 3, 2, 1]
    for heads, wanted in ((1, [1]), (2, [2, 1]), (3, [3, 2, 1])):
        assert widths(passes_of(Backbone(12 * heads, heads, 12, 24, 2, 5, 3))) == wanted
    one = FourSizes(ListSpace.chain(BACKBONE, [BACKBONE.full]))
    assert next_larger(one)(0.5, np.random.default_rng(0))[0].submodel == BACKBONE.full


def test_the_warm_phase_trains_the_full_model_alone():
    sampler = FourSizes(LADDER, warm=0.1)
    assert sampler(0.05, np.random.default_rng(0)) == (LADDER.largest,)
    assert len(sampler(0.1, np.random.default_rng(0))) == 4


def test_the_cost_of_a_step_of_scala_on_vit_b():
    full = 3 * cost.macs(VIT_B, VIT_B.full)
    assert cost_of_steps(plan_of(VIT_B), VIT_B, 1, 0, 2000) / full / 2000 == pytest.approx(1.95, abs=0.01)


def test_the_losses_and_no_gradient_to_the_teacher_side():
    vit = tiny().double().eval()
    images, labels = next(Blobs(12, 5).batches(12))
    images, logits = images.double(), {}
    passes = plan_of(BACKBONE)(STEP.progress, STEP.rng)
    for place, (p, term) in enumerate(
        zip(passes, terms_of(vit, plan_of(BACKBONE), 0.0)(vit, images, labels, STEP), strict=True)
    ):
        logits[place] = vit(images, p.submodel)
        wanted = F.cross_entropy(logits[place], labels)
        if place:
            wanted = wanted + distillation(logits[place], logits[place - 1])
        assert torch.allclose(term.loss, wanted)
        vit.zero_grad()
        term.loss.backward()
        grad, s = vit.blocks[0].mlp.fc1.weight.grad, p.submodel
        assert grad[: s.mlp[0], : s.embed].any()
        assert not grad[s.mlp[0] :].any() and not grad[:, s.embed :].any()  # beyond it lies its teacher alone


@pytest.mark.parametrize("tail", [False, True])
def test_at_a_quarter_queries_keys_and_values_of_the_kept_heads_are_all_used(tail):
    """The source takes the first rows of the joint matrix: at r = 0.25 queries only."""
    vit = tiny().double().eval()
    model = TwoEnded(vit, (LADDER.smallest, LADDER.largest)).tail if tail else vit
    model(next(Blobs(12, 5).batches(12))[0].double(), QUARTER).square().sum().backward()
    kept = BACKBONE.head_dim * QUARTER.heads[0]
    for block in model.blocks:
        for grad in (block.attn.qkv.weight.grad, block.attn.qkv.bias.grad[:, None]):
            queries, keys, values = grad.unflatten(0, (3, -1))
            assert queries[:kept].any() and values[:kept].any()
            assert not any(part[kept:].any() for part in (queries, keys, values))
        assert block.attn.qkv.weight.grad.unflatten(0, (3, -1))[1, :kept].any()  # a key's bias has no effect


@pytest.mark.parametrize("size", [LADDER.smallest, LADDER.members[1], LADDER.largest])
def test_layer_scale_acts_and_is_trained(size):
    """The source discards the product of LayerScale, and detaches its factors."""
    vit = NestedViT.from_timm(plain(init_values=0.5)).double().eval()
    images = next(Blobs(12, 5).batches(12))[0].double()
    before = vit(images, size)
    before.square().sum().backward()
    for block in vit.blocks:
        for scale in (block.ls1, block.ls2):
            assert scale.gamma.grad[: size.embed].any() and not scale.gamma.grad[size.embed :].any()
    with torch.no_grad():
        for block in vit.blocks:
            block.ls1.gamma.mul_(2)
        assert not torch.allclose(vit(images, size), before)


def test_with_layer_scale_it_trains_from_start_to_end(tmp_path):
    class Scaled(TinyTask):
        def backbone(self):
            return plain(init_values=0.5)

    task = Scaled(tmp_path, schedule=SHORT)
    before = NestedViT.from_timm(task.backbone())
    vit = scala(importance="none").adapt(task).vit
    assert all(not a.ls1.gamma.equal(b.ls1.gamma) for a, b in zip(vit.blocks, before.blocks, strict=True))


def test_isolated_middle_sizes_are_tails_in_training_and_when_used(tmp_path):
    passes = passes_of(BACKBONE, isolated=True)
    assert [p.tail for p in passes] == [False, True, True, False]
    adapted = scala(isolated=True).adapt(task_in(tmp_path / "isolated"))
    prefixes = scala(isolated=False).adapt(task_in(tmp_path / "prefixes"))
    assert adapted.report()["weights"] != prefixes.report()["weights"]
    images = next(Blobs(12, 5).batches(12))[0]
    trained, middle = adapted.vit.head, LADDER.members[2]
    with torch.no_grad():
        assert torch.allclose(adapted.module(middle)(images), by_hand(trained, middle)(images), atol=1e-5)
        assert not torch.allclose(adapted.module(middle)(images), extract(trained, middle)(images), atol=1e-3)
        for end in (LADDER.smallest, LADDER.largest):
            assert torch.allclose(adapted.module(end)(images), extract(trained, end)(images), atol=1e-6)


def by_hand(vit, size):
    """A timm model whose weights are cut from the ends of all tensors."""
    cut = extract(vit, size).eval()
    kept, hidden = BACKBONE.head_dim * size.heads[0], size.mlp[0]
    whole, e = vit.state_dict(), size.embed

    def last(key, value):
        if "attn.qkv" in key:
            value = value.unflatten(0, (3, -1))[:, -kept:].flatten(0, 1)
            return value[:, -e:] if value.ndim == 2 else value
        rows = {"attn.proj": e, "mlp.fc1": hidden, "mlp.fc2": e}
        columns = {"attn.proj": kept, "mlp.fc1": e, "mlp.fc2": hidden, "head": e}
        part = next((name for name in columns if name in key), None)
        if part is not None:
            value = value[-rows[part] :] if part in rows else value
            return value[:, -columns[part] :] if value.ndim == 2 else value
        return value[..., -e:] if key in ("cls_token", "pos_embed") else value[-e:]

    cut.load_state_dict({key: last(key, value) for key, value in whole.items()}, strict=True)
    return cut


@pytest.mark.parametrize("select", [s for s in SELECTORS if s != "greedy"])
def test_isolated_sizes_are_selected_by_what_they_are(select, tmp_path):
    task = task_in(tmp_path)
    adapted = scala(isolated=True, select=select, evaluations=12).adapt(task)
    chosen = [adapted.select(b) for b in (0.4, 0.7, 1.0)]
    assert all(s in LADDER.members for s in chosen) and adapted.report()["evaluations"] <= 12
    if select == "random":
        best = max(s for s in (accuracy(adapted.vit, s, task.select_a) for s in LADDER.members))
        assert accuracy(adapted.vit, chosen[-1], task.select_a) == best


def test_wrong_options_of_scala_are_named():
    for options, match in (
        ({"isolated": True, "nesting": "nested"}, "nesting='nested'.*two ends"),
        ({"isolated": True, "select": "greedy"}, "select='greedy'"),
        ({"warm": 1.0}, r"warm=1\.0"),
        ({"soft": 0.0}, r"soft=0\.0"),
        ({"hard": -1.0}, r"hard=-1\.0"),
        ({"importance": "tailor"}, "importance='tailor'.*nearest: taylor"),
    ):
        with pytest.raises(ValueError, match=match):
            scala(**options)


def test_the_card_of_scala():
    assert scala().card["title"] == "Scala"
    assert {who for _, who in CARD.parameters.values()} <= {"paper", "code", "ours"}
