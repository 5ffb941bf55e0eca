"""MACs and parameters of a submodel or of soft gates, and what a budget is a fraction of.

One formula each, over ints or over tensors.

Counted as ``torch.utils.flop_counter`` counts the extracted module (FLOPs / 2): matrix products and convolutions,
attention scores included; norms, biases, activations and residual sums are not. A branch of an embedding-wide ViT with
N tokens costs ``N·d·H·(4E + 2N)`` (attention) and ``2·N·E·hidden`` (MLP; 3 where it is gated).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, overload

import torch
from torch import Tensor

from eavit.model.gates import Gates
from eavit.model.submodel import Backbone, Submodel

Number = TypeVar("Number", int, Tensor)


def _total_macs(b: Backbone, embed: Number, heads: Iterable[Number], mlp: Iterable[Number]) -> Number:
    outside = embed * (b.patches * b.patch_pixels + b.num_classes * b.classifiers * b.head_tokens)
    attention = sum((h * (b.tokens * b.head_dim) * (embed * 4 + 2 * b.tokens) for h in heads), start=embed * 0)
    neurons = sum((m * embed * ((2 + b.gated_mlp) * b.tokens) for m in mlp), start=embed * 0)
    return outside + attention + neurons


def _outside_params(b: Backbone) -> tuple[int, int]:
    """(parameters a channel, parameters whatever the width) of all that is not a block."""
    classes = b.num_classes * b.classifiers
    per_channel = b.patch_pixels + b.patch_bias + b.prefix_tokens + b.position_tokens + 2 * b.outer_norms + classes
    return per_channel, classes


def _attention_params(b: Backbone, embed: int, heads: int) -> int:
    if heads == 0:
        return 0
    width = heads * b.head_dim
    qkv = width * (3 * embed + (2 + b.k_bias) * b.qkv_bias + 2 * b.attn_norm)
    return qkv + 4 * b.head_dim * b.qk_norm + embed * (width + b.proj_bias) + embed * (2 + b.layer_scale)


def _mlp_params(b: Backbone, embed: int, hidden: int) -> int:
    if hidden == 0:
        return 0
    rows = hidden * ((1 + b.gated_mlp) * (embed + b.proj_bias) + 2 * b.mlp_norm)
    return rows + embed * (hidden + b.proj_bias) + embed * (2 + b.layer_scale)


def _sum(gates: Tensor) -> Tensor:
    """Open units, summed in at least float32, which MACs of half-precision gates would overflow."""
    return gates.to(torch.promote_types(gates.dtype, torch.float32)).sum(-1)


@overload
def macs(backbone: Backbone, widths: Submodel | str) -> int: ...
@overload
def macs(backbone: Backbone, widths: Gates) -> Tensor: ...
def macs(backbone: Backbone, widths: Submodel | Gates | str) -> int | Tensor:
    """Multiply-accumulates for one image at the backbone's own image size; differentiable for gates.

    ``backbone`` may also be a nested ViT, and ``widths`` a submodel's key.
    """
    backbone = Backbone.of(backbone)
    if isinstance(widths, Gates):
        widths.check(backbone)
        embed, heads, mlp = (_sum(gates) for gates in (widths.embed, widths.heads, widths.mlp))
        return _total_macs(backbone, embed, heads.unbind(), mlp.unbind())
    widths = backbone.check(widths)
    return _total_macs(backbone, widths.embed, widths.heads, widths.mlp)


def params(backbone: Backbone, submodel: Submodel | str) -> int:
    """Parameters of the extracted module."""
    backbone = Backbone.of(backbone)
    submodel = backbone.check(submodel)
    per_channel, constant = _outside_params(backbone)
    attention = sum(_attention_params(backbone, submodel.embed, h) for h in submodel.heads)
    neurons = sum(_mlp_params(backbone, submodel.embed, m) for m in submodel.mlp)
    return submodel.embed * per_channel + constant + attention + neurons


def share(backbone: Backbone, submodel: Submodel) -> float:
    """MACs as a fraction of the full model's: the axis that budgets live on."""
    return macs(backbone, submodel) / macs(backbone, backbone.full)


@dataclass(frozen=True, slots=True)
class Measure:
    """Size of submodels, and of the full model: budgets are fractions of it. Measures of one name are equal.

    A size need not rise with every width: a wider submodel may be as fast, or faster.
    """

    name: str
    of: Callable[[Submodel], float] = field(compare=False)
    full: float = field(compare=False)

    @classmethod
    def of_macs(cls, backbone: Backbone) -> Measure:
        """The measure of all budgets that are not of another one."""
        return cls("macs", partial(macs, backbone), macs(backbone, backbone.full))

    def share(self, submodel: Submodel) -> float:
        """Size as a fraction of the full model's; above 1 where a submodel takes more than it."""
        return self.of(submodel) / self.full
