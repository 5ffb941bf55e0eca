"""The nested ViT: in from timm, forward at any widths, out to a plain timm ``VisionTransformer``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch
from timm.layers import Attention as TimmAttention
from timm.layers import Mlp as TimmMlp
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer, global_pool_nlc
from torch import Tensor, nn

from eavit.model import nested
from eavit.model.gates import EXACT, Gates, Masking
from eavit.model.submodel import Backbone, Submodel
from eavit.model.timm_layout import AttentionBlock, CannotNestError, Layout, MlpBlock, backbone_of, faults_of, layout_of

Model = TypeVar("Model", bound=nn.Module)


def filled(model: Model, state: Mapping[str, Tensor]) -> Model:
    """A model built on the meta device, with a copy of ``state`` (every key) as its parameters."""
    copies = {key: value.detach().clone() for key, value in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return model.requires_grad_()


def masking_of(widths: Submodel | Gates | None) -> Masking:
    """How closed gates act; of a submodel there are none."""
    return widths.masking if isinstance(widths, Gates) else EXACT


class NestedViT(nn.Module):
    """A ViT whose widths are an argument of the call. Parameters have timm's names and the full shapes.

    ``vit(images)`` is the full model, ``vit(images, submodel)`` the sliced one and ``vit(images, gates)`` the masked,
    differentiable one. Images are (b, c, h, w), logits (b, classes), or features (b, kept channels) with no head.
    Nothing is switched on the module before a call.
    """

    def __init__(self, backbone: Backbone, layout: Layout, drop_path: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.backbone, self.layout = backbone, layout
        self.drop_path = drop_path or (0.0,) * backbone.depth  # stochastic-depth rate of each layer, used in training
        b = backbone
        self.patch_embed = nested.PatchEmbed(
            layout.in_chans, b.embed, layout.patch_size, b.patch_bias, layout.dynamic_img_pad
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, b.embed)) if layout.class_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, layout.reg_tokens, b.embed)) if layout.reg_tokens else None
        self.pos_embed = nn.Parameter(torch.zeros(1, b.position_tokens, b.embed)) if layout.position else None
        self.norm_pre = self._norm(layout.pre_norm)
        self.blocks = nn.ModuleList(self._block() for _ in range(b.depth))
        self.norm = self._norm(layout.final_norm and not layout.fc_norm)
        self.fc_norm = self._norm(layout.final_norm and layout.fc_norm)
        self.head = nested.Linear(b.embed, b.num_classes) if b.num_classes else nested.Identity()

    def _norm(self, present: bool) -> nn.Module:
        return nested.LayerNorm(self.backbone.embed, self.layout.norm_eps) if present else nested.Identity()

    def _block(self) -> nested.Block:
        b, layout = self.backbone, self.layout
        eps = layout.norm_eps if b.qk_norm else None
        attn = nested.Attention(b.embed, b.heads, b.head_dim, b.qkv_bias, b.proj_bias, eps)
        mlp = nested.Mlp(b.embed, b.mlp, b.proj_bias, deepcopy(layout.act))
        return nested.Block(b.embed, layout.norm_eps, attn, mlp, b.layer_scale)

    @classmethod
    def from_timm(cls, model: nn.Module) -> NestedViT:
        """Nest any plain timm ``VisionTransformer``; refuses others with :class:`CannotNestError`, naming each part."""
        faults = faults_of(model)
        if faults:
            raise CannotNestError("this backbone cannot be nested:\n  " + "\n  ".join(faults))
        source: Any = model
        layout = layout_of(source)
        rates = tuple(float(getattr(block.drop_path1, "drop_prob", 0.0)) for block in source.blocks)
        return cls.of_state(backbone_of(source, layout), layout, rates, source.state_dict()).train(source.training)

    @classmethod
    def of_state(
        cls, backbone: Backbone, layout: Layout, drop_path: tuple[float, ...], state: Mapping[str, Tensor]
    ) -> NestedViT:
        """A nested ViT with a copy of this state, in its dtype and on its device; draws no random number."""
        with torch.device("meta"):
            vit = cls(backbone, layout, drop_path)
        return filled(vit, state)

    def forward(
        self, images: Tensor, widths: Submodel | Gates | None = None, drop_path: Sequence[float] | None = None
    ) -> Tensor:
        """``drop_path``: stochastic-depth rates of this call alone, none if empty; by default the module's own."""
        return self._logits(*self.features(images, widths, drop_path), masking_of(widths))

    def hidden(
        self, images: Tensor, widths: Submodel | None = None, drop_path: Sequence[float] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits, and the tokens (b, tokens, channels) that enter the first block and leave each one."""
        widths = self.backbone.full if widths is None else widths
        states = tuple(self._states(images, widths, drop_path))
        return self._logits(self.norm(states[-1], widths.embed), widths.embed), states

    def _logits(self, x: Tensor, embed: nested.Width, masking: Masking = EXACT) -> Tensor:
        x = global_pool_nlc(
            x,
            pool_type=self.layout.global_pool,
            num_prefix_tokens=self.backbone.prefix_tokens,
            reduce_include_prefix=self.layout.pool_include_prefix,
        )
        logits: Tensor = self.head(self.fc_norm(x, embed, masking))
        return logits

    def features(
        self, images: Tensor, widths: Submodel | Gates | None = None, drop_path: Sequence[float] | None = None
    ) -> tuple[Tensor, nested.Width]:
        """Tokens (b, tokens, channels) after the last block and norm, and the embedding width they have."""
        widths = self.backbone.full if widths is None else widths
        (last,) = deque(self._states(images, widths, drop_path), maxlen=1)
        return self.norm(last, widths.embed, masking_of(widths)), widths.embed

    def _states(self, images: Tensor, widths: Submodel | Gates, drop_path: Sequence[float] | None) -> Iterator[Tensor]:
        if isinstance(widths, Submodel):
            self.backbone.check(widths)
        else:
            widths.check(self.backbone)
        embed, masking = widths.embed, masking_of(widths)
        x = self._stem(images, embed, masking)
        yield x
        keep = self._draw_paths(x, drop_path)
        for layer, block in enumerate(self.blocks):
            drawn = None if keep is None else keep[layer]
            x = block(x, embed, widths.heads[layer], widths.mlp[layer], drawn, masking)
            yield x

    def _stem(self, images: Tensor, embed: nested.Width, masking: Masking) -> Tensor:
        self._check_size(images)
        width = nested.kept(embed) or self.backbone.embed
        x, grid = self.patch_embed(images, embed)
        prefix = [
            nested.narrow_last(t, width).expand(len(x), -1, -1)
            for t in (self.cls_token, self.reg_token)
            if t is not None
        ]
        position = self._positions(width, grid)
        if self.layout.no_embed_class and position is not None:
            x, position = x + position, None
        x = torch.cat([*prefix, x], dim=1) if prefix else x
        x = x if position is None else x + position
        tokens: Tensor = self.norm_pre(nested.streamed(x, embed, masking), embed, masking)
        return tokens

    def _check_size(self, images: Tensor) -> None:
        size = tuple(images.shape[-2:])
        if not self.layout.dynamic_img_size and size != self.layout.img_size:
            raise ValueError(
                f"images are {size}, the backbone takes {self.layout.img_size}; build it with that img_size"
            )
        whole = all(s % p == 0 for s, p in zip(size, self.layout.patch_size, strict=True))
        if self.layout.dynamic_img_size and not self.layout.dynamic_img_pad and not whole:
            raise ValueError(
                f"images are {size}, no whole number of patches of {self.layout.patch_size}; resize them, or build the "
                "backbone with dynamic_img_pad=True"
            )

    def _positions(self, width: int, grid: tuple[int, int]) -> Tensor | None:
        if self.pos_embed is None:
            return None
        table = nested.narrow_last(self.pos_embed, width)
        prefix = 0 if self.layout.no_embed_class else self.backbone.prefix_tokens
        if grid == self.layout.grid:
            return table
        resized: Tensor = resample_abs_pos_embed(table, list(grid), list(self.layout.grid), num_prefix_tokens=prefix)
        return resized

    def _draw_paths(self, x: Tensor, rates: Sequence[float] | None = None) -> Tensor | None:
        """Stochastic-depth factors (depth, 2, b, 1, 1). Drawn for skipped branches too, so that sliced and masked
        forwards of one seed see the same draws.
        """
        rates = self.drop_path if rates is None else rates
        if not self.training or not any(rates):
            return None
        stay = 1 - torch.tensor(rates, dtype=x.dtype, device=x.device)
        stay = stay.view(-1, 1, 1, 1, 1).expand(-1, 2, len(x), 1, 1)
        return torch.bernoulli(stay) / stay.clamp_min(1e-9)


def _timm_block(vit: NestedViT, submodel: Submodel, layer: int) -> TimmBlock | None:
    b, layout = vit.backbone, vit.layout
    heads, hidden = submodel.heads[layer], submodel.mlp[layer]
    if not heads and not hidden:
        return None
    kind = TimmBlock if heads and hidden else AttentionBlock if heads else MlpBlock
    block = kind(
        dim=submodel.embed,
        num_heads=1,
        mlp_ratio=1 / submodel.embed,
        init_values=1.0 if b.layer_scale else None,
        drop_path=vit.drop_path[layer],
        norm_layer=layout.norm_layer,
    )
    if heads:
        block.attn = TimmAttention(
            submodel.embed,
            num_heads=heads,
            attn_head_dim=b.head_dim,
            qkv_bias=b.qkv_bias,
            qk_norm=b.qk_norm,
            proj_bias=b.proj_bias,
            norm_layer=layout.norm_layer,
        )
    if hidden:
        block.mlp = TimmMlp(submodel.embed, hidden_features=hidden, bias=b.proj_bias)
        block.mlp.act = deepcopy(layout.act)
    return block


def _narrow(vit: NestedViT, submodel: Submodel, layers: list[int]) -> nested.State:
    embed = submodel.embed
    parts = {name: getattr(vit, name).narrow(embed) for name in ("patch_embed", "norm_pre", "norm", "fc_norm")}
    parts["head"] = vit.head.narrow(None, embed) if isinstance(vit.head, nested.Linear) else {}
    for place, layer in enumerate(layers):
        block: nested.Block = vit.blocks[layer]  # type: ignore[assignment]
        parts[f"blocks.{place}"] = block.narrow(embed, submodel.heads[layer], submodel.mlp[layer])
    state = nested.joined(parts)
    tokens = {name: getattr(vit, name) for name in ("cls_token", "reg_token", "pos_embed")}
    return state | {name: nested.narrow_last(value, embed) for name, value in tokens.items() if value is not None}


def extract(vit: NestedViT, submodel: Submodel) -> VisionTransformer:
    """A plain timm ``VisionTransformer`` of these widths with its own copy of the weights: what is timed and shipped.

    A block with one branch skipped is a timm block without that branch; one with both skipped is gone.
    """
    vit.backbone.check(submodel)
    with torch.device("meta"):
        plain = vit.layout.hollow(submodel.embed)
        built = {layer: _timm_block(vit, submodel, layer) for layer in range(submodel.depth)}
    blocks = {layer: block for layer, block in built.items() if block is not None}
    plain.blocks = nn.Sequential(*blocks.values())
    return filled(plain, _narrow(vit, submodel, list(blocks))).train(vit.training)
