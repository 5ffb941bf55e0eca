"""Pass of a plain ViT under hard gates, at nearly the cost of the submodel that they leave open.

Gates that are cumulative products of hard steps are 1 up to the first closed step of a dimension and 0 from there on.
Open units are sliced. Units between the first closed step and the second are the border: they add nothing, but their
gates have a gradient. Behind the second closed step the gradient is exactly zero too (``Gates.reach``). So values and
gradients are those of the masked pass, ``vit(images, gates)``, which computes every unit:

- an open gate is a factor of 1, and only its gradient is computed: the sum of input times gradient;
- the gates of channels, which the masked pass applies to all that is added to the residual stream, are applied to what
  each norm reads of it: the same by the distributive law;
- a border head or neuron is computed in the backward pass, without a graph, and multiplied with its gradient;
- a border channel is zero in the residual stream, and no gradient reaches it there. A norm makes ``shift * weight +
  bias`` of it, where ``shift = -mean / deviation`` is one number for each token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from eavit.model import nested
from eavit.model.calibration import statistics_of
from eavit.model.gates import Gates
from eavit.model.sliced_linear import gradient_of_rows, gradient_of_slice, sliced, sliced_rows
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT

Units = Callable[[], Tensor]  # computes border units, (b, tokens, units)


class Axis(NamedTuple):
    """Gates of one dimension: the open ones, and those of its border."""

    opened: Tensor
    border: Tensor

    @classmethod
    def of(cls, gates: Tensor, opened: int, reach: int) -> Axis:
        first, border, _ = gates.split((opened, reach - opened, len(gates) - reach))
        return cls(first, border)

    @property
    def sizes(self) -> tuple[int, int]:
        """Units that are open, and those up to the end of the border."""
        return len(self.opened), len(self.opened) + len(self.border)


def covers(vit: Any) -> bool:
    """Return whether this pass computes what the masked one does: plain blocks, nothing that mixes or replaces closed
    units, a norm next to the head, no draws that depend on widths, no hooks, which would not be called.
    """
    block = vit.blocks[0]
    absent = [vit.norm_pre, block.attn.norm, block.mlp.norm, vit.fc_norm if vit.global_pool == "token" else vit.norm]
    return (
        type(vit) is NestedViT
        and isinstance(block.mlp, nested.NestedMlp)
        and all(isinstance(norm, nn.Identity) for norm in absent)
        and all(isinstance(norm, nn.LayerNorm) for norm in (block.norm1, _last_norm(vit)))
        and vit.global_pool in ("token", "avg")
        and isinstance(vit.head, nn.Linear)
        and not any(_draws_or_is_watched(part) for part in vit.modules())
        and not statistics_of(vit)
    )


def _draws_or_is_watched(part: nn.Module) -> bool:
    hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
    return any(hooks) or (isinstance(part, nn.Dropout) and part.p > 0)


def forward(vit: Any, images: Tensor, gates: Gates) -> Tensor:
    """Logits (b, classes) under hard gates that have a reach; values and gradients of ``vit(images, gates)``."""
    hard, reach = gates.harden(), gates.reach or vit.backbone.full
    embed = Axis.of(gates.embed, hard.embed, reach.embed)
    x, _ = vit._stem(images, hard.embed, gates.masking)
    keep = vit._draw_paths(x)
    rows = zip(gates.heads.unbind(), gates.mlp.unbind(), hard.heads, hard.mlp, reach.heads, reach.mlp, strict=True)
    for layer, (block, row) in enumerate(zip(vit.blocks, rows, strict=True)):
        for branch, compute in enumerate((_attention, _mlp)):
            out = block.scale(branch + 1, compute(block, x, embed, Axis.of(*row[branch::2])))
            x = x + (out if keep is None else out * keep[layer, branch])
    return _read(_last_norm(vit), vit.head, vit.pool(x), embed, vit.head.out_features)


def closed_parameters(vit: Any, submodel: Submodel) -> list[nn.Parameter]:
    """Parameters of closed branches that train: of zero gradient in the masked pass, unused by :func:`forward`."""
    parts: list[nn.Module] = []
    for block, heads, hidden in zip(vit.blocks, submodel.heads, submodel.mlp, strict=True):
        parts += [] if heads else [block.norm1, block.attn, block.ls1]
        parts += [] if hidden else [block.norm2, block.mlp, block.ls2]
    return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]


def _last_norm(vit: Any) -> Any:
    return vit.norm if vit.global_pool == "token" else vit.fc_norm


def _attention(block: Any, x: Tensor, embed: Axis, heads: Axis) -> Tensor:
    attn, channels, (opened, end) = block.attn, x.shape[-1], heads.sizes

    def units() -> Tensor:
        split = (3, attn.num_heads, attn.head_dim)
        weight = attn.qkv.weight[:, :channels].unflatten(0, split)[:, opened:end].flatten(0, 2)
        bias = None if attn.qkv.bias is None else attn.qkv.bias.view(split)[:, opened:end].flatten()
        return _attended(attn, F.linear(block.norm1(x, channels), weight, bias), end - opened)

    out = None
    if opened:
        out = _attended(attn, _read(block.norm1, attn.qkv, x, embed, opened * attn.head_dim, 3), opened)
    return _write(attn.proj, out, x, heads, units)


def _attended(attn: Any, qkv: Tensor, heads: int) -> Tensor:
    return nested.attend(attn, qkv, heads).transpose(1, 2).flatten(2)


def _mlp(block: Any, x: Tensor, embed: Axis, hidden: Axis) -> Tensor:
    mlp, channels, (opened, end) = block.mlp, x.shape[-1], hidden.sizes

    def units() -> Tensor:
        bias = None if mlp.fc1.bias is None else mlp.fc1.bias[opened:end]
        out: Tensor = mlp.act(F.linear(block.norm2(x, channels), mlp.fc1.weight[opened:end, :channels], bias))
        return out

    out = mlp.act(_read(block.norm2, mlp.fc1, x, embed, opened)) if opened else None
    return _write(mlp.fc2, out, x, hidden, units)


def _read(norm: Any, layer: Any, x: Tensor, embed: Axis, rows: int, groups: int = 1) -> Tensor:
    """Open channels of the residual stream through a norm and the first rows of a linear layer."""
    parameters = (norm.weight, norm.bias, layer.weight, layer.bias)
    out: Tensor = _Read.apply(x, *embed, *parameters, norm.eps, rows, groups)
    return out


def _write(layer: Any, units: Tensor | None, x: Tensor, axis: Axis, border: Units) -> Tensor:
    """Open units (none of a closed branch) through a linear layer, to be added to the residual stream ``x``."""
    out: Tensor = _Write.apply(units, *axis, layer.weight, layer.bias, x, border)
    return out


def _sums(x: Tensor, units: int = 0) -> Tensor:
    """Sums of (..., units * size) over all but the units; by default these are single."""
    sums = x.flatten(0, -2).sum(0)
    return sums if units in (0, len(sums)) else sums.view(units, -1).sum(-1)


class _Read(torch.autograd.Function):
    """LayerNorm over open channels, then rows of a linear layer. Gates of channels scale the input of the norm, weigh
    its mean and variance, and scale its output.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        opened: Tensor,
        border: Tensor,
        scale: Tensor,
        offset: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        eps: float,
        rows: int,
        groups: int,
    ) -> Tensor:
        channels = x.shape[-1]
        normal, mean, rstd = torch.native_layer_norm(x, (channels,), scale[:channels], offset[:channels], eps)
        ctx.save_for_backward(x, normal, mean, rstd, scale, offset, weight, bias)
        ctx.border, ctx.eps, ctx.groups, ctx.rows = len(border), eps, groups, rows
        first = None if bias is None else sliced_rows(bias, rows, groups)
        return F.linear(normal, sliced(weight, rows, channels, groups), first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, normal, mean, rstd, scale, offset, weight, bias = ctx.saved_tensors
        channels, flat = x.shape[-1], grad.flatten(0, -2)
        inner = grad @ sliced(weight, ctx.rows, channels, ctx.groups)
        norm = scale[:channels], offset[:channels]
        of_x, of_scale, of_offset = torch.ops.aten.native_layer_norm_backward(
            inner, x, (channels,), mean, rstd, *norm, [True, True, True]
        )
        shift, of_outputs = -mean * rstd, flat.sum(0)
        of_opened, of_border = _of_statistics(inner, norm[0], torch.addcmul(shift, x, rstd), shift, rstd, ctx.eps)
        of_opened += norm[0] * of_scale + norm[1] * of_offset + _sums(x * of_x)
        if ctx.border:
            behind = slice(channels, channels + ctx.border)
            reader = sliced(weight, ctx.rows, behind.stop, ctx.groups)[:, channels:]
            seen = torch.stack([shift.flatten() @ flat, of_outputs]) @ reader
            of_border = of_border + seen[0] * scale[behind] + seen[1] * offset[behind]
        needs = ctx.needs_input_grad
        return (
            of_x,
            of_opened,
            of_border if ctx.border else None,
            gradient_of_rows(scale, of_scale) if needs[3] else None,
            gradient_of_rows(offset, of_offset) if needs[4] else None,
            gradient_of_slice(weight, flat, normal, ctx.groups) if needs[5] else None,
            gradient_of_rows(bias, of_outputs, ctx.groups) if needs[6] else None,
            None,
            None,
            None,
        )


def _of_statistics(
    grad: Tensor, scale: Tensor, normal: Tensor, shift: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Gradients of the gates of open channels, and of any border channel, by which mean and variance weigh them.
    ``grad``: of the outputs ``normal * scale + offset`` of a norm.
    """
    total, along = grad @ scale, (grad * normal) @ scale / 2
    total, along = total.flatten(), along.flatten()
    shift, share = shift.flatten(), 1 - eps * rstd.flatten().square()  # variance over variance + eps
    spread, flat = along @ share, normal.flatten(0, -2)
    of_open = spread - total @ flat - along @ flat.square()
    of_border = spread - total @ shift - along @ shift.square()
    return of_open / flat.shape[1], of_border / flat.shape[1]


class _Write(torch.autograd.Function):
    """Open units through the columns of a linear layer that read them. The first gate scales its bias."""

    @staticmethod
    def forward(
        ctx: Any,
        units: Tensor | None,
        opened: Tensor,
        border: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        x: Tensor,
        border_units: Units,
    ) -> Tensor:
        ctx.save_for_backward(units, weight, bias)
        ctx.sizes, ctx.border, ctx.channels = (len(opened), len(border)), border_units, x.shape[-1]
        if units is None:
            return torch.zeros_like(x)
        first = None if bias is None else bias[: ctx.channels]
        return F.linear(units, sliced(weight, ctx.channels, units.shape[-1]), first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        units, weight, bias = ctx.saved_tensors
        (opened, border), needs, flat = ctx.sizes, ctx.needs_input_grad, grad.flatten(0, -2)
        start = 0 if units is None else units.shape[-1]
        of_units = of_opened = of_border = of_weight = of_bias = None
        if units is not None:
            of_units = grad @ sliced(weight, ctx.channels, start)
            of_opened = _sums(units * of_units, opened)
            of_weight = gradient_of_slice(weight, flat, units) if needs[3] else None
        if border:
            closed = ctx.border()
            of_closed = grad @ weight[: ctx.channels, start : start + closed.shape[-1]]
            of_border = _sums(closed * of_closed, border)
        if bias is not None:
            of_outputs = flat.sum(0)
            for_bias = of_border if of_opened is None else of_opened
            if for_bias is not None:
                for_bias[0] += of_outputs @ bias[: ctx.channels]
            of_bias = gradient_of_rows(bias, of_outputs) if needs[4] and units is not None else None
        return of_units, of_opened, of_border, of_weight, of_bias, None, None
