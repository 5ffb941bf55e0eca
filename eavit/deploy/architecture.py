"""Arguments that build a timm ViT again: plain values for JSON, checked against the model that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from timm.layers import AttentionRope, GluMlp, RotaryEmbeddingCat, SwiGLU, get_act_layer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from eavit.model.attributes import CLASSES, timm_class
from eavit.model.calibration import statistics_of
from eavit.model.submodel import Submodel
from eavit.model.timm_layout import read_backbone, scales
from eavit.model.vit import NestedViT, extract

ACTIVATIONS = (
    "gelu",
    "gelu_tanh",
    "quick_gelu",
    "relu",
    "silu",
    "elu",
    "selu",
    "mish",
    "hard_swish",
    "tanh",
    "sigmoid",
)
ROPE = ("grid_offset", "grid_indexing", "temperature", "shift_coords", "jitter_coords", "rescale_coords")
EPS = 1e-6  # of timm's LayerNorm
TOLERANCE = 1e-5  # relative to the largest logit


class CannotRebuildError(ValueError):
    """A backbone that its saved arguments would not build again; the message names what differs."""


def arguments_of(vit: Any) -> dict[str, Any]:
    """Keyword arguments of timm's class, its name as ``class`` where it is not ``VisionTransformer``, and ``norm_eps``,
    for :func:`build_vit`.
    """
    block, stem, kind = vit.blocks[0], vit.patch_embed, timm_class(vit)
    norms = [part for part in vit.modules() if isinstance(part, nn.LayerNorm)]
    common = {
        "img_size": list(stem.img_size),
        "patch_size": list(stem.patch_size),
        "in_chans": stem.proj.in_channels,
        "num_classes": vit.head.out_features if isinstance(vit.head, nn.Linear) else 0,
        "global_pool": vit.global_pool,
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc2.in_features / vit.embed_dim,
        "qkv_bias": read_backbone(vit).qkv_bias,
        "qk_norm": isinstance(block.attn.q_norm, nn.LayerNorm),
        "init_values": None if scales(block)[0] is None or isinstance(scales(block)[0], nn.Identity) else 1e-5,
        "class_token": vit.cls_token is not None,
        "no_embed_class": vit.no_embed_class,
        "dynamic_img_size": vit.dynamic_img_size,
        "dynamic_img_pad": stem.dynamic_img_pad,
        "norm_eps": norms[0].eps if norms else EPS,
    }
    own = _of_eva(vit) if kind is Eva else _of_vit(vit)
    return common | own | ({} if kind is VisionTransformer else {"class": kind.__name__})


def _of_vit(vit: Any) -> dict[str, Any]:
    """Arguments of ``VisionTransformer`` alone; those of parts that few models have are left out of the others."""
    mlp = vit.blocks[0].mlp
    rare: dict[str, Any] = {
        "scale_attn_norm": isinstance(vit.blocks[0].attn.norm, nn.LayerNorm),
        "scale_mlp_norm": isinstance(mlp.norm, nn.LayerNorm),
        "mlp_layer": "swiglu" * isinstance(mlp, SwiGLU) or "glu" * isinstance(mlp, GluMlp),
        "gate_last": isinstance(mlp, GluMlp) and mlp.gate_last,
    }
    if isinstance(mlp, GluMlp):
        rare["mlp_ratio"] = mlp.fc1.out_features / vit.embed_dim
    return {
        "proj_bias": vit.blocks[0].attn.proj.bias is not None,
        "pos_embed": "none" if vit.pos_embed is None else "learn",
        "reg_tokens": vit.num_reg_tokens,
        "pre_norm": isinstance(vit.norm_pre, nn.LayerNorm),
        "final_norm": isinstance(vit.norm, nn.LayerNorm) or isinstance(vit.fc_norm, nn.LayerNorm),
        "fc_norm": isinstance(vit.fc_norm, nn.LayerNorm),
        "pool_include_prefix": vit.pool_include_prefix,
        "act_layer": activation_name(mlp.act),
        **{name: value for name, value in rare.items() if value},
    }


def _of_eva(vit: Any) -> dict[str, Any]:
    """Arguments of ``Eva`` alone."""
    attn, mlp, rope = vit.blocks[0].attn, vit.blocks[0].mlp, vit.rope
    cat = isinstance(rope, RotaryEmbeddingCat)
    rotary: dict[str, Any] = {} if rope is None else {
        "rope_type": "cat" if cat else "dinov3",
        "rope_rotate_half": rope.rotate_half,
        "ref_feat_shape": list(rope.ref_feat_shape) if cat and rope.ref_feat_shape else None,
        **{f"rope_{name}": getattr(rope, name) for name in ROPE},
    }  # fmt: skip
    return rotary | {
        "mlp_ratio": (mlp.fc2.in_features + 0.5) / vit.embed_dim,  # rounded down
        "use_rot_pos_emb": rope is not None,
        "use_abs_pos_emb": vit.pos_embed is not None,
        "num_reg_tokens": 0 if vit.reg_token is None else vit.reg_token.shape[1],
        "qkv_fused": attn.qkv is not None,
        "attn_type": "rope" if isinstance(attn, AttentionRope) else "eva",
        "swiglu_mlp": isinstance(mlp, GluMlp | SwiGLU),
        "swiglu_align_to": int(isinstance(mlp, SwiGLU)),  # of two layers that make a gated MLP, SwiGLU
        "scale_mlp": isinstance(mlp.norm, nn.LayerNorm),
        "scale_attn_inner": isinstance(attn.norm, nn.LayerNorm),
        "use_pre_transformer_norm": isinstance(vit.norm_pre, nn.LayerNorm),
        "use_post_transformer_norm": isinstance(vit.norm, nn.LayerNorm),
        "use_fc_norm": isinstance(vit.fc_norm, nn.LayerNorm),
    }


def activation_name(act: nn.Module) -> str:
    """timm's name of an activation."""
    for name in ACTIVATIONS:
        kind = get_act_layer(name)
        if isinstance(kind, type) and isinstance(act, kind):
            return name
    if type(act) is nn.GELU:
        return "gelu"
    raise CannotRebuildError(
        f"blocks.0.mlp.act: {type(act).__name__} cannot be saved by name; must be one of {', '.join(ACTIVATIONS)}"
    )


def build_vit(arguments: Mapping[str, Any]) -> VisionTransformer:
    """A plain timm ViT with uninitialised weights, in eval mode; an ``Eva`` where the arguments say so."""
    own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    eps, name = own.pop("norm_eps", EPS), own.pop("class", "VisionTransformer")
    if layer := own.pop("mlp_layer", None):
        own["mlp_layer"] = SwiGLU if layer == "swiglu" else partial(GluMlp, gate_last=own.pop("gate_last", False))
    kind = next(known for known in CLASSES if known.__name__ == name)
    with torch.random.fork_rng(devices=[]):
        vit = kind(**own) if kind is Eva else kind(**own, weight_init="skip")
    for part in vit.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = eps
    return cast(VisionTransformer, vit.eval())


def build_submodel(arguments: Mapping[str, Any], submodel: Submodel | str) -> VisionTransformer:
    """A plain timm ViT of a submodel's widths, with uninitialised weights, in eval mode."""
    return extract(NestedViT.from_timm(build_vit(arguments)), submodel).eval()


@torch.no_grad()
def rebuilt(vit: NestedViT) -> dict[str, Any]:
    """The arguments of a ViT, once a ViT built from them gave the same logits; CannotRebuildError otherwise."""
    arguments = arguments_of(vit)
    twin = build_vit(arguments)
    state = {name: value for name, value in vit.state_dict().items() if name not in statistics_of(vit)}
    mine, other = ({name: tuple(p.shape) for name, p in values.items()} for values in (state, twin.state_dict()))
    if mine != other:
        odd = sorted(name for name in mine.keys() | other.keys() if mine.get(name) != other.get(name))
        raise CannotRebuildError(f"this backbone cannot be saved: {', '.join(odd[:5])} would have other shapes")
    weight = vit.patch_embed.proj.weight
    twin = twin.to(weight).eval()
    twin.load_state_dict(state)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, arguments["in_chans"], *arguments["img_size"], generator=generator).to(weight)
    training = vit.training
    wanted, got = vit.eval()(images), twin(images)
    vit.train(training)
    if float((wanted - got).abs().max()) > TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise CannotRebuildError("this backbone cannot be saved: a ViT built from its arguments gives other logits")
    return arguments
