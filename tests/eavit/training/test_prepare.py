"""The common start of every method: probe and order, and what they cost."""

import pytest
import torch
from strategies import build

from eavit.model.vit import NestedViT
from eavit.training.prepare import preparation_cost, prepare, scored, scoring_cost, start
from tests.eavit.model.test_nested_eva import DEIT, EVA
from tests.eavit.small import Blobs, TinyTask, plain


def prepared(task, importance="taylor"):
    return prepare(task, start(task), importance)


def test_prepare_keeps_the_features_probes_the_head_and_charges_it(tmp_path):
    run = TinyTask(tmp_path)
    vit = prepared(run)
    assert run.ledger.images == len(run.fit) and run.ledger.backward_macs > 0
    x, y = next(Blobs(60, 9).batches(60))
    with torch.no_grad():
        probed = (vit(x).argmax(-1) == y).float().mean()
        base = NestedViT.from_timm(run.backbone())
        plain_accuracy = (base(x).argmax(-1) == y).float().mean()
    assert probed > plain_accuracy
    assert sorted(vit.pos_embed.flatten().tolist()) == pytest.approx(sorted(base.pos_embed.flatten().tolist()))


def test_two_classes_are_probed_too(tmp_path):
    class Two(Blobs):
        def _all(self):
            images, labels = super()._all()
            return images, labels.clamp_max(1)

    run = TinyTask(tmp_path, fit=Two())
    run.backbone = lambda: plain(num_classes=2)
    vit = prepared(run)
    x, y = next(Two(60, 9).batches(60))
    with torch.no_grad():
        assert (vit(x).argmax(-1) == y).float().mean() > 0.8


@pytest.mark.parametrize("recipe", [EVA, DEIT], ids=["eva", "distilled"])
def test_all_heads_of_other_backbones_are_probed(recipe, tmp_path):
    run = TinyTask(tmp_path)
    run.backbone = lambda: build({**recipe, "img_size": 4, "patch_size": 2, "in_chans": 1, "num_classes": 3}).float()
    vit = prepared(run)
    x, y = next(Blobs(60, 9).batches(60))
    with torch.no_grad():
        assert (vit(x).argmax(-1) == y).float().mean() > 0.8
    assert all(torch.equal(getattr(vit, name).weight, vit.head.weight) for name in vit.head_names)


@pytest.mark.parametrize("metric", ["taylor", "activation", "l2", "none"])
def test_costs_are_known_beforehand(metric, tmp_path):
    run = TinyTask(tmp_path)
    vit = prepared(run, metric)
    spent = run.ledger.macs
    assert spent == preparation_cost(run, vit.backbone, metric) > 0
    scored(run, vit, metric, "search")
    assert run.ledger.macs - spent == scoring_cost(run, vit.backbone, metric)
