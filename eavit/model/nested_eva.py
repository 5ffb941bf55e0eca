"""Slices and masks of the parts of timm's ``Eva`` (EVA, EVA-02, DINOv3 and ViTs with rotary positions).

Rotary positions turn pairs inside each head; heads are kept or left as a whole, so they are the same at any width.
"""

from __future__ import annotations

from typing import Any

from timm.layers import AttentionRope
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from eavit.model.gates import EXACT, Masking
from eavit.model.narrow_parts import PROJECTIONS, NarrowEvaAttention, rotary_attention
from eavit.model.nested import (
    ResidualBlock,
    State,
    Width,
    join,
    narrow,
    prefix,
    project_heads,
    slice_width,
)


class RotaryAttention(nn.Module):
    """The nested forward of attention with rotary positions, elastic in whole heads."""

    def narrow(self: Any, heads: int | None, embed: int | None) -> State:
        into = embed if embed is not None else self.proj.out_features
        width = (heads if heads is not None else self.num_heads) * self.head_dim
        state = {
            name: prefix(b, width) for name in ("q_bias", "v_bias") if (b := getattr(self, name, None)) is not None
        }
        if self.qkv is None:
            state |= join({name: getattr(self, name).narrow(width, into) for name in PROJECTIONS})
        else:
            rows = self.qkv.narrow(None, into).items()
            state |= {f"qkv.{n}": prefix(v.unflatten(0, (3, -1)), width, 1).flatten(0, 1) for n, v in rows}
        norms = {name: dict(getattr(self, name).named_parameters()) for name in ("q_norm", "k_norm")}
        return state | join(norms | {"norm": narrow(self.norm, width), "proj": self.proj.narrow(embed, width)})

    def forward(
        self: Any,
        x: Tensor,
        heads: Width | None = None,
        masking: Masking = EXACT,
        rope: Tensor | None = None,
        **timm: Any,
    ) -> Tensor:
        if heads is None:
            whole: Tensor = super().forward(x, rope=rope, **timm)
            return whole
        part = self.narrow(slice_width(heads), x.shape[-1])
        return project_heads(self, rotary_attention(self, x, part, rope), x.shape[-1], heads, masking)


class NestedEvaAttention(RotaryAttention, NarrowEvaAttention):  # type: ignore[misc]  # widths come before rope
    """Attention whose queries and values alone may have a bias."""


class NestedAttentionRope(RotaryAttention, AttentionRope):
    """Attention with one bias for queries, keys and values."""


class NestedEvaBlock(ResidualBlock, EvaBlock):
    """timm's block of EVA, whose scales of channels are parameters of its own."""

    def narrow_scales(self, embed: int, branches: list[int]) -> State:
        scales = {f"gamma_{branch}": getattr(self, f"gamma_{branch}") for branch in branches}
        return {name: prefix(scale, embed) for name, scale in scales.items() if scale is not None}

    def scale(self, branch: int, x: Tensor) -> Tensor:
        gamma = getattr(self, f"gamma_{branch}")
        return x if gamma is None else x * prefix(gamma, x.shape[-1])
