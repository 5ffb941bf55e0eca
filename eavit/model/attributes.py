"""Attributes of timm's parts that follow from the shapes of their weights, or that the nested forward relies on."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from timm.layers import Attention as TimmAttention
from timm.layers import AttentionRope, DropPath, Mlp
from timm.layers import PatchEmbed as TimmPatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

CLASSES: tuple[type[Any], ...] = (VisionTransformerDistilled, VisionTransformer, Eva)  # that can be nested


def timm_class(model: nn.Module) -> type[nn.Module]:
    """timm's class that a model is of; ``nn.Module`` where it is none that can be nested."""
    return next((kind for kind in type(model).__mro__ if kind in CLASSES), nn.Module)


def implied_by_shapes(part: Any) -> dict[str, Any]:
    """Attributes of a timm part that follow from the shapes of its parameters."""
    if isinstance(part, nn.Linear):
        return {"in_features": part.weight.shape[1], "out_features": part.weight.shape[0]}
    if isinstance(part, nn.LayerNorm):
        return {"normalized_shape": tuple(part.weight.shape)}
    if isinstance(part, nn.Conv2d):
        rows, columns, *kernel = part.weight.shape
        return {"out_channels": rows, "in_channels": columns, "kernel_size": tuple(kernel)}
    if isinstance(part, TimmAttention):
        width = part.proj.weight.shape[1]
        return {"attn_dim": width, "num_heads": width // part.head_dim}
    if isinstance(part, AttentionRope):
        width = part.proj.weight.shape[1]
        heads = width // part.head_dim
        return {"attn_dim": width, "kv_dim": width, "num_heads": heads, "num_kv_heads": heads, "num_kv_groups": 1}
    if isinstance(part, EvaAttention):
        width = part.proj.weight.shape[1]
        bias = {} if part.q_bias is None else {"k_bias": torch.zeros_like(part.q_bias.detach())}
        return {"num_heads": width // part.head_dim, **bias}
    if isinstance(part, CLASSES):
        width, depth = part.patch_embed.proj.weight.shape[0], len(part.blocks)
        info = [{**one, "num_chs": width} for one in part.feature_info[:depth]]
        return {"embed_dim": width, "num_features": width, "head_hidden_size": width, "feature_info": info}
    return {}


def taken_for_granted(part: Any) -> dict[str, Any]:
    """Other attributes of a timm part that must have these values, since the nested forward computes with them."""
    if isinstance(part, (TimmAttention, EvaAttention, AttentionRope)):
        head_dim = part.proj.weight.shape[1] // part.num_heads
        return {"head_dim": head_dim, "scale": head_dim**-0.5, "gate": None}
    if isinstance(part, DropPath):
        return {"scale_by_keep": True}
    if isinstance(part, TimmPatchEmbed):
        patch = tuple(part.proj.weight.shape[2:])
        grid = tuple(size // step for size, step in zip(part.img_size, patch, strict=True))
        return {"patch_size": patch, "img_size": tuple(part.img_size), "grid_size": grid, "num_patches": prod(grid)}
    if isinstance(part, nn.Conv2d):
        zeros, stride = (0, 0), tuple(part.weight.shape[2:])
        return {"stride": stride, "padding": zeros, "dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
    if isinstance(part, CLASSES):
        tokens = {name: getattr(part, name, None) for name in ("cls_token", "reg_token", "dist_token")}
        counts = {name: token.shape[1] if isinstance(token, Tensor) else 0 for name, token in tokens.items()}
        granted = {"num_prefix_tokens": sum(counts.values()), "attn_pool": None}
        granted |= {name: None for name, count in counts.items() if not count and hasattr(part, name)}
        if isinstance(part, Eva):
            return granted | {"patch_drop": None, "rope_mixed": False}
        return granted | {"has_class_token": counts["cls_token"] == 1, "num_reg_tokens": counts["reg_token"]}
    return {}


def fault_of_statistics(vit: Any) -> str:
    """Reason why no statistics of inputs are taken of this backbone; empty if they are."""
    kind, block = timm_class(vit), vit.blocks[0]
    if kind is not VisionTransformer or not isinstance(block.mlp, Mlp):
        name = block.mlp.plain_type.__name__ if kind is VisionTransformer else kind.__name__
        return f"{name}: statistics of inputs are taken of plain ViTs with plain MLPs only"
    norms = [name for name in ("attn.norm", "mlp.norm") if not isinstance(block.get_submodule(name), nn.Identity)]
    return f"blocks.0.{norms[0]}: no statistics are taken of units that a norm mixes" if norms else ""
