"""The nested ViT: in from timm, forward at any widths, out to a plain timm model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from timm.layers import DropPath, resample_abs_pos_embed
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eavit.model import nested, nesting
from eavit.model.arguments import check_images, described
from eavit.model.attributes import implied_by_shapes, timm_class
from eavit.model.gates import EXACT, Gates, Masking
from eavit.model.narrow_parts import allow_any_width, cut_branches
from eavit.model.submodel import Backbone, Submodel
from eavit.model.timm_layout import (
    NESTABLE,
    CannotNestError,
    copy_with,
    faults_of,
    read_backbone,
    uncopyable,
)


def masking_of(widths: Submodel | Gates) -> Masking:
    """Behaviour of closed gates; a submodel has none."""
    return widths.masking if isinstance(widths, Gates) else EXACT


class NestedViT(VisionTransformer):
    """A timm ViT whose widths are an argument of the call.

    ``vit(images)`` is the full model, ``vit(images, submodel)`` the sliced one and ``vit(images, gates)`` the masked,
    differentiable one. Images are (b, c, h, w), logits (b, classes), or features (b, kept channels) with no head.
    Nothing is switched on the module before a call. Everything else of a timm ViT (weights and their names, attributes,
    ``forward_features``, ``no_weight_decay``, ``set_grad_checkpointing``, ...) is timm's, at full width.
    """

    plain_type: type[nn.Module]
    prefix_names: tuple[str, ...] = ("cls_token", "reg_token")
    head_names: tuple[str, ...] = ("head",)

    @classmethod
    def from_timm(cls, model: nn.Module) -> NestedViT:
        """Nest a copy of any plain timm ``VisionTransformer`` or ``Eva``; refuses others with :class:`CannotNestError`,
        naming each part. Of a model that ``torch.compile`` wrapped, the wrapped one is taken.
        """
        model = getattr(model, "_orig_mod", model)
        if not isinstance(model, nn.Module) or isinstance(model, cls):
            kind = "a nested ViT already" if isinstance(model, cls) else described(model)
            raise TypeError(f"model is {kind}; must be a timm VisionTransformer, as timm.create_model makes it")
        faults = faults_of(model) or _clashes(model)
        if faults:
            lines = "\n  ".join(faults)
            raise CannotNestError(f"this backbone cannot be nested:\n  {lines}\n(plain ViTs can: {NESTABLE})")
        try:
            vit = nesting.nest(copy_with(model, dict(model.named_parameters())))
        except Exception as error:
            raise CannotNestError(f"this backbone cannot be copied: {uncopyable(model)}") from error
        vars(vit)["plain_type"] = type(vit)
        vit.__class__ = OTHERS.get(timm_class(model), cls)
        return cast(NestedViT, vit)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, nesting.nest(value) if isinstance(value, nn.Module) else value)

    @property
    def backbone(self) -> Backbone:
        """Full widths, as the weights are now."""
        return read_backbone(self)

    @property
    def drop_path(self) -> tuple[float, ...]:
        """Stochastic-depth rate of each layer, used in training."""
        return tuple(float(getattr(block.drop_path1, "drop_prob", 0.0)) for block in self.blocks)

    @drop_path.setter
    def drop_path(self, rates: Sequence[float]) -> None:
        for block, rate in zip(self.blocks, rates, strict=True):
            for name in ("drop_path1", "drop_path2"):
                setattr(block, name, DropPath(rate).train(block.training) if rate > 0 else nn.Identity())

    def forward(
        self, images: Tensor, widths: Submodel | Gates | str | None = None, drop_path: Sequence[float] | None = None
    ) -> Tensor:
        """``drop_path``: stochastic-depth rates of this call alone, none if empty; by default the module's own."""
        widths = self._widths(widths)
        (last,) = deque(self._states(images, widths, drop_path), maxlen=1)
        logits: Tensor = self._logits(last, widths)
        return logits

    def hidden(
        self, images: Tensor, widths: Submodel | str | None = None, drop_path: Sequence[float] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits, and the tokens (b, tokens, channels) that enter the first block and leave each one."""
        submodel = self._widths(widths)
        states = tuple(self._states(images, submodel, drop_path))
        return self._logits(states[-1], submodel), states

    def _widths(self, widths: Submodel | Gates | str | None) -> Submodel | Gates:
        if isinstance(widths, Gates):
            widths.check(self.backbone)
            if widths.embed.device != self.patch_embed.proj.weight.device:
                raise ValueError(
                    f"gates are on {widths.embed.device}, the model is on another device; move one of them"
                )
            return widths
        return self.backbone.full if widths is None else self.backbone.check(widths)

    def _logits(self, x: Tensor, widths: Submodel | Gates) -> Any:
        embed, masking = widths.embed, masking_of(widths)
        x = self.pool(nested.normalise(self.norm, x, embed, masking))
        x = self.head_drop(nested.normalise(self.fc_norm, x, embed, masking))
        logits: Tensor = self.head(nested.fill_closed(x, embed, self.head))
        return logits

    def _states(self, images: Tensor, widths: Submodel | Gates, drop_path: Sequence[float] | None) -> Iterator[Tensor]:
        embed, masking = widths.embed, masking_of(widths)
        x, rotary = self._stem(images, embed, masking)
        yield x
        keep = self._draw_paths(x, drop_path)
        saving = self.grad_checkpointing and torch.is_grad_enabled()
        for layer, block in enumerate(self.blocks):
            drawn = None if keep is None else keep[layer]
            call = (x, embed, widths.heads[layer], widths.mlp[layer], drawn, masking, rotary)
            x = checkpoint(block, *call, use_reentrant=False) if saving else block(*call)
            yield x

    def _stem(self, images: Tensor, embed: nested.Width, masking: Masking) -> tuple[Tensor, Tensor | None]:
        """Tokens that enter the first block, and their rotary positions if there are any."""
        check_images(images, self.patch_embed.proj.in_channels, self.patch_embed.proj.weight)
        self._check_size(images)
        width = nested.slice_width(embed)
        x, grid = self.patch_embed(images, embed)
        tokens = [nested.prefix(t, width, -1) for name in self.prefix_names if (t := getattr(self, name)) is not None]
        tokens = [t.expand(x.shape[0], -1, -1) for t in tokens]
        position = self._positions(width, grid)
        if self.no_embed_class and position is not None:
            x, position = x + position, None
        x = torch.cat([*tokens, x], dim=1) if tokens else x
        x = x if position is None else x + position
        x = self._drop_positions(x)
        x = nested.normalise(self.norm_pre, nested.residual(x, embed, masking), embed, masking)
        return x, self._rotary_positions(grid)

    def _drop_positions(self, x: Tensor) -> Tensor:
        out: Tensor = x if self.pos_embed is None else self.pos_drop(x)
        return out

    def _rotary_positions(self, grid: tuple[int, int]) -> Tensor | None:
        return None

    def _check_size(self, images: Tensor) -> None:
        size, stem = tuple(images.shape[-2:]), self.patch_embed
        if not self.dynamic_img_size and size != tuple(stem.img_size):
            raise ValueError(f"images are {size}, the backbone takes {stem.img_size}; build it with that img_size")
        whole = all(s % p == 0 for s, p in zip(size, stem.patch_size, strict=True))
        if self.dynamic_img_size and not stem.dynamic_img_pad and not whole:
            raise ValueError(
                f"images are {size}, no whole number of patches of {stem.patch_size}; resize them, or build the "
                "backbone with dynamic_img_pad=True"
            )

    def _positions(self, width: int | None, grid: tuple[int, int]) -> Tensor | None:
        if self.pos_embed is None:
            return None
        table, table_grid = nested.prefix(self.pos_embed, width, -1), self.patch_embed.grid_size
        if grid == table_grid:
            return table
        count = 0 if self.no_embed_class else self.num_prefix_tokens
        resized: Tensor = resample_abs_pos_embed(table, list(grid), list(table_grid), num_prefix_tokens=count)
        return resized

    def _draw_paths(self, x: Tensor, rates: Sequence[float] | None = None) -> Tensor | None:
        """Stochastic-depth factors (depth, 2, b, 1, 1). Drawn for skipped branches too, so that sliced and masked
        forwards of one seed see the same draws.
        """
        rates = self.drop_path if rates is None else tuple(rates)
        if rates and not (len(rates) == len(self.blocks) and all(0 <= rate <= 1 for rate in rates)):
            raise ValueError(f"drop_path={rates} must be {len(self.blocks)} rates in 0..1, one for each layer, or none")
        if not self.training or not any(rates):
            return None
        stay = 1 - torch.tensor(rates, dtype=x.dtype, device=x.device)
        stay = stay.view(-1, 1, 1, 1, 1).expand(-1, 2, x.shape[0], 1, 1)
        return torch.bernoulli(stay) / stay.clamp_min(1e-9)


class NestedDistilledViT(VisionTransformerDistilled, NestedViT):
    """DeiT with a distillation token: the mean of both heads' logits, or both in training that asks for it."""

    prefix_names = ("cls_token", "dist_token")
    head_names = ("head", "head_dist")

    def _logits(self, x: Tensor, widths: Submodel | Gates) -> Any:
        x = nested.normalise(self.norm, x, widths.embed, masking_of(widths))
        logits, distilled = self.head(self.head_drop(x[:, 0])), self.head_dist(self.head_drop(x[:, 1]))
        return (logits, distilled) if self.distilled_training and self.training else (logits + distilled) / 2


class NestedEva(Eva, NestedViT):
    """EVA and DINOv3: rotary positions, and blocks of their own (:mod:`eavit.model.nested_eva`)."""

    forward = NestedViT.forward

    def _drop_positions(self, x: Tensor) -> Tensor:
        out: Tensor = self.pos_drop(x)
        return out

    def _rotary_positions(self, grid: tuple[int, int]) -> Tensor | None:
        if self.rope is None:
            return None
        positions: Tensor = self.rope.get_embed(grid) if self.dynamic_img_size else self.rope.get_embed()
        return positions


OTHERS: dict[type[nn.Module], type[NestedViT]] = {VisionTransformerDistilled: NestedDistilledViT, Eva: NestedEva}


def _clashes(model: nn.Module) -> list[str]:
    """Attributes of a timm model under names that a nested ViT uses itself."""
    used = {name for name in vars(NestedViT) if not hasattr(timm_class(model), name)} | {"plain_type"}
    return [f"{name}: a nested ViT has an attribute of this name; rename yours" for name in vars(model) if name in used]


def _narrow(vit: NestedViT, submodel: Submodel) -> nested.State:
    """The parameters of a submodel by their names in the nested ViT."""
    embed = submodel.embed
    parts = {name: nested.narrow(getattr(vit, name), embed) for name in ("patch_embed", "norm_pre", "norm", "fc_norm")}
    parts |= {name: nested.narrow(getattr(vit, name), None, embed) for name in vit.head_names}
    for layer, block in enumerate(vit.blocks):
        parts[f"blocks.{layer}"] = block.narrow(embed, submodel.heads[layer], submodel.mlp[layer])
    tokens = {name: getattr(vit, name) for name in (*vit.prefix_names, "pos_embed")}
    prefixes = {name: nested.prefix(value, embed, -1) for name, value in tokens.items() if value is not None}
    return nested.join(parts) | prefixes


def extract(vit: NestedViT, submodel: Submodel | str) -> VisionTransformer:
    """A plain timm ``VisionTransformer`` of these widths with its own copy of the weights: what is timed and shipped.
    Of a nested ``Eva`` an ``Eva``.

    A block with one branch skipped is a timm block without that branch; one with both skipped is left out.
    Whatever else the source model had (attributes, flags, leaf types) is kept.
    """
    if not isinstance(vit, NestedViT):
        raise TypeError(f"vit is {described(vit)}; must be a nested ViT, as NestedViT.from_timm(model) makes it")
    submodel = vit.backbone.check(submodel)
    state = _narrow(vit, submodel)
    nothing = dict.fromkeys(dict(vit.named_parameters()).keys() - state, torch.empty(0))
    plain: Any = nesting.unnest(copy_with(vit, state | nothing))
    for layer in reversed(range(submodel.depth)):
        heads, hidden = submodel.heads[layer], submodel.mlp[layer]
        if heads or hidden:
            cut_branches(plain.blocks[layer], heads, hidden)
        else:
            del plain.blocks[layer]
    for part in plain.modules():
        for name, value in implied_by_shapes(part).items():
            setattr(part, name, value)
        allow_any_width(part)
    return cast(VisionTransformer, plain)
