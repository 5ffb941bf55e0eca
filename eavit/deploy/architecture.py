"""Arguments that build a timm ViT again: plain values for JSON, checked against the model that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import LayerScale, get_act_layer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from eavit.model.attributes import timm_class
from eavit.model.submodel import Submodel
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
EPS = 1e-6  # of timm's LayerNorm
TOLERANCE = 1e-5  # relative to the largest logit


class CannotRebuildError(ValueError):
    """A backbone that its saved arguments would not build again; the message names what differs."""


def arguments_of(vit: Any) -> dict[str, Any]:
    """Keyword arguments of timm's ``VisionTransformer``, and ``norm_eps``, for :func:`build_vit`."""
    if timm_class(vit) is not VisionTransformer:
        raise CannotRebuildError(
            f"this backbone cannot be saved: {timm_class(vit).__name__} is not timm's VisionTransformer; keep the "
            "model that eavit.extract gives with torch.save or timm's own tools"
        )
    block, stem = vit.blocks[0], vit.patch_embed
    norms = [part for part in vit.modules() if isinstance(part, nn.LayerNorm)]
    return {
        "img_size": list(stem.img_size),
        "patch_size": list(stem.patch_size),
        "in_chans": stem.proj.in_channels,
        "num_classes": vit.head.out_features if isinstance(vit.head, nn.Linear) else 0,
        "global_pool": vit.global_pool,
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc2.in_features / vit.embed_dim,
        "qkv_bias": block.attn.qkv.bias is not None,
        "qk_norm": isinstance(block.attn.q_norm, nn.LayerNorm),
        "proj_bias": block.attn.proj.bias is not None,
        "init_values": 1e-5 if isinstance(block.ls1, LayerScale) else None,
        "class_token": vit.has_class_token,
        "pos_embed": "none" if vit.pos_embed is None else "learn",
        "no_embed_class": vit.no_embed_class,
        "reg_tokens": vit.num_reg_tokens,
        "pre_norm": isinstance(vit.norm_pre, nn.LayerNorm),
        "final_norm": isinstance(vit.norm, nn.LayerNorm) or isinstance(vit.fc_norm, nn.LayerNorm),
        "fc_norm": isinstance(vit.fc_norm, nn.LayerNorm),
        "pool_include_prefix": vit.pool_include_prefix,
        "dynamic_img_size": vit.dynamic_img_size,
        "dynamic_img_pad": stem.dynamic_img_pad,
        "act_layer": activation_name(block.mlp.act),
        "norm_eps": norms[0].eps if norms else EPS,
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
    """A plain timm ViT with uninitialised weights, in eval mode."""
    own = dict(arguments)
    eps = own.pop("norm_eps", EPS)
    for name in ("img_size", "patch_size"):
        own[name] = tuple(own[name])
    vit = VisionTransformer(**own, weight_init="skip")
    for part in vit.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = eps
    return vit.eval()


def build_submodel(arguments: Mapping[str, Any], submodel: Submodel | str) -> VisionTransformer:
    """A plain timm ViT of a submodel's widths, with uninitialised weights, in eval mode."""
    return extract(NestedViT.from_timm(build_vit(arguments)), submodel).eval()


@torch.no_grad()
def rebuilt(vit: NestedViT) -> dict[str, Any]:
    """The arguments of a ViT, once a ViT built from them gave the same logits; CannotRebuildError otherwise."""
    arguments = arguments_of(vit)
    twin = build_vit(arguments)
    mine, other = ({name: tuple(p.shape) for name, p in model.state_dict().items()} for model in (vit, twin))
    if mine != other:
        odd = sorted(name for name in mine.keys() | other.keys() if mine.get(name) != other.get(name))
        raise CannotRebuildError(f"this backbone cannot be saved: {', '.join(odd[:5])} would have other shapes")
    weight = vit.patch_embed.proj.weight
    twin = twin.to(weight).eval()
    twin.load_state_dict(vit.state_dict())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, arguments["in_chans"], *arguments["img_size"], generator=generator).to(weight)
    training = vit.training
    wanted, got = vit.eval()(images), twin(images)
    vit.train(training)
    if float((wanted - got).abs().max()) > TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise CannotRebuildError("this backbone cannot be saved: a ViT built from its arguments gives other logits")
    return arguments
