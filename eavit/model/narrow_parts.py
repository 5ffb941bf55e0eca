"""Parts of extracted models that timm's own cannot be: blocks with one branch, EVA's attention of few heads."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import apply_rot_embed_cat
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.nn import functional as F

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def rotary_attention(attn: Any, x: Tensor, part: dict[str, Tensor], rope: Tensor | None, **mask: Any) -> Tensor:
    """Heads (b, heads, tokens, head_dim) of tokens (b, tokens, channels), with the parameters ``part`` of attention."""
    if "qkv.weight" in part:
        bias = part.get("qkv.bias")
        if "q_bias" in part:
            bias = torch.cat([part["q_bias"], torch.zeros_like(part["q_bias"]), part["v_bias"]])
        q, k, v = F.linear(x, part["qkv.weight"], bias).chunk(3, -1)
    else:
        q, k, v = (F.linear(x, part[f"{name}.weight"], part.get(f"{name}.bias")) for name in PROJECTIONS)
    q, k, v = (each.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2) for each in (q, k, v))
    q, k = attn.q_norm(q), attn.k_norm(k)
    if rope is not None:
        q, k = (rotated(attn, each, rope).type_as(v) for each in (q, k))
    drop = attn.attn_drop.p if attn.training else 0.0
    return F.scaled_dot_product_attention(q, k, v, dropout_p=drop, **mask)


def rotated(attn: Any, x: Tensor, rope: Tensor) -> Tensor:
    """Tokens turned by their positions; class token and registers have none."""
    first = attn.num_prefix_tokens
    return torch.cat([x[:, :, :first], apply_rot_embed_cat(x[:, :, first:], rope, half=attn.rotate_half)], dim=2)


class NarrowEvaAttention(EvaAttention):
    """timm's ``EvaAttention`` for any number of heads; timm's own needs heads x head_dim to be the channels."""

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        out = rotary_attention(self, x, dict(self.named_parameters()), rope, attn_mask=attn_mask, is_causal=is_causal)
        projected: Tensor = self.proj_drop(self.proj(self.norm(out.transpose(1, 2).flatten(2))))
        return projected


def allow_any_width(part: Any) -> None:
    """Make a timm ``EvaAttention`` of the sort that takes its own number of heads, where that is needed."""
    if type(part) is EvaAttention and part.proj.weight.shape[0] != part.proj.weight.shape[1]:
        part.__class__ = NarrowEvaAttention


class AttentionBlock(TimmBlock):
    """A timm block without its MLP branch."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        attended = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        out: Tensor = x + self.drop_path1(self.ls1(attended))
        return out


class MlpBlock(TimmBlock):
    """A timm block without its attention branch."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        out: Tensor = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return out


class EvaAttentionBlock(EvaBlock):
    """A block of EVA without its MLP branch."""

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        attended = self.attn(self.norm1(x), rope=rope, attn_mask=attn_mask, is_causal=is_causal)
        out: Tensor = x + self.drop_path1(attended if self.gamma_1 is None else self.gamma_1 * attended)
        return out


class EvaMlpBlock(EvaBlock):
    """A block of EVA without its attention branch."""

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        hidden = self.mlp(self.norm2(x))
        out: Tensor = x + self.drop_path2(hidden if self.gamma_2 is None else self.gamma_2 * hidden)
        return out


# The branches of each block: what is left without one, and the names that leave.
BRANCHES: dict[type[nn.Module], dict[str, tuple[type[nn.Module], tuple[str, ...]]]] = {
    TimmBlock: {
        "attn": (MlpBlock, ("norm1", "attn", "ls1", "drop_path1")),
        "mlp": (AttentionBlock, ("norm2", "mlp", "ls2", "drop_path2")),
    },
    EvaBlock: {
        "attn": (EvaMlpBlock, ("norm1", "attn", "gamma_1", "drop_path1")),
        "mlp": (EvaAttentionBlock, ("norm2", "mlp", "gamma_2", "drop_path2")),
    },
}


def cut_branches(block: Any, heads: int, hidden: int) -> None:
    """Take a branch of no width out of a timm block, in place."""
    branches = BRANCHES[type(block)]
    for branch, width in (("attn", heads), ("mlp", hidden)):
        if not width:
            rest, names = branches[branch]
            block.__class__ = rest
            for name in names:
                delattr(block, name)
