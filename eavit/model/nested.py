"""The only file that slices or masks weights: modules whose widths are chosen at each call.

Every module holds the full weights under timm's names. ``narrow`` gives the prefix of its parameters for some widths,
and is the one place that says what a width means; the sliced forward and :func:`eavit.extract` both use it. A forward
takes a width as an int (sliced) or as a tensor of gates (masked, differentiable); at 0/1 gates both agree: LayerNorm
statistics run over kept channels only, and a skipped branch adds no bias. (Unless a masking of another kind comes with
the gates: :class:`eavit.model.gates.Masking`.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eavit.model.gates import EXACT, Masking

State = dict[str, Tensor]
Width = int | Tensor  # kept units, or one gate for each unit


def _state(**parameters: Tensor | None) -> State:
    return {name.replace("__", "."): value for name, value in parameters.items() if value is not None}


def joined(parts: dict[str, State]) -> State:
    """One state from those of named parts, keys as ``<part>.<key>``."""
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def first(parameter: Tensor, width: int | None, dim: int = 0) -> Tensor:
    """The first ``width`` units along ``dim``. A full slice is the parameter itself: slicing has a backward pass that
    fills and copies a whole tensor at every step.
    """
    if width is None or width >= parameter.shape[dim]:
        return parameter
    return parameter.narrow(dim, 0, width)


def narrow_last(parameter: Tensor, width: int) -> Tensor:
    """The first ``width`` channels of tokens, positions or LayerScale."""
    return first(parameter, width, -1)


def kept(width: Width) -> int | None:
    """The slice of a width: an int is itself, gates keep everything."""
    return width if isinstance(width, int) else None


def masked(x: Tensor, width: Width) -> Tensor:
    """Gates scale the last axis; an int has been applied by slicing already."""
    return x if isinstance(width, int) else x * width


def streamed(x: Tensor, width: Width, masking: Masking) -> Tensor:
    """What goes on in the residual stream."""
    return x if masking.norm_over == "all" else masked(x, width)


class Linear(nn.Linear):
    """A layer whose first ``out`` rows and first ``into`` columns are used."""

    def narrow(self, out: int | None, into: int | None) -> State:
        weight = first(first(self.weight, out), into, 1)
        return _state(weight=weight, bias=None if self.bias is None else first(self.bias, out))

    def forward(self, x: Tensor, out: int | None = None, bias_gate: Tensor | None = None) -> Tensor:
        part = self.narrow(out, x.shape[-1])
        bias = part.get("bias")
        if bias is not None and bias_gate is not None:
            bias = bias * bias_gate
        return F.linear(x, part["weight"], bias)


class LayerNorm(nn.LayerNorm):
    """Normalises over the kept channels only."""

    def narrow(self, width: int | None) -> State:
        return _state(weight=first(self.weight, width), bias=first(self.bias, width))

    def forward(self, x: Tensor, width: Width, masking: Masking = EXACT) -> Tensor:  # type: ignore[override]
        if isinstance(width, int):
            part = self.narrow(width)
            return F.layer_norm(x, (width,), part["weight"], part["bias"], self.eps)
        if masking.norm_over == "all":
            return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps) * width
        share = width / width.sum()
        centred = x - (x * share).sum(-1, keepdim=True)
        variance = (centred.square() * share).sum(-1, keepdim=True)
        normal = centred * torch.rsqrt(variance + self.eps)
        return (normal * self.weight + self.bias) * width


class LayerScale(nn.Module):
    """timm's ``ls1``/``ls2``: one factor for each channel."""

    def __init__(self, embed: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(embed))

    def narrow(self, width: int | None) -> State:
        return _state(gamma=first(self.gamma, width))

    def forward(self, x: Tensor) -> Tensor:
        return x * narrow_last(self.gamma, x.shape[-1])


class Identity(nn.Module):
    """Stands where a backbone has no such norm or scale."""

    def narrow(self, width: int | None) -> State:
        return {}

    def forward(self, x: Tensor, width: Width | None = None, masking: Masking = EXACT) -> Tensor:
        return x


class PatchEmbed(nn.Module):
    """Images (b, c, h, w) to tokens (b, patches, embed) and the grid they came from."""

    def __init__(self, channels: int, embed: int, patch: tuple[int, int], bias: bool, pad: bool) -> None:
        super().__init__()
        self.patch = patch
        self.pad = pad
        self.proj = nn.Conv2d(channels, embed, patch, stride=patch, bias=bias)

    def narrow(self, width: int | None) -> State:
        bias = self.proj.bias
        weight = first(self.proj.weight, width)
        return _state(proj__weight=weight, proj__bias=None if bias is None else first(bias, width))

    def forward(self, images: Tensor, width: Width) -> tuple[Tensor, tuple[int, int]]:
        if self.pad:
            high, wide = (-size % step for size, step in zip(images.shape[-2:], self.patch, strict=True))
            images = F.pad(images, (0, wide, 0, high))
        part = self.narrow(kept(width))
        x = F.conv2d(images, part["proj.weight"], part.get("proj.bias"), stride=self.patch)
        return x.flatten(2).transpose(1, 2), (x.shape[-2], x.shape[-1])


class Attention(nn.Module):
    """Multi-head self-attention, elastic in whole heads. qkv rows are ordered (3, heads, head_dim), as in timm."""

    def __init__(
        self, embed: int, heads: int, head_dim: int, qkv_bias: bool, proj_bias: bool, norm_eps: float | None
    ) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv = Linear(embed, 3 * heads * head_dim, bias=qkv_bias)
        self.q_norm = nn.Identity() if norm_eps is None else nn.LayerNorm(head_dim, norm_eps)
        self.k_norm = nn.Identity() if norm_eps is None else nn.LayerNorm(head_dim, norm_eps)
        self.proj = Linear(heads * head_dim, embed, bias=proj_bias)

    def narrow(self, heads: int | None, embed: int | None) -> State:
        into = embed if embed is not None else self.qkv.in_features
        width = (heads if heads is not None else self.heads) * self.head_dim
        weight = first(first(self.qkv.weight, into, 1).unflatten(0, (3, -1)), width, 1).flatten(0, 1)
        bias = None if self.qkv.bias is None else first(self.qkv.bias.unflatten(0, (3, -1)), width, 1).flatten()
        norms = {name: dict(getattr(self, name).named_parameters()) for name in ("q_norm", "k_norm")}
        return _state(qkv__weight=weight, qkv__bias=bias) | joined(norms | {"proj": self.proj.narrow(embed, width)})

    def forward(self, x: Tensor, heads: Width) -> Tensor:
        batch, tokens, embed = x.shape
        part = self.narrow(kept(heads), embed)
        qkv = F.linear(x, part["qkv.weight"], part.get("qkv.bias"))
        q, k, v = qkv.view(batch, tokens, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        bias = part.get("proj.bias")
        if isinstance(heads, Tensor):
            seen = seen * heads[:, None, None]
            bias = None if bias is None else bias * heads[0]
        return F.linear(seen.transpose(1, 2).flatten(2), part["proj.weight"], bias)


class Mlp(nn.Module):
    """Two linear layers, elastic in hidden neurons."""

    def __init__(self, embed: int, hidden: int, bias: bool, act: nn.Module) -> None:
        super().__init__()
        self.fc1 = Linear(embed, hidden, bias=bias)
        self.act = act
        self.fc2 = Linear(hidden, embed, bias=bias)

    def narrow(self, hidden: int | None, embed: int | None) -> State:
        parts = {"fc1": self.fc1.narrow(hidden, embed), "fc2": self.fc2.narrow(embed, hidden)}
        return joined(parts)

    def forward(self, x: Tensor, hidden: Width, masking: Masking = EXACT) -> Tensor:
        inner = masked(self.act(self.fc1(x, kept(hidden))), hidden)
        gate = hidden[0] if isinstance(hidden, Tensor) and not masking.skipped_bias else None
        out: Tensor = self.fc2(inner, x.shape[-1], gate)
        return out


class Block(nn.Module):
    """One pre-norm transformer block. Either branch can be skipped; a skipped branch costs and adds nothing."""

    def __init__(self, embed: int, norm_eps: float, attn: Attention, mlp: Mlp, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = LayerNorm(embed, norm_eps)
        self.attn = attn
        self.ls1 = LayerScale(embed) if layer_scale else Identity()
        self.norm2 = LayerNorm(embed, norm_eps)
        self.mlp = mlp
        self.ls2 = LayerScale(embed) if layer_scale else Identity()

    def narrow(self, embed: int, heads: int, hidden: int) -> State:
        parts: dict[str, State] = {}
        if heads:
            parts |= {
                "norm1": self.norm1.narrow(embed),
                "attn": self.attn.narrow(heads, embed),
                "ls1": self.ls1.narrow(embed),
            }
        if hidden:
            parts |= {
                "norm2": self.norm2.narrow(embed),
                "mlp": self.mlp.narrow(hidden, embed),
                "ls2": self.ls2.narrow(embed),
            }
        return joined(parts)

    def forward(
        self,
        x: Tensor,
        embed: Width,
        heads: Width,
        hidden: Width,
        keep: Tensor | None = None,
        masking: Masking = EXACT,
    ) -> Tensor:
        """``x``: (b, tokens, embed). ``keep``: (2, b, 1, 1) stochastic-depth factors of the two branches, or none."""
        if isinstance(heads, Tensor) or heads:
            out = streamed(self.ls1(self.attn(self.norm1(x, embed, masking), heads)), embed, masking)
            x = x + (out if keep is None else out * keep[0])
        if isinstance(hidden, Tensor) or hidden:
            out = streamed(self.ls2(self.mlp(self.norm2(x, embed, masking), hidden, masking)), embed, masking)
            x = x + (out if keep is None else out * keep[1])
        return x
