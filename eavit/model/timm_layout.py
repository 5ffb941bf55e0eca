"""What a plain timm ``VisionTransformer`` is besides its widths: read from a model, refused by name, or built again."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from timm.layers import Attention as TimmAttention
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import Mlp as TimmMlp
from timm.layers import PatchEmbed as TimmPatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from eavit.model.submodel import Backbone

POOLS = ("token", "avg", "max", "avgmax")


class CannotNestError(ValueError):
    """The backbone has parts that cannot be nested; the message names each with its reason."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a plain timm ``VisionTransformer`` is besides its widths: enough to build one of any widths."""

    img_size: tuple[int, int]
    patch_size: tuple[int, int]
    in_chans: int
    num_classes: int
    global_pool: str
    class_token: bool
    reg_tokens: int
    position: bool
    no_embed_class: bool
    pre_norm: bool
    final_norm: bool
    fc_norm: bool
    pool_include_prefix: bool
    dynamic_img_size: bool
    dynamic_img_pad: bool
    qkv_bias: bool
    proj_bias: bool
    qk_norm: bool
    layer_scale: bool
    norm_eps: float
    act_text: str  # the activation as it prints itself, arguments included
    act: nn.Module = field(compare=False, repr=False)  # to be copied

    @property
    def norm_layer(self) -> Any:
        return partial(TimmLayerNorm, eps=self.norm_eps)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches that the position table is for."""
        high, wide = (size // step for size, step in zip(self.img_size, self.patch_size, strict=True))
        return high, wide

    @property
    def patches(self) -> int:
        """Patches that an image of the own size gives: padding rounds up, the position table does not."""
        if not self.dynamic_img_pad:
            return self.grid[0] * self.grid[1]
        high, wide = (-(-size // step) for size, step in zip(self.img_size, self.patch_size, strict=True))
        return high * wide

    def hollow(self, embed: int) -> VisionTransformer:
        """A timm ViT of this layout and embedding width, without blocks and with uninitialised weights."""
        return VisionTransformer(
            img_size=self.img_size,
            patch_size=self.patch_size,
            in_chans=self.in_chans,
            num_classes=self.num_classes,
            global_pool=self.global_pool,
            embed_dim=embed,
            depth=0,
            num_heads=1,
            class_token=self.class_token,
            pos_embed="learn" if self.position else "none",
            no_embed_class=self.no_embed_class,
            reg_tokens=self.reg_tokens,
            pre_norm=self.pre_norm,
            final_norm=self.final_norm,
            fc_norm=self.fc_norm,
            pool_include_prefix=self.pool_include_prefix,
            dynamic_img_size=self.dynamic_img_size,
            dynamic_img_pad=self.dynamic_img_pad,
            norm_layer=self.norm_layer,
            weight_init="skip",
        )


class AttentionBlock(TimmBlock):
    """A timm block without its MLP branch."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        del self.norm2, self.mlp, self.ls2, self.drop_path2

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        seen = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        out: Tensor = x + self.drop_path1(self.ls1(seen))
        return out


class MlpBlock(TimmBlock):
    """A timm block without its attention branch."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        del self.norm1, self.attn, self.ls1, self.drop_path1

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        out: Tensor = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return out


def _block_faults(index: int, block: Any, first: nn.Module) -> list[str]:
    where = f"blocks.{index}"
    if type(block) is not TimmBlock:
        return [f"{where}: {type(block).__name__} is not timm's plain pre-norm Block (parallel, post-norm, windowed)"]
    faults = []
    if type(block.attn) is not TimmAttention:
        faults.append(
            f"{where}.attn: {type(block.attn).__name__} is not timm's plain Attention (rotary, windowed or other)"
        )
    elif not isinstance(block.attn.norm, nn.Identity) or block.attn.gate is not None:
        faults.append(f"{where}.attn: a norm or gate on attention's output mixes heads, so heads are not nested")
    if type(block.mlp) is not TimmMlp:
        faults.append(f"{where}.mlp: {type(block.mlp).__name__} is not timm's plain Mlp (SwiGLU and other gated MLPs)")
    elif not isinstance(block.mlp.norm, nn.Identity):
        faults.append(f"{where}.mlp: a norm over hidden neurons is not supported")
    elif list(block.mlp.act.parameters()):
        faults.append(f"{where}.mlp.act: {type(block.mlp.act).__name__} has parameters, which are not nested")
    if not faults and _manner(block) != _manner(first):
        faults.append(f"{where}: its activation or head split differs from blocks.0; all layers must compute alike")
    shapes = {name: p.shape for name, p in block.named_parameters()}
    if not faults and shapes != {name: p.shape for name, p in first.named_parameters()}:
        faults.append(f"{where}: its shapes differ from blocks.0; all layers of a backbone must have the same widths")
    return faults


def _manner(block: Any) -> tuple[Any, ...]:
    """What a block computes besides its parameters."""
    return repr(block.mlp.act), block.attn.num_heads, block.attn.head_dim, block.attn.scale


def faults_of(model: nn.Module) -> list[str]:
    """Why a model cannot be nested, each part by name; empty if it can."""
    if type(model) is not VisionTransformer:
        return [f"{type(model).__name__} is not timm's VisionTransformer"]
    return _faults_of_parts(model)


def _faults_of_parts(model: Any) -> list[str]:
    if not len(model.blocks):
        return ["blocks: the model has no block"]
    faults = [fault for i, block in enumerate(model.blocks) for fault in _block_faults(i, block, model.blocks[0])]
    if type(model.patch_embed) is not TimmPatchEmbed or not isinstance(model.patch_embed.norm, nn.Identity):
        faults.append("patch_embed: only timm's plain PatchEmbed without a norm is supported (hybrid or normed stem)")
    if model.attn_pool is not None or model.global_pool not in POOLS:
        faults.append(f"global_pool: {model.global_pool!r} is not supported; allowed: {', '.join(POOLS)}")
    norms = {
        name: m
        for name, m in model.named_modules()
        if "norm" in name.rpartition(".")[2] and not isinstance(m, nn.Identity)
    }
    odd = sorted(
        {
            f"{name}: {type(m).__name__}"
            for name, m in norms.items()
            if type(m) is not TimmLayerNorm and type(m) is not nn.LayerNorm
        }
    )
    faults += [f"{fault} is not a plain LayerNorm (statistics of a prefix are only defined for that)" for fault in odd]
    if not odd and len({(m.eps, m.elementwise_affine, m.bias is None) for m in norms.values()}) != 1:
        faults.append("norms: their eps or affine parts differ from layer to layer")
    elif not odd and next(iter(norms.values())).bias is None:
        faults.append("norms: LayerNorm without weight or bias is not supported")
    if not (type(model.head) is nn.Linear and model.head.bias is not None) and type(model.head) is not nn.Identity:
        faults.append(f"head: {type(model.head).__name__} is not one linear layer with a bias, nor absent")
    drops = [name for name, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p > 0]
    faults += [f"{name}: dropout is not part of the nested forward; build the model with it at 0" for name in drops]
    if not isinstance(model.patch_drop, nn.Identity):
        faults.append("patch_drop: patch dropout is not supported; build the model with patch_drop_rate=0")
    return faults


def layout_of(model: Any) -> Layout:
    block, patches = model.blocks[0], model.patch_embed
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]

    def has(module: nn.Module) -> bool:
        return not isinstance(module, nn.Identity)

    return Layout(
        img_size=tuple(patches.img_size),
        patch_size=tuple(patches.patch_size),
        in_chans=patches.proj.in_channels,
        num_classes=model.num_classes,
        global_pool=model.global_pool,
        class_token=model.has_class_token,
        reg_tokens=model.num_reg_tokens,
        position=model.pos_embed is not None,
        no_embed_class=model.no_embed_class,
        pre_norm=has(model.norm_pre),
        final_norm=has(model.norm) or has(model.fc_norm),
        fc_norm=has(model.fc_norm),
        pool_include_prefix=model.pool_include_prefix,
        dynamic_img_size=model.dynamic_img_size,
        dynamic_img_pad=patches.dynamic_img_pad,
        qkv_bias=block.attn.qkv.bias is not None,
        proj_bias=block.attn.proj.bias is not None,
        qk_norm=has(block.attn.q_norm),
        layer_scale=has(block.ls1),
        norm_eps=norms[0].eps,
        act_text=repr(block.mlp.act),
        act=deepcopy(block.mlp.act),
    )


def backbone_of(model: Any, layout: Layout) -> Backbone:
    attn, prefix = model.blocks[0].attn, model.num_prefix_tokens
    return Backbone(
        embed=model.embed_dim,
        heads=attn.num_heads,
        head_dim=attn.head_dim,
        mlp=model.blocks[0].mlp.fc1.out_features,
        depth=len(model.blocks),
        tokens=layout.patches + prefix,
        num_classes=layout.num_classes,
        patch_pixels=layout.in_chans * layout.patch_size[0] * layout.patch_size[1],
        prefix_tokens=prefix,
        position_tokens=model.pos_embed.shape[1] if layout.position else 0,
        patch_bias=model.patch_embed.proj.bias is not None,
        qkv_bias=layout.qkv_bias,
        proj_bias=layout.proj_bias,
        qk_norm=layout.qk_norm,
        layer_scale=layout.layer_scale,
        outer_norms=layout.pre_norm + layout.final_norm,
    )
