"""What a nested ViT refuses, by name and with the reason: models it cannot be made of, and calls that do not fit it."""

from __future__ import annotations

import re
from functools import partial

import pytest
import timm
import torch
from strategies import images
from timm.layers import LayerNorm2d, RmsNorm
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import eavit
from eavit import Gates, NestedViT, Submodel
from eavit.model.vit import CannotNestError, faults_of
from tests.eavit.vits import TINY, tiny

CALLED = tiny(init_values=0.1, qk_norm=True)


def _plain(**changes) -> VisionTransformer:
    return VisionTransformer(**{**TINY, "weight_init": "skip", **changes})


def _changed(path: str, module: nn.Module) -> VisionTransformer:
    model = _plain()
    model.set_submodule(path, module)
    return model


def _named(tag: str, **changes) -> nn.Module:
    return timm.create_model(tag, **{"depth": 2, "img_size": 32, "num_classes": 3, **changes})


REFUSED = {
    "swiglu": (
        lambda: _named("vit_giant_patch14_reg4_dinov2", embed_dim=48, num_heads=2, img_size=28),
        ["blocks.0.mlp", "SwiGLU"],
    ),
    "rotary": (lambda: _named("eva02_tiny_patch14_224", img_size=28), ["Eva is not timm's VisionTransformer"]),
    "windows": (lambda: timm.create_model("test_vit_relpos", num_classes=3), ["VisionTransformerRelPos is not timm's"]),
    "swin": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1), num_heads=(1, 2), embed_dim=8),
        ["SwinTransformer is not timm's VisionTransformer"],
    ),
    "parallel": (
        lambda: _named("vit_small_patch16_18x2_224", embed_dim=48, num_heads=2),
        ["blocks.0: ParallelThingsBlock"],
    ),
    "post_norm": (lambda: _named("vit_base_patch16_rpn_224", embed_dim=48, num_heads=2), ["blocks.0: ResPostBlock"]),
    "fused_parallel": (lambda: _named("vit_pwee_patch16_reg1_gap_256"), ["blocks.0: ParallelScalingBlock"]),
    "differential": (lambda: _named("vit_dwee_patch16_reg1_gap_256"), ["blocks.0.attn: DiffAttention"]),
    "attention_pool": (
        lambda: _named("vit_base_patch16_siglip_224", embed_dim=48, num_heads=2),
        ["global_pool: 'map'", "avgmax"],
    ),
    "no_pool": (lambda: _plain(global_pool=""), ["global_pool: ''", "token, avg, max, avgmax"]),
    "rms_norm": (
        lambda: _plain(norm_layer=RmsNorm),
        ["blocks.0.norm1: RmsNorm is not a plain LayerNorm", "norm: RmsNorm"],
    ),
    "hybrid": (lambda: _named("vit_tiny_r_s16_p8_224"), ["patch_embed", "hybrid"]),
    "stem_norm": (lambda: _plain(embed_norm_layer=nn.LayerNorm), ["patch_embed", "normed stem"]),
    "distilled": (lambda: _named("deit_tiny_distilled_patch16_224"), ["VisionTransformerDistilled is not timm's"]),
    "head_dropout": (lambda: _plain(drop_rate=0.1), ["head_drop: dropout"]),
    "position_dropout": (lambda: _plain(pos_drop_rate=0.1), ["pos_drop: dropout"]),
    "attention_dropout": (lambda: _plain(attn_drop_rate=0.1), ["blocks.0.attn.attn_drop: dropout"]),
    "mlp_dropout": (lambda: _plain(proj_drop_rate=0.1), ["blocks.0.mlp.drop1: dropout"]),
    "patch_dropout": (lambda: _plain(patch_drop_rate=0.5), ["patch_drop: patch dropout", "patch_drop_rate=0"]),
    "mlp_norm": (lambda: _plain(scale_mlp_norm=True), ["blocks.0.mlp: a norm over hidden neurons"]),
    "attention_norm": (lambda: _plain(scale_attn_norm=True), ["blocks.0.attn: a norm or gate", "mixes heads"]),
    "mixed_eps": (lambda: _changed("norm", nn.LayerNorm(12, eps=0.1)), ["norms: their eps"]),
    "norm_without_weights": (
        lambda: _plain(norm_layer=partial(nn.LayerNorm, elementwise_affine=False)),
        ["norms: LayerNorm without"],
    ),
    "norm_without_bias": (lambda: _plain(norm_layer=partial(nn.LayerNorm, bias=False)), ["norms: LayerNorm without"]),
    "norm_over_images": (lambda: _changed("blocks.1.norm2", LayerNorm2d(12)), ["blocks.1.norm2: LayerNorm2d"]),
    "no_block": (lambda: _plain(depth=0), ["blocks: the model has no block"]),
    "uneven": (
        lambda: _changed("blocks.1", _plain(mlp_ratio=2.0).blocks[1]),
        ["blocks.1: its shapes differ from blocks.0"],
    ),
    "one_activation_differs": (lambda: _changed("blocks.1.mlp.act", nn.ReLU()), ["blocks.1"]),
    "another_head_split": (lambda: _changed("blocks.1", _plain(num_heads=6).blocks[1]), ["blocks.1"]),
    "foreign_head": (
        lambda: _changed("head", nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 5))),
        ["head: Sequential"],
    ),
    "head_without_bias": (lambda: _changed("head", nn.Linear(12, 5, bias=False)), ["head"]),
    "not_a_vit": (lambda: nn.Linear(2, 2), ["Linear is not timm's VisionTransformer"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_nested_is_refused_by_name_with_the_reason(name):
    make, says = REFUSED[name]
    with pytest.raises(CannotNestError) as error:
        NestedViT.from_timm(make())
    assert "cannot be nested" in str(error.value)
    for words in says:
        assert words in str(error.value)


def test_all_faults_are_named_at_once():
    faults = faults_of(_plain(drop_rate=0.1, patch_drop_rate=0.1, global_pool="map"))
    assert {fault.partition(":")[0] for fault in faults} >= {"head_drop", "patch_drop", "global_pool"}
    assert faults_of(_plain()) == []


@pytest.mark.parametrize(
    ("foreign", "says"),
    [
        (Submodel(12, (3,) * 4, (48,) * 4), "has 4 layers, the backbone has 3"),
        (Submodel(13, (3,) * 3, (48,) * 3), "is not nested in the backbone e12-h3x3-m48x3"),
        (Submodel(12, (3, 4, 3), (48,) * 3), "is not nested"),
    ],
)
def test_foreign_submodels_are_refused_by_every_door(foreign, says):
    vit = CALLED
    doors = [
        lambda: vit(images(vit), foreign),
        lambda: eavit.extract(vit, foreign),
        lambda: eavit.macs(vit.backbone, foreign),
        lambda: eavit.params(vit.backbone, foreign),
        lambda: Gates.of(foreign, vit.backbone),
    ]
    for door in doors:
        with pytest.raises(ValueError, match=re.escape(says)):
            door()


@pytest.mark.parametrize(
    "shape", [(13, 3, 48, 3), (12, 4, 48, 3), (12, 3, 49, 3), (12, 3, 48, 4), (12, 3, 48, 2), (12, 1, 48, 3)]
)
def test_gates_of_another_backbone_are_refused(shape):
    # A mask of one more layer, or of one head that would broadcast, must not pass for a mask of this backbone.
    embed, heads, hidden, depth = shape
    gates = Gates(torch.ones(embed), torch.ones(depth, heads), torch.ones(depth, hidden))
    with pytest.raises(ValueError, match="gates"):
        CALLED(images(CALLED), Gates(gates.embed.double(), gates.heads.double(), gates.mlp.double()))


@pytest.mark.parametrize("size", [(6, 9), (9, 6), (3, 3), (12, 12)])
def test_a_fixed_size_backbone_refuses_other_image_sizes(size):
    with pytest.raises(ValueError, match=re.escape(f"images are {size}, the backbone takes (6, 6)")):
        CALLED(images(CALLED, size=size))


def test_a_dynamic_backbone_without_padding_refuses_sizes_that_patches_do_not_fill():
    plain = _plain(dynamic_img_size=True)
    vit = NestedViT.from_timm(plain)
    x = torch.zeros(1, 3, 7, 6)
    with pytest.raises(AssertionError):
        plain(x)
    with pytest.raises(ValueError, match="7"):
        vit(x)


def test_wrong_channels_are_refused():
    with pytest.raises((ValueError, RuntimeError), match="channels"):
        CALLED(torch.zeros(1, 1, 6, 6, dtype=torch.float64))
