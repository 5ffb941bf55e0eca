"""Slices and masks of weights: timm's modules with widths that are chosen at each call. EVA's are in
:mod:`eavit.model.nested_eva`; no other file slices.

Every class here is one of timm's parts with another forward: :mod:`eavit.model.nesting` turns the parts of a timm model
into these, in place, and back, so that names, weights, flags and hooks stay where they were. Called without widths, a
part computes what timm's does.

``narrow`` gives the prefix of a part's parameters for some widths. It is the one place that says what a width means;
the sliced forward and :func:`eavit.extract` both use it. A forward takes a width as an int (sliced) or as a tensor of
gates (masked, differentiable); at 0/1 gates both agree: LayerNorm statistics run over kept channels only, and a skipped
branch adds no bias. (Unless a masking of another kind comes with the gates: :class:`eavit.model.gates.Masking`.)

A calibrated part (:mod:`eavit.model.calibration`) has a buffer of statistics beside its parameters: dropped inputs of a
linear layer then count with their means, and a norm over fewer channels keeps the scale that these channels had.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Attention, GluMlp, LayerScale, Mlp, PatchEmbed, SwiGLU
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from eavit.model.gates import EXACT, Masking
from eavit.model.sliced_linear import sliced, sliced_linear, sliced_rows

State = dict[str, Tensor]
Width = int | Tensor  # kept units, or one gate for each unit


def join(parts: dict[str, State]) -> State:
    """One state from those of named parts, keys as ``<part>.<key>``."""
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def prefix(parameter: Tensor, width: int | None, dim: int = 0) -> Tensor:
    """The first ``width`` units along ``dim``. A full slice is the parameter itself: slicing has a backward pass that
    fills and copies a whole tensor at every step.
    """
    if width is None or width >= parameter.shape[dim]:
        return parameter
    return parameter.narrow(dim, 0, width)


def narrow(part: Any, *widths: int | None) -> State:
    """Parameters of a part for some widths; an absent norm or scale (an identity) has none."""
    state: State = {} if isinstance(part, nn.Identity) else part.narrow(*widths)
    return state


def normalise(norm: nn.Module, x: Tensor, width: Width, masking: Masking = EXACT) -> Tensor:
    """A norm over the kept channels; an absent one passes its input on."""
    out: Tensor = x if isinstance(norm, nn.Identity) else norm(x, width, masking)
    return out


def slice_width(width: Width) -> int | None:
    """The slice of a width: an int is itself, gates keep everything."""
    return width if isinstance(width, int) else None


def apply_gates(x: Tensor, width: Width) -> Tensor:
    """Gates scale the last axis; an int has been applied by slicing already."""
    return x if isinstance(width, int) else x * width.to(x.dtype)


def normalise_units(norm: nn.Module, x: Tensor, width: Width, masking: Masking) -> Tensor:
    """Kept heads or neurons through a norm over them, where there is one; gates scale what it gives."""
    return apply_gates(x, width) if isinstance(norm, nn.Identity) else normalise(norm, x, width, masking)


INPUT_MEAN, POWER = "input_mean", "power"  # buffers of calibrated linear layers and norms


def statistic(part: nn.Module, name: str) -> Tensor | None:
    """A buffer of a calibrated part; None without calibration."""
    return part._buffers.get(name)


def fill_closed(x: Tensor, width: Width, reader: nn.Module | None, branch: Tensor | float = 1.0) -> Tensor:
    """Gated inputs of a calibrated linear layer with the means of the closed ones; ``branch`` gates all of them. Of a
    sliced layer, :meth:`NestedLinear.shifted` adds them to the bias.
    """
    mean = None if reader is None or isinstance(width, int) else statistic(reader, INPUT_MEAN)
    if mean is None:
        return x
    return x + ((branch - width) * mean).to(x.dtype)


def residual(x: Tensor, width: Width, masking: Masking) -> Tensor:
    """Output of a branch that is added to the residual stream."""
    return x if masking.norm_over == "all" else apply_gates(x, width)


def _state(**parameters: Tensor | None) -> State:
    return {name.replace("__", "."): value for name, value in parameters.items() if value is not None}


class NestedLinear(nn.Linear):
    """A layer whose first ``out`` rows and first ``into`` columns are used."""

    def narrow(self, out: int | None, into: int | None) -> State:
        rows = self.weight.shape[0] if out is None else out
        columns = self.weight.shape[1] if into is None else into
        bias = self.shifted(columns)
        return _state(weight=sliced(self.weight, rows, columns), bias=None if bias is None else sliced_rows(bias, rows))

    def shifted(self, into: int) -> Tensor | None:
        """The bias, with the outputs of the mean of the columns after ``into``, which have no gradient."""
        mean = statistic(self, INPUT_MEAN)
        if self.bias is None or mean is None or into >= mean.shape[0]:
            return self.bias
        return self.bias + self.weight.detach()[:, into:] @ mean[into:].to(self.weight.dtype)

    def forward(self, x: Tensor, out: int | None = None, bias_gate: Tensor | None = None) -> Tensor:
        bias = self.shifted(x.shape[-1])
        if bias is not None and bias_gate is not None:
            bias = bias * bias_gate.to(bias.dtype)
        return sliced_linear(x, self.weight, bias, self.weight.shape[0] if out is None else out)


def _gain(kept: Tensor, power: Tensor, width: int | Tensor) -> Tensor:
    """Factor that gives kept channels the mean square that they have when all channels are normalised together."""
    return (kept / power.sum() * power.shape[0] / width).sqrt()


class NestedLayerNorm(nn.LayerNorm):
    """Normalises over the kept channels only."""

    def narrow(self, width: int | None) -> State:
        return _state(weight=self.scaled(width), bias=prefix(self.bias, width))

    def scaled(self, width: int | None) -> Tensor:
        """The weight of the first channels, with the gain of a calibrated norm."""
        weight, power = prefix(self.weight, width), statistic(self, POWER)
        if power is not None and width is not None and width < power.shape[0]:
            weight = weight * _gain(power[:width].sum(), power, width).to(weight.dtype)
        return weight

    def forward(self, x: Tensor, width: Width | None = None, masking: Masking = EXACT) -> Tensor:
        if width is None:
            return super().forward(x)
        if isinstance(width, int):
            return F.layer_norm(x, (width,), self.scaled(width), prefix(self.bias, width), self.eps)
        if masking.norm_over == "all":
            return apply_gates(F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps), width)
        return self._masked(x, width)

    def _masked(self, x: Tensor, width: Tensor) -> Tensor:
        """Statistics are those of open channels, in float32 for narrower types, as ``F.layer_norm`` computes them."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        gate = width.to(wide.dtype)
        share = gate / gate.sum().clamp_min(1)  # all are closed in a branch that is skipped
        centred = wide - (wide * share).sum(-1, keepdim=True)
        variance = (centred.square() * share).sum(-1, keepdim=True)
        normal = centred * torch.rsqrt(variance + self.eps)
        power = statistic(self, POWER)
        if power is not None:
            normal = normal * _gain((power * gate).sum(), power, gate.sum())
        return ((normal * self.weight + self.bias) * gate).to(x.dtype)


class NestedLayerScale(LayerScale):
    """timm's ``ls1``/``ls2``: one factor for each channel."""

    def narrow(self, width: int | None) -> State:
        return _state(gamma=prefix(self.gamma, width))

    def forward(self, x: Tensor) -> Tensor:
        return x * prefix(self.gamma, x.shape[-1])


class NestedPatchEmbed(PatchEmbed):
    """Images (b, c, h, w) to tokens (b, patches, embed) and the grid they came from."""

    def narrow(self, width: int | None) -> State:
        bias = self.proj.bias
        weight = prefix(self.proj.weight, width)
        return _state(proj__weight=weight, proj__bias=None if bias is None else prefix(bias, width))

    def forward(self, images: Tensor, width: Width | None = None) -> Any:
        if width is None:
            return super().forward(images)
        if self.dynamic_img_pad:
            high, wide = (-size % step for size, step in zip(images.shape[-2:], self.patch_size, strict=True))
            images = F.pad(images, (0, wide, 0, high))
        part = self.narrow(slice_width(width))
        x = F.conv2d(images, part["proj.weight"], part.get("proj.bias"), stride=self.patch_size)
        return x.flatten(2).transpose(1, 2), (x.shape[-2], x.shape[-1])


class NestedAttention(Attention):
    """Multi-head self-attention, elastic in whole heads. qkv rows are ordered (3, heads, head_dim), as in timm."""

    def narrow(self, heads: int | None, embed: int | None) -> State:
        into = embed if embed is not None else self.qkv.in_features
        width = (heads if heads is not None else self.num_heads) * self.head_dim
        bias = self.qkv.shifted(into)
        weight = sliced(self.qkv.weight, width, into, 3)
        bias = None if bias is None else sliced_rows(bias, width, 3)
        norms = {name: dict(getattr(self, name).named_parameters()) for name in ("q_norm", "k_norm")}
        rest = {"norm": narrow(self.norm, width), "proj": self.proj.narrow(embed, width)}
        return _state(qkv__weight=weight, qkv__bias=bias) | join(norms | rest)

    def forward(self, x: Tensor, heads: Width | None = None, masking: Masking = EXACT, **timm: Any) -> Tensor:
        if heads is None:
            whole: Tensor = super().forward(x, **timm)
            return whole
        count, embed = self.num_heads if isinstance(heads, Tensor) else heads, x.shape[-1]
        qkv = sliced_linear(x, self.qkv.weight, self.qkv.shifted(embed), count * self.head_dim, 3)
        return project_heads(self, attend(self, qkv, count), embed, heads, masking)


def attend(attn: Any, qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values (b, tokens, 3 * heads * head_dim) to the outputs of heads."""
    q, k, v = qkv.unflatten(-1, (3, heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
    drop = attn.attn_drop.p if attn.training else 0.0
    return F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, dropout_p=drop)


def project_heads(attn: Any, out: Tensor, embed: int, heads: Width, masking: Masking) -> Tensor:
    """Output of heads (b, heads, tokens, head_dim) to the residual stream, through attention's norm and projection."""
    gate = None
    if isinstance(heads, Tensor):
        gates = heads.to(out.dtype)
        gate = gates[0]
        out = out * gates[:, None, None] if isinstance(attn.norm, nn.Identity) else out
    out = out.transpose(1, 2).flatten(2)
    if not isinstance(attn.norm, nn.Identity):
        units = heads.repeat_interleave(attn.head_dim) if isinstance(heads, Tensor) else out.shape[-1]
        out = normalise_units(attn.norm, out, units, masking)
    elif isinstance(heads, Tensor):
        out = fill_closed(out, heads.repeat_interleave(attn.head_dim), attn.proj, heads[0])
    projected: Tensor = attn.proj_drop(attn.proj(out, embed, gate))
    return projected


class HiddenLayer(nn.Module):
    """The nested forward of timm's MLPs, elastic in hidden neurons; ``units`` says how these follow from the tokens."""

    readers: tuple[str, ...] = ("fc1",)

    def narrow(self: Any, hidden: int | None, embed: int | None) -> State:
        parts = {name: getattr(self, name).narrow(hidden, embed) for name in self.readers}
        return join(parts | {"norm": narrow(self.norm, hidden), "fc2": self.fc2.narrow(embed, hidden)})

    def units(self: Any, x: Tensor, hidden: int | None) -> Tensor:
        out: Tensor = self.act(self.fc1(x, hidden))
        return out

    def forward(self: Any, x: Tensor, hidden: Width | None = None, masking: Masking = EXACT) -> Tensor:
        if hidden is None:
            whole: Tensor = super().forward(x)
            return whole
        inner = normalise_units(self.norm, self.drop1(self.units(x, slice_width(hidden))), hidden, masking)
        gate = hidden[0] if isinstance(hidden, Tensor) and not masking.skipped_bias else None
        inner = fill_closed(inner, hidden, self.fc2, 1.0 if isinstance(hidden, int) else hidden[0])
        out: Tensor = self.drop2(self.fc2(inner, x.shape[-1], gate))
        return out


class NestedMlp(HiddenLayer, Mlp):
    """Two linear layers."""


class NestedGluMlp(HiddenLayer, GluMlp):
    """A gated MLP; the first layer has the rows of values and gates one after the other."""

    def narrow(self: Any, hidden: int | None, embed: int | None) -> State:
        fc1 = self.fc1.narrow(None, embed)
        rows = {f"fc1.{name}": prefix(v.unflatten(0, (2, -1)), hidden, 1).flatten(0, 1) for name, v in fc1.items()}
        return rows | join({"norm": narrow(self.norm, hidden), "fc2": self.fc2.narrow(embed, hidden)})

    def units(self: Any, x: Tensor, hidden: int | None) -> Tensor:
        part = self.narrow(hidden, x.shape[-1])
        first, second = F.linear(x, part["fc1.weight"], part.get("fc1.bias")).chunk(2, -1)
        out: Tensor = first * self.act(second) if self.gate_last else self.act(first) * second
        return out


class NestedSwiGLU(HiddenLayer, SwiGLU):
    """A gated MLP with a layer each for gates and values."""

    readers = ("fc1_g", "fc1_x")

    def units(self: Any, x: Tensor, hidden: int | None) -> Tensor:
        out: Tensor = self.act(self.fc1_g(x, hidden)) * self.fc1_x(x, hidden)
        return out


class ResidualBlock(nn.Module):
    """The nested forward of timm's pre-norm blocks. Either branch can be skipped; a skipped branch costs and adds
    nothing.
    """

    def narrow(self: Any, embed: int, heads: int, hidden: int) -> State:
        branches = {"norm1": (embed,), "attn": (heads, embed)} if heads else {}
        branches |= {"norm2": (embed,), "mlp": (hidden, embed)} if hidden else {}
        state = join({name: narrow(getattr(self, name), *widths) for name, widths in branches.items()})
        scales: State = self.narrow_scales(embed, [branch for branch, width in ((1, heads), (2, hidden)) if width])
        return state | scales

    def forward(
        self: Any,
        x: Tensor,
        embed: Width | None = None,
        heads: Width = 0,
        hidden: Width = 0,
        keep: Tensor | None = None,
        masking: Masking = EXACT,
        positions: Tensor | None = None,
        **timm: Any,
    ) -> Tensor:
        """``x``: (b, tokens, embed). ``keep``: (2, b, 1, 1) stochastic-depth factors of the two branches, or none.
        ``positions``: rotary ones, for the attention that has them.
        """
        if embed is None:
            whole: Tensor = super().forward(x, **timm)
            return whole
        if isinstance(heads, Tensor) or heads:
            rotary = {} if positions is None else {"rope": positions}
            normal = fill_closed(self.norm1(x, embed, masking), embed, getattr(self.attn, "qkv", None))
            out = residual(self.scale(1, self.attn(normal, heads, masking, **rotary)), embed, masking)
            x = x + (out if keep is None else out * keep[0])
        if isinstance(hidden, Tensor) or hidden:
            normal = fill_closed(self.norm2(x, embed, masking), embed, getattr(self.mlp, "fc1", None))
            out = residual(self.scale(2, self.mlp(normal, hidden, masking)), embed, masking)
            x = x + (out if keep is None else out * keep[1])
        return x


class NestedBlock(ResidualBlock, Block):
    """timm's block, whose scales of channels are modules."""

    def narrow_scales(self, embed: int, branches: list[int]) -> State:
        return join({f"ls{branch}": narrow(getattr(self, f"ls{branch}"), embed) for branch in branches})

    def scale(self, branch: int, x: Tensor) -> Tensor:
        out: Tensor = getattr(self, f"ls{branch}")(x)
        return out
