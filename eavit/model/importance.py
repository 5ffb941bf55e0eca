"""Score heads, neurons and channels, and sort weights by the scores without changing the full model's function.

Nested submodels keep prefixes, so what matters most must come first. Three permutations leave the full model as it is:
heads of a layer (q, k, v row groups and proj columns), neurons of a layer (fc1 rows, fc2 columns), and ONE order of the
channels of the residual stream (everything that reads or writes it).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eavit.model.arguments import described
from eavit.model.inputs import Batches, images_and_labels, last_norm, pieces_of, readers, watch_inputs, writers
from eavit.model.objective import label_loss, wide
from eavit.model.submodel import Backbone
from eavit.model.timm_layout import copy_with, hidden_layers, query_layers
from eavit.model.vit import NestedViT, extract
from eavit.options import nearest_hint

Loss = Callable[[Tensor, Tensor], Tensor]
UNITS = ("channels", "heads", "neurons")  # in the order of a :class:`Scores`

# The units that each dimension of a parameter or statistic counts, by its name without the layer. Queries, keys and
# values, or gates and values, may follow each other along one dimension.
_UNITS: tuple[tuple[re.Pattern[str], tuple[str | None, ...]], ...] = tuple(
    (re.compile(names), units)
    for names, units in (
        (r"patch_embed\.proj\.\w+|(norm_pre|norm|fc_norm|norm[12]|ls[12])\.\w+|gamma_[12]", ("channels",)),
        (r"(attn\.qkv|mlp\.fc1|head)\.input_mean", ("channels",)),
        (r"attn\.proj\.input_mean", ("heads",)),
        (r"mlp\.fc2\.input_mean", ("neurons",)),
        (r"(attn\.proj|mlp\.fc2)\.bias", ("channels",)),
        (r"attn\.(qkv|[qkv]_proj)\.weight", ("heads", "channels")),
        (r"attn\.((qkv|[qkv]_proj)\.bias|[qv]_bias|norm\.\w+)", ("heads",)),
        (r"attn\.proj\.weight", ("channels", "heads")),
        (r"mlp\.fc1(_[gx])?\.weight", ("neurons", "channels")),
        (r"mlp\.(fc1(_[gx])?\.bias|norm\.\w+)", ("neurons",)),
        (r"mlp\.fc2\.weight", ("channels", "neurons")),
        (r"head(_dist)?\.weight", (None, "channels")),
        (r"(cls|reg|dist)_token|pos_embed", (None, None, "channels")),
    )
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Importance of each unit; larger is kept longer."""

    channels: Tensor  # (embed,)
    heads: Tensor  # (depth, heads)
    neurons: Tensor  # (depth, hidden)

    @classmethod
    def equal(cls, backbone: Backbone) -> Scores:
        """Scores of 1 for all units, in the place of those that are not known yet."""
        b = backbone
        return cls(torch.ones(b.embed), torch.ones(b.depth, b.heads), torch.ones(b.depth, b.mlp))


def _zeros(vit: NestedViT) -> Scores:
    b, like = vit.backbone, wide(next(vit.parameters()))
    return Scores(like.new_zeros(b.embed), like.new_zeros(b.depth, b.heads), like.new_zeros(b.depth, b.mlp))


def _loss_of(vit: NestedViT, loss: Loss | None, metric: str) -> Loss:
    """The loss to score by: that of the labels, unless another is given."""
    if loss is not None:
        return loss
    if not vit.backbone.num_classes:
        raise ValueError(
            f"metric {metric!r}: the model has no head (num_classes=0), so its outputs and the labels give no loss; "
            "pass loss=..., or use the metric activation, l2 or none"
        )
    return label_loss


def _norms(model: nn.Module) -> list[Any]:
    """LayerNorms over the residual stream (not those inside attention or MLP)."""
    inside = re.compile(r"\.(attn|mlp)\.")
    return [m for name, m in model.named_modules() if isinstance(m, nn.LayerNorm) and not inside.search(name)]


def _effect(weight: Tensor, dim: int | None = 0) -> Tensor:
    """First-order change of the loss when units are removed: weight times gradient, summed over what leaves."""
    product = wide(weight.detach()) * (weight.grad if weight.grad is not None else torch.zeros_like(weight))
    return product if dim is None else product.sum(dim)


@torch.enable_grad()
def taylor(vit: NestedViT, batches: Batches, loss: Loss | None = None, micro_batch: int = 0) -> Scores:
    """|First-order Taylor effect| of removing each unit, summed over batches (Molchanov et al., 2019, on whole units).

    A head leaves with its proj columns, a neuron with its fc2 column, a channel with its scale and shift in every norm.
    """
    scores, model = _zeros(vit), extract(vit, vit.backbone.full).eval().requires_grad_()
    blocks: Any = model.blocks
    loss = _loss_of(vit, loss, "taylor")
    for images, labels in images_and_labels(vit, batches):
        model.zero_grad(set_to_none=True)
        for some, theirs in pieces_of(images, labels, micro_batch):
            (loss(model(some), theirs) * (len(some) / len(images))).backward()
        for norm in _norms(model):
            scores.channels.add_((_effect(norm.weight, None) + _effect(norm.bias, None)).abs())
        for layer, block in enumerate(blocks):
            heads = _effect(block.attn.proj.weight).view(vit.backbone.heads, -1).sum(-1)
            scores.heads[layer] += heads.abs()
            scores.neurons[layer] += _effect(block.mlp.fc2.weight).abs()
    return scores


def activation(vit: NestedViT, batches: Batches, loss: Loss | None = None, micro_batch: int = 0) -> Scores:
    """L2 norm of what each unit hands on: head outputs, hidden activations, normalised channels."""
    scores, model = _zeros(vit), extract(vit, vit.backbone.full).eval()
    blocks: Any = model.blocks
    embed = vit.backbone.embed

    def power(x: Tensor, groups: int) -> Tensor:
        return wide(x.detach()).flatten(0, -2).square().sum(0).view(groups, -1).sum(-1)

    def watch(into: Tensor, groups: int) -> Callable[..., None]:
        def add(_module: nn.Module, args: tuple[Tensor, ...], *_: Any) -> None:
            into.add_(power(args[0], groups))

        return add

    hooks = [
        norm.register_forward_hook(lambda _m, _a, out: watch(scores.channels, embed)(_m, (out,)))
        for norm in _norms(model)
    ]
    for layer, block in enumerate(blocks):
        hooks.append(block.attn.proj.register_forward_pre_hook(watch(scores.heads[layer], vit.backbone.heads)))
        hooks.append(block.mlp.fc2.register_forward_pre_hook(watch(scores.neurons[layer], vit.backbone.mlp)))
    with torch.no_grad():
        for images, _ in images_and_labels(vit, batches, micro_batch):
            model(images)
    for hook in hooks:
        hook.remove()
    return Scores(scores.channels.sqrt(), scores.heads.sqrt(), scores.neurons.sqrt())


def l2(vit: NestedViT, batches: Batches = (), loss: Loss | None = None, micro_batch: int = 0) -> Scores:
    """Norm of each unit's weights, in times out; needs no data."""
    scores = _zeros(vit)
    blocks: Any = vit.blocks

    def power(layer: Any, dim: int) -> Tensor:
        return wide(layer.weight).square().sum(dim)

    with torch.no_grad():
        for layer, block in enumerate(blocks):
            attn, mlp, b = block.attn, block.mlp, vit.backbone
            queries, hidden = query_layers(attn), hidden_layers(mlp)
            rows = torch.cat([power(reader, 1) for reader in queries]).view(3, b.heads, -1).sum((0, 2))
            columns = power(attn.proj, 0).view(b.heads, -1).sum(-1)
            scores.heads[layer] = (rows * columns).sqrt()
            into = torch.cat([power(reader, 1) for reader in hidden]).view(-1, b.mlp).sum(0)
            scores.neurons[layer] = (into * power(mlp.fc2, 0)).sqrt()
            for reader in (*queries, *hidden):
                scores.channels.add_(power(reader, 0))
            for writer in (attn.proj, mlp.fc2):
                scores.channels.add_(power(writer, 1))
    return Scores(scores.channels.sqrt(), scores.heads, scores.neurons)


def none(vit: NestedViT, batches: Batches = (), loss: Loss | None = None, micro_batch: int = 0) -> Scores:
    """Equal scores: the pretrained order stays."""
    return _zeros(vit)


def variance(vit: NestedViT, batches: Batches, loss: Loss | None = None, micro_batch: int = 0) -> Scores:
    """Error that the mean of each unit makes in its place (:mod:`eavit.model.calibration`): the variance that it adds,
    as a share of that of the whole stream, summed over all layers that read it later. So units of all kinds compare.
    """
    b = vit.backbone
    norms = [*(f"blocks.{i}.{name}" for i in range(b.depth) for name in ("norm1", "norm2")), last_norm(vit)]
    layers = readers(vit) | writers(vit)
    inputs = watch_inputs(vit, batches, [*layers, *norms], micro_batch=micro_batch)

    def effect(name: str) -> Tensor:
        return inputs[name].variance * layers[name].weight.detach().double().square().sum(0)

    shares = [effect(name) for name in readers(vit)]
    channels = torch.stack([share / share.sum().clamp_min(1e-300) for share in shares]).sum(0)
    per_read = torch.stack([1 / inputs[name].variance.sum().clamp_min(1e-300) for name in norms])
    later = per_read.flip(0).cumsum(0).flip(0)  # of the norm itself and all after it
    heads = [effect(f"blocks.{i}.attn.proj").view(b.heads, -1).sum(-1) * later[2 * i + 1] for i in range(b.depth)]
    neurons = [effect(f"blocks.{i}.mlp.fc2") * later[2 * i + 2] for i in range(b.depth)]
    dtype = torch.promote_types(vit.patch_embed.proj.weight.dtype, torch.float32)
    return Scores(channels.to(dtype), torch.stack(heads).to(dtype), torch.stack(neurons).to(dtype))


METRICS: dict[str, Callable[..., Scores]] = {
    "taylor": taylor,
    "activation": activation,
    "l2": l2,
    "variance": variance,
    "none": none,
}
PASSES = {
    "taylor": (1, 2),
    "activation": (1, 0),
    "l2": (0, 0),
    "variance": (1, 0),
    "none": (0, 0),
}  # forward and backward, in full passes


def score(
    vit: NestedViT, batches: Batches, metric: str = "taylor", loss: Loss | None = None, micro_batch: int = 0
) -> Scores:
    """Scores by one of ``METRICS``; ``micro_batch``: most images that run at once, 0 for all of a batch."""
    if not isinstance(vit, NestedViT):
        raise TypeError(f"vit is {described(vit)}; must be a nested ViT, as NestedViT.from_timm(model) makes it")
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(
            f"metric {metric!r} is unknown; allowed: {', '.join(METRICS)}{nearest_hint(str(metric), METRICS)}"
        )
    if not (loss is None or callable(loss)):
        raise TypeError(
            f"loss is {described(loss)}; must be a function of (outputs, labels), or None for cross-entropy"
        )
    return METRICS[metric](vit, batches, loss=loss, micro_batch=micro_batch)


def _units_of(name: str) -> tuple[str | None, ...]:
    return next((units for names, units in _UNITS if names.fullmatch(name)), ())


def permuted(
    state: Mapping[str, Tensor], backbone: Backbone, channels: Tensor, heads: Tensor, neurons: Tensor
) -> dict[str, Tensor]:
    """Parameters, and statistics of a calibration, by timm's keys with unit i the old unit ``order[i]``: channels
    (embed,), heads (depth, heads) and neurons (depth, hidden). Differentiable; what has no such units stays as it is.
    """
    within = torch.arange(backbone.head_dim, device=heads.device)
    rows = (heads[..., None] * backbone.head_dim + within).flatten(1)
    new = dict(state)
    for name in state:
        layer = re.match(r"blocks\.(\d+)\.", name)
        index = int(layer[1]) if layer else 0
        orders = {"channels": channels, "heads": rows[index], "neurons": neurons[index]}
        for dim, unit in enumerate(_units_of(name[layer.end() :] if layer else name)):
            if unit is not None:
                parts = new[name].unflatten(dim, (-1, len(orders[unit])))
                new[name] = parts.index_select(dim + 1, orders[unit]).flatten(dim, dim + 1)
    return new


def permute(vit: NestedViT, channels: Tensor, heads: Tensor, neurons: Tensor) -> NestedViT:
    """A copy of ``vit`` whose unit i is the old unit ``order[i]``: channels (embed,), heads (depth, heads) and neurons
    (depth, hidden). Its full-width function is that of ``vit``. Without a head, features come out in the new order.
    """
    return copy_with(vit, permuted(tensors_of(vit), vit.backbone, channels, heads, neurons))


def tensors_of(vit: NestedViT) -> dict[str, Tensor]:
    """Parameters and buffers by name, as they are."""
    return {**dict(vit.named_parameters()), **dict(vit.named_buffers())}


def reversed_units(vit: NestedViT) -> tuple[Tensor, Tensor, Tensor]:
    """Orders of channels, heads and neurons from the last to the first: prefixes of what is permuted by them are the
    tails of ``vit``.
    """
    b, device = vit.backbone, next(vit.parameters()).device
    channels, heads, neurons = (torch.arange(n, device=device).flip(0) for n in (b.embed, b.heads, b.mlp))
    return channels, heads.expand(b.depth, -1), neurons.expand(b.depth, -1)


def sorted_by(vit: NestedViT, scores: Scores, units: Collection[str] = UNITS) -> NestedViT:
    """A copy of ``vit`` with the most important of these units first and the same function at full width. Ties keep
    their order. FloatingPointError where a score is not finite.
    """
    values: dict[str, Tensor] = {name: getattr(scores, name) for name in UNITS}
    bad = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if bad:
        raise FloatingPointError(
            f"importance of {', '.join(bad)} is not finite; check the weights (pretrained, or of a training before it "
            "that diverged) and the images"
        )

    def order(name: str, value: Tensor) -> Tensor:
        if name in units:
            return torch.argsort(value, dim=-1, descending=True, stable=True)
        return torch.arange(value.shape[-1], device=value.device).expand(value.shape)

    return permute(vit, *(order(name, value) for name, value in values.items()))


def sort_by_importance(vit: NestedViT, batches: Batches, metric: str = "taylor", loss: Loss | None = None) -> NestedViT:
    """A copy of ``vit`` with the most important units first and the same function at full width.

    ``batches`` yields ``(images, labels)`` from the fit split; ``metric`` is ``taylor`` (default), ``activation``,
    ``l2``, ``variance`` (plain ViTs alone) or ``none``; ``loss`` of (outputs, labels), for ``taylor``, is the
    cross-entropy by default. Ties keep the pretrained order.
    """
    return sorted_by(vit, score(vit, batches, metric, loss))
