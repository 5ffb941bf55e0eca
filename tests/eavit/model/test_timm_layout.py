"""What a nested ViT refuses, by name and with the reason: models it cannot be made of, and calls that do not fit it."""

from __future__ import annotations

import re
import threading
from functools import partial

import pytest
import timm
import torch
from strategies import images
from timm.layers import LayerNorm2d, RmsNorm
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

import eavit
from eavit import Gates, NestedViT, Submodel
from eavit.model.timm_layout import CannotNestError, faults_of
from tests.eavit.model.vits import TINY, tiny

CALLED = tiny(init_values=0.1, qk_norm=True)


def _plain(**changes) -> VisionTransformer:
    return VisionTransformer(**{**TINY, "weight_init": "skip", **changes})


def _changed(path: str, module: nn.Module) -> VisionTransformer:
    model = _plain()
    model.set_submodule(path, module)
    return model


def _named(tag: str, **changes) -> nn.Module:
    return timm.create_model(tag, **{"depth": 2, "img_size": 32, "num_classes": 3, **changes})


def _eva(**changes) -> Eva:
    return Eva(**{**TINY, "use_rot_pos_emb": True, **changes})


def _distilled() -> VisionTransformerDistilled:
    return VisionTransformerDistilled(**TINY, weight_init="skip")


def _elsewhere(change, model=None) -> nn.Module:
    model = model or _plain()
    change(model)
    return model


class _Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def _shared(model):
    model.blocks[1] = model.blocks[0]


def _uneven_bias(model):
    model.blocks[1].mlp.fc2.bias = None


REFUSED = {
    "learnt_rotary": (
        lambda: _named("vit_small_patch16_rope_mixed_224", embed_dim=48, num_heads=3),
        ["rope: RotaryEmbeddingMixed is not timm's", "learnt for each head", "vit_small_patch16_dinov3"],
    ),
    "eva_post_norm": (
        lambda: _named("eva02_enormous_patch14_clip_224", embed_dim=48, num_heads=3, img_size=28),
        ["blocks.0: EvaBlockPostNorm is not timm's", "post-norm"],
    ),
    "eva_attention_pool": (
        lambda: _named("vit_pe_core_tiny_patch16_384", embed_dim=48, num_heads=3, attn_pool_num_heads=3),
        ["attn_pool: AttentionPoolLatent"],
    ),
    "grouped_queries": (
        lambda: _eva(attn_type="rope", qkv_fused=False, num_kv_heads=1),
        ["blocks.0.attn: num_kv_heads is 1 (int); its weights say 3"],
    ),
    "gated_attention": (
        lambda: _elsewhere(lambda m: setattr(m.blocks[1].attn, "gate", nn.Linear(12, 12)), _eva()),
        ["blocks.1.attn.gate: Linear; not a part of a plain ViT"],
    ),
    "scale_of_one_branch": (
        lambda: _eva(init_values=0.1, attn_only_layer_scale=True),
        ["blocks.0: attention and MLP must both have a scale"],
    ),
    "eva_patch_dropout": (lambda: _eva(patch_drop_rate=0.5), ["patch_drop: PatchDropoutWithIndices"]),
    "eva_rms_norm": (lambda: _eva(norm_layer=RmsNorm), ["blocks.0.norm1: RmsNorm"]),
    "bias_of_keys": (
        lambda: _elsewhere(lambda m: m.blocks[1].attn.k_bias.fill_(1.0), _eva()),
        ["blocks.1.attn: k_bias is a tensor of shape (12,)"],
    ),
    "heads_of_other_classes": (
        lambda: _elsewhere(lambda m: setattr(m, "head_dist", nn.Linear(12, 4)), _distilled()),
        ["head_dist: must have as many classes as head"],
    ),
    "windows": (lambda: timm.create_model("test_vit_relpos", num_classes=3), ["VisionTransformerRelPos is not timm's"]),
    "swin": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1), num_heads=(1, 2), embed_dim=8),
        ["SwinTransformer is not timm's VisionTransformer"],
    ),
    "parallel": (
        lambda: _named("vit_small_patch16_18x2_224", embed_dim=48, num_heads=2),
        ["blocks.0: ParallelThingsBlock", "(so are 1 other layers)"],
    ),
    "post_norm": (lambda: _named("vit_base_patch16_rpn_224", embed_dim=48, num_heads=2), ["blocks.0: ResPostBlock"]),
    "fused_parallel": (lambda: _named("vit_pwee_patch16_reg1_gap_256"), ["blocks.0: ParallelScalingBlock"]),
    "differential": (lambda: _named("vit_dwee_patch16_reg1_gap_256"), ["blocks.0.attn: DiffAttention"]),
    "attention_pool": (
        lambda: _named("vit_base_patch16_siglip_224", embed_dim=48, num_heads=2),
        ["attn_pool: AttentionPoolLatent", "global_pool='avg'", "_gap_"],
    ),
    "no_pool": (lambda: _eva(global_pool=""), ["global_pool: ''", "'token', 'avg', 'max', 'avgmax'"]),
    "rms_norm": (
        lambda: _plain(norm_layer=RmsNorm),
        ["blocks.0.norm1: RmsNorm", "norm: RmsNorm is not timm's LayerNorm"],
    ),
    "hybrid": (lambda: _named("vit_tiny_r_s16_p8_224"), ["patch_embed: HybridEmbed", "hybrid stems"]),
    "stem_norm": (lambda: _plain(embed_norm_layer=nn.LayerNorm), ["patch_embed.norm: LayerNorm", "stem with a norm"]),
    "patch_dropout": (lambda: _plain(patch_drop_rate=0.5), ["patch_drop: PatchDropout", "patch_drop_rate=0"]),
    "shared_norm": (
        lambda: _elsewhere(lambda m: setattr(m.blocks[0].mlp, "norm", RmsNorm(48))),
        ["blocks.0.mlp.norm: RmsNorm"],
    ),
    "norm_without_weights": (
        lambda: _plain(norm_layer=partial(nn.LayerNorm, elementwise_affine=False)),
        ["norm: LayerNorm without weight or bias"],
    ),
    "norm_without_bias": (lambda: _plain(norm_layer=partial(nn.LayerNorm, bias=False)), ["norm: LayerNorm without"]),
    "norm_over_images": (lambda: _changed("blocks.1.norm2", LayerNorm2d(12)), ["blocks.1.norm2: LayerNorm2d"]),
    "no_block": (lambda: _plain(depth=0), ["blocks: the model has no block"]),
    "uneven": (
        lambda: _changed("blocks.1", _plain(mlp_ratio=2.0).blocks[1]),
        ["blocks.1: its shapes differ from blocks.0"],
    ),
    "uneven_bias": (lambda: _elsewhere(_uneven_bias), ["blocks.1: its shapes differ from blocks.0"]),
    "another_head_split": (
        lambda: _changed("blocks.1", _plain(num_heads=6).blocks[1]),
        ["blocks.1: its shapes differ"],
    ),
    "activation_over_neurons": (
        lambda: _changed("blocks.1.mlp.act", nn.Softmax(-1)),
        ["blocks.1.mlp.act: Softmax mixes"],
    ),
    "activation_with_weights": (
        lambda: _changed("blocks.1.mlp.act", nn.PReLU()),
        ["blocks.1.mlp.act: weight, a parameter"],
    ),
    "foreign_head": (
        lambda: _changed("head", nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 5))),
        ["head: Sequential is not timm's Linear or Identity"],
    ),
    "head_without_bias": (lambda: _changed("head", nn.Linear(12, 5, bias=False)), ["head: Linear without a bias"]),
    "another_forward": (lambda: _changed("blocks.2.mlp.fc1", _Doubled(12, 48)), ["blocks.2.mlp.fc1: _Doubled is not"]),
    "pruned": (
        lambda: _elsewhere(lambda m: prune.l1_unstructured(m.blocks[1].mlp.fc1, "weight", 0.3)),
        ["blocks.1.mlp.fc1: weight_mask, a buffer", "blocks.1.mlp.fc1: weight_orig, a parameter"],
    ),
    "weight_norm": (
        lambda: _elsewhere(lambda m: weight_norm(m.blocks[1].attn.qkv)),
        ["blocks.1.attn.qkv: ParametrizedLinear is not timm's Linear"],
    ),
    "shared_layers": (lambda: _elsewhere(_shared), ["blocks.1.norm1.weight: is the same parameter as blocks.0.norm1"]),
    "extra_part": (lambda: _elsewhere(lambda m: m.add_module("aux", nn.Linear(2, 2))), ["aux: Linear; not a part"]),
    "uncopyable": (
        lambda: _elsewhere(lambda m: setattr(m.blocks[0], "lock", threading.Lock())),
        ["cannot be copied: blocks.0.lock: cannot pickle"],
    ),
    "name_in_use": (lambda: _elsewhere(lambda m: setattr(m, "hidden", 3)), ["hidden: a nested ViT has an attribute"]),
    "not_a_vit": (lambda: nn.Linear(2, 2), ["Linear is not timm's VisionTransformer"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_nested_is_refused_by_name_with_the_reason(name):
    make, says = REFUSED[name]
    with pytest.raises(CannotNestError) as error:
        NestedViT.from_timm(make())
    assert re.search("cannot be (nested|copied)", str(error.value))
    for words in says:
        assert words in str(error.value)


def test_all_faults_are_named_at_once():
    faults = faults_of(_plain(patch_drop_rate=0.1, global_pool="map", norm_layer=RmsNorm))
    wanted = ["patch_drop", "blocks.0.norm1", "blocks.0.norm2", "norm", "attn_pool"]
    assert [fault.partition(":")[0] for fault in faults] == wanted
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
