"""Models of timm beside ``VisionTransformer``: DINOv3, EVA-02, ViTs with rotary positions, distilled DeiT."""

from __future__ import annotations

import pytest
import timm
import torch
from strategies import assert_same, build, images, randomise
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.optim import create_optimizer_v2
from torch import nn

import eavit
from eavit import Gates, NestedViT, Submodel
from tests.eavit.model.vits import TINY

INNER = Submodel(20, (2, 0, 1), (9, 30, 0))
TAGS = (
    *("vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb", "vit_huge_plus_patch16_dinov3"),
    *("eva02_tiny_patch14_224", "eva02_base_patch14_448", "eva02_base_patch16_clip_224", "eva_giant_patch14_224"),
    *("vit_medium_patch16_rope_reg1_gap_256", "vit_small_patch16_rope_ape_224", "vit_giant_patch14_reg4_dinov2"),
    "deit_tiny_distilled_patch16_224",
)
EVA = {**TINY, "kind": Eva, "use_rot_pos_emb": True, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True}
DEIT = {**TINY, "kind": VisionTransformerDistilled}


def tagged(tag: str) -> nn.Module:
    size = 28 if "patch14" in tag else 32
    return randomise(timm.create_model(tag, img_size=size, depth=3, embed_dim=48, num_heads=3, num_classes=5).double())


@pytest.mark.parametrize("tag", TAGS)
def test_the_laws_hold_for_the_tags_of_the_field(tag):
    plain = tagged(tag)
    vit = NestedViT.from_timm(plain)
    x = images(vit)
    ordered = eavit.sort_by_importance(vit, [(x, torch.tensor([0, 1]))])
    with torch.no_grad():
        assert_same(vit(x), plain(x), 1e-12)
        assert_same(ordered(x), plain(x), 1e-12)
        for one in (vit, ordered):
            assert_same(one(x, INNER), eavit.extract(one, INNER)(x), 1e-12)
            assert_same(one(x, Gates.of(INNER, one.backbone, like=x)), one(x, INNER), 1e-12)
        assert not torch.allclose(ordered(x, INNER), vit(x, INNER))
    assert eavit.params(vit.backbone, INNER) == sum(p.numel() for p in eavit.extract(vit, INNER).parameters())


@pytest.mark.parametrize("recipe", [EVA, DEIT], ids=["eva", "distilled"])
@pytest.mark.parametrize("submodel", [None, Submodel(8, (2, 0, 1), (9, 20, 0))], ids=str)
def test_dropout_and_gradient_checkpointing_are_timms_in_training(recipe, submodel):
    rates = {"drop_rate": 0.3, "pos_drop_rate": 0.2, "attn_drop_rate": 0.2, "proj_drop_rate": 0.3}
    plain = build({**recipe, **rates})
    vit = NestedViT.from_timm(plain)
    x, model = images(vit, batch=4), plain if submodel is None else eavit.extract(vit, submodel)
    outputs = []
    for one in (lambda: vit.train()(x, submodel), lambda: model.train()(x), lambda: vit.train()(x, submodel)):
        torch.manual_seed(3)
        outputs.append(one())
        vit.set_grad_checkpointing()
    assert_same(outputs[0], outputs[1], 1e-12)
    assert_same(outputs[2], outputs[1], 1e-12)
    assert not torch.allclose(outputs[0], vit.eval()(x, submodel))


@pytest.mark.parametrize("recipe", [EVA, DEIT], ids=["eva", "distilled"])
def test_timms_optimisers_and_features_are_those_of_the_source(recipe):
    plain = build(recipe)
    vit = NestedViT.from_timm(plain)
    groups = [
        [(g["weight_decay"], g["lr_scale"], [p.shape for p in g["params"]]) for g in optimiser.param_groups]
        for optimiser in (
            create_optimizer_v2(m, opt="adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5) for m in (vit, plain)
        )
    ]
    assert groups[0] == groups[1] and vit.no_weight_decay() == plain.no_weight_decay()
    x = images(vit)
    assert_same(vit.forward_features(x), plain.forward_features(x), 1e-12)
    assert_same(vit.forward_head(vit.forward_features(x)), plain(x), 1e-12)
    vit.reset_classifier(7)
    vit.double()
    assert vit.backbone.num_classes == 7 and vit(x, "e8-h2x3-m9x3").shape == (2, 7)
    assert_same(vit(x, "e8-h2x3-m9x3"), eavit.extract(vit, "e8-h2x3-m9x3")(x), 1e-12)


def test_a_distilled_model_gives_both_logits_in_training_that_asks_for_them():
    plain = build(DEIT)
    vit, submodel = NestedViT.from_timm(plain), Submodel(8, (2, 0, 1), (9, 20, 0))
    x = images(vit)
    mean = vit(x, submodel)
    vit.set_distilled_training(True)
    extracted = eavit.extract(vit, submodel).train()
    for one in (vit.train()(x, submodel), extracted(x)):
        assert isinstance(one, tuple) and len(one) == 2
        assert_same((one[0] + one[1]) / 2, mean, 1e-12)
    assert_same(vit.eval()(x, submodel), mean, 1e-12)
    assert (vit.backbone.classifiers, vit.backbone.prefix_tokens) == (2, 2)


def test_rotary_positions_follow_other_image_sizes():
    plain = build({**EVA, "dynamic_img_size": True, "rope_type": "dinov3", "use_abs_pos_emb": False})
    vit = NestedViT.from_timm(plain)
    x, submodel = images(vit, size=(9, 12)), Submodel(8, (2, 0, 1), (9, 20, 0))
    assert_same(vit(x), plain(x), 1e-12)
    assert_same(vit(x, submodel), eavit.extract(vit, submodel)(x), 1e-12)
