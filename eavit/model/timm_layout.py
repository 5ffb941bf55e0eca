"""Parts of a plain timm ``VisionTransformer``, the assumptions on them, and refusals by name.

Whatever hangs on a model beside its tensors must be kept by nesting, sorting and extracting, or be refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from math import prod
from typing import Any, TypeVar

import torch
from timm.layers import Attention as TimmAttention
from timm.layers import DropPath, Format, LayerScale
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import Mlp as TimmMlp
from timm.layers import PatchEmbed as TimmPatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from eavit.model.arguments import described
from eavit.model.submodel import Backbone

Model = TypeVar("Model", bound=nn.Module)

POOLS = ("token", "avg", "max", "avgmax")
NESTABLE = "vit_small_patch14_dinov2, vit_base_patch16_224, vit_base_patch16_clip_224, vit_base_patch16_siglip_gap_224"

_NORM = (TimmLayerNorm, nn.LayerNorm)
_PLAIN_NORM = "only LayerNorm with weight and bias is nested"
_SHARED_NORM = "a norm over units of all heads or neurons mixes them, so they are not nested"

# Each part of a plain ViT: its types, and why others are not nested.
PARTS: dict[str, tuple[tuple[type[nn.Module], ...], str]] = {
    "patch_embed": ((TimmPatchEmbed,), "hybrid stems are not nested"),
    "patch_embed.proj": ((nn.Conv2d,), "hybrid stems are not nested"),
    "patch_embed.norm": ((nn.Identity,), "a stem with a norm is not nested"),
    "pos_drop": ((nn.Dropout,), ""),
    "patch_drop": ((nn.Identity,), "patch dropout is not nested; build the model with patch_drop_rate=0"),
    "norm_pre": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "blocks": ((nn.Sequential,), ""),
    "blocks.N": ((TimmBlock,), "parallel, post-norm and windowed blocks are not nested"),
    "blocks.N.norm1": (_NORM, _PLAIN_NORM),
    "blocks.N.attn": ((TimmAttention,), "rotary, windowed and differential attention are not nested"),
    "blocks.N.attn.qkv": ((nn.Linear,), ""),
    "blocks.N.attn.q_norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "blocks.N.attn.k_norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "blocks.N.attn.attn_drop": ((nn.Dropout,), ""),
    "blocks.N.attn.norm": ((nn.Identity,), _SHARED_NORM),
    "blocks.N.attn.proj": ((nn.Linear,), ""),
    "blocks.N.attn.proj_drop": ((nn.Dropout,), ""),
    "blocks.N.ls1": ((LayerScale, nn.Identity), ""),
    "blocks.N.drop_path1": ((DropPath, nn.Identity), ""),
    "blocks.N.norm2": (_NORM, _PLAIN_NORM),
    "blocks.N.mlp": ((TimmMlp,), "SwiGLU and other gated MLPs are not nested"),
    "blocks.N.mlp.fc1": ((nn.Linear,), ""),
    "blocks.N.mlp.act": ((nn.Module,), ""),
    "blocks.N.mlp.drop1": ((nn.Dropout,), ""),
    "blocks.N.mlp.norm": ((nn.Identity,), _SHARED_NORM),
    "blocks.N.mlp.fc2": ((nn.Linear,), ""),
    "blocks.N.mlp.drop2": ((nn.Dropout,), ""),
    "blocks.N.ls2": ((LayerScale, nn.Identity), ""),
    "blocks.N.drop_path2": ((DropPath, nn.Identity), ""),
    "norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "attn_pool": (
        (),
        "attention pooling (SigLIP's MAP head) is not nested; create the model with global_pool='avg', or from a tag "
        "with _gap_",
    ),
    "fc_norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "head_drop": ((nn.Dropout,), ""),
    "head": ((nn.Linear, nn.Identity), "one linear layer with a bias, or none, is nested"),
}
TENSORS = {  # parameters that each type of part has itself
    VisionTransformer: ("cls_token", "reg_token", "pos_embed"),
    nn.Linear: ("weight", "bias"),
    nn.Conv2d: ("weight", "bias"),
    nn.LayerNorm: ("weight", "bias"),
    TimmLayerNorm: ("weight", "bias"),
    LayerScale: ("gamma",),
}


class CannotNestError(ValueError):
    """The backbone has parts that cannot be nested; the message names each with its reason."""


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


BRANCHES = {"attn": ("norm1", "attn", "ls1", "drop_path1"), "mlp": ("norm2", "mlp", "ls2", "drop_path2")}


def cut_branches(block: Any, heads: int, hidden: int) -> None:
    """Take a branch of no width out of a timm block, in place."""
    for branch, width, rest in (("attn", heads, MlpBlock), ("mlp", hidden, AttentionBlock)):
        if not width:
            block.__class__ = rest
            for name in BRANCHES[branch]:
                delattr(block, name)


def copy_with(model: Model, values: Mapping[str, Tensor]) -> Model:
    """A deep copy of a model whose named parameters have copies of these values. Attributes, flags and hooks are kept;
    no random number is drawn.
    """
    memo: dict[int, Any] = {}
    for name, parameter in model.named_parameters():
        memo[id(parameter)] = nn.Parameter(values[name].detach().clone(), requires_grad=parameter.requires_grad)
        vars(memo[id(parameter)]).update(vars(parameter))
    return deepcopy(model, memo)


def uncopyable(model: nn.Module) -> str:
    """Attributes of a model that ``copy.deepcopy`` cannot copy, with its reasons."""
    reasons = []
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            if key not in ("_parameters", "_modules"):
                try:
                    deepcopy(value)
                except Exception as error:  # whatever the attribute's own copying raises
                    reasons.append(f"{name or 'model'}.{key}: {error}")
    return "; ".join(reasons)


def implied_by_shapes(part: Any) -> dict[str, Any]:
    """Attributes of a timm part that follow from the shapes of its parameters."""
    if isinstance(part, nn.Linear):
        return {"in_features": part.weight.shape[1], "out_features": part.weight.shape[0]}
    if isinstance(part, nn.LayerNorm):
        return {"normalized_shape": tuple(part.weight.shape)}
    if isinstance(part, nn.Conv2d):
        rows, columns, *kernel = part.weight.shape
        return {"out_channels": rows, "in_channels": columns, "kernel_size": tuple(kernel)}
    if isinstance(part, TimmAttention):
        width = part.proj.weight.shape[1]
        return {"attn_dim": width, "num_heads": width // part.head_dim}
    if isinstance(part, VisionTransformer):
        width, depth = part.patch_embed.proj.weight.shape[0], len(part.blocks)
        info = [{**one, "num_chs": width} for one in part.feature_info[:depth]]
        return {"embed_dim": width, "num_features": width, "head_hidden_size": width, "feature_info": info}
    return {}


def taken_for_granted(part: Any) -> dict[str, Any]:
    """Other attributes of a timm part that must have these values, since the nested forward computes with them."""
    if isinstance(part, TimmAttention):
        head_dim = part.proj.weight.shape[1] // part.num_heads
        return {"head_dim": head_dim, "scale": head_dim**-0.5, "gate": None}
    if isinstance(part, DropPath):
        return {"scale_by_keep": True}
    if isinstance(part, TimmPatchEmbed):
        patch = tuple(part.proj.weight.shape[2:])
        grid = tuple(size // step for size, step in zip(part.img_size, patch, strict=True))
        return {"patch_size": patch, "img_size": tuple(part.img_size), "grid_size": grid, "num_patches": prod(grid)}
    if isinstance(part, nn.Conv2d):
        zeros, stride = (0, 0), tuple(part.weight.shape[2:])
        return {"stride": stride, "padding": zeros, "dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
    if isinstance(part, VisionTransformer):
        tokens = {"cls_token": part.cls_token, "reg_token": part.reg_token}
        counts = {name: 0 if token is None else token.shape[1] for name, token in tokens.items()}
        return {
            "has_class_token": counts["cls_token"] == 1,
            "num_reg_tokens": counts["reg_token"],
            "num_prefix_tokens": sum(counts.values()),
            "attn_pool": None,
        }
    return {}


def faults_of(model: nn.Module) -> list[str]:
    """Reasons why a model cannot be nested, each part by name; empty if it can."""
    faults = [*_class_faults(model), *_merged(_part_faults(model))]
    if not faults:
        faults = [*_merged(_tensor_faults(model)), *_merged(_instance_faults(model))]
    if not faults:
        faults = [*_attribute_faults(model), *_block_faults(model), *_whole_faults(model)]
    return faults


def _merged(faults: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Pairs of a part's name and its fault as messages; the same fault in many layers is reported once."""
    places: dict[tuple[str, str], list[str]] = {}
    for name, fault in faults:
        places.setdefault((_role(name), fault), []).append(name)
    for (_, fault), names in places.items():
        more = f" (so are {len(names) - 1} other layers)" if len(names) > 1 else ""
        yield f"{names[0]}: {fault}{more}"


def _role(name: str) -> str:
    """The name of a part with its layer as N."""
    return re.sub(r"^blocks\.\d+", "blocks.N", name)


def _class_faults(model: nn.Module) -> Iterator[str]:
    """Faults of the model's class: it must be timm's, or a subclass that replaces nothing of it."""
    if not isinstance(model, VisionTransformer):
        yield f"{type(model).__name__} is not timm's VisionTransformer"
        return
    harmless = {"__init__", "__module__", "__doc__", "__annotations__", "__qualname__", "__parameters__"}
    for kind in type(model).__mro__[: type(model).__mro__.index(VisionTransformer)]:
        replaced = [name for name in vars(kind) if hasattr(VisionTransformer, name) and name not in harmless]
        if replaced:
            yield f"{kind.__name__} replaces timm's {', '.join(replaced)}; subclasses may only add attributes"


def _part_faults(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Parts of another type than a plain ViT's, and parts that it does not have; of no interest if it has no blocks."""
    skipped: tuple[str, ...] = () if hasattr(model, "blocks") else ("",)
    for name, part in model.named_modules(remove_duplicate=False):
        role = _role(name)
        if not name or name.startswith(skipped):
            continue
        types, reason = PARTS.get(role, ((), "not a part of a plain ViT"))
        if type(part) in types or nn.Module in types:
            continue
        if role not in ("blocks", "blocks.N"):
            skipped = (*skipped, f"{name}.")
        wanted = " or ".join(dict.fromkeys(t.__name__ for t in types))
        yield name, f"{type(part).__name__}" + f" is not timm's {wanted}" * bool(wanted) + f"; {reason}" * bool(reason)


def _tensor_faults(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Parameters and buffers that a plain ViT does not have, shared ones, and ones that are more than a parameter."""
    owners: dict[int, str] = {}
    for name, part in model.named_modules(remove_duplicate=False):
        known = TENSORS.get(VisionTransformer if not name else type(part), ())
        for leaf, buffer in part.named_buffers(recurse=False):
            yield name or "model", f"{leaf}, a buffer of {tuple(buffer.shape)}, is not a part of a plain ViT"
        for leaf, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
            where = f"{name}.{leaf}".removeprefix(".")
            if leaf not in known:
                yield name or "model", f"{leaf}, a parameter of {tuple(parameter.shape)}, is not a part of a plain ViT"
            elif type(parameter) is not nn.Parameter:
                yield where, f"{type(parameter).__name__} is not torch's Parameter"
            elif id(parameter) in owners:
                yield where, f"is the same parameter as {owners[id(parameter)]}; shared weights are not nested"
                return
            elif parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
                yield where, "has a hook on its gradient; attach it after nesting"
            owners[id(parameter)] = where
        if isinstance(part, nn.LayerNorm) and (part.weight is None or part.bias is None):
            yield name, "LayerNorm without weight or bias is not nested"


def _instance_faults(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Hooks, and methods that were replaced on one instance."""
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            if key.endswith("_hooks") and value:
                yield name or "model", f"has {key.strip('_').replace('_', ' ')}; attach them after nesting"
            elif callable(getattr(type(part), key, None)):
                yield name or "model", f"{key} is replaced on this instance"


def _attribute_faults(model: nn.Module) -> Iterator[str]:
    """Attributes that contradict the shapes of the weights, or that the nested forward cannot follow."""
    for name, part in model.named_modules():
        for source, wanted in (("its weights say", implied_by_shapes(part)), ("must be", taken_for_granted(part))):
            for key, value in wanted.items():
                if getattr(part, key) != value:
                    yield f"{name or 'model'}: {key} is {described(getattr(part, key))}; {source} {value}"


def _block_faults(model: Any) -> Iterator[str]:
    """Blocks whose widths differ, and activations that mix neurons."""
    if not len(model.blocks):
        yield "blocks: the model has no block"
    for i, block in enumerate(model.blocks):
        shapes, wanted = ({n: p.shape for n, p in b.named_parameters()} for b in (block, model.blocks[0]))
        if shapes != wanted or block.attn.head_dim != model.blocks[0].attn.head_dim:
            yield f"blocks.{i}: its shapes differ from blocks.0; all layers of a backbone must have the same widths"
        if block.attn.qkv.weight.shape[0] != 3 * block.attn.attn_dim:
            yield f"blocks.{i}.attn.qkv: has {block.attn.qkv.weight.shape[0]} rows, not 3 x {block.attn.attn_dim}"
        if len({layer.bias is None for layer in (block.attn.proj, block.mlp.fc1, block.mlp.fc2)}) > 1:
            yield f"blocks.{i}: attn.proj, mlp.fc1 and mlp.fc2 must all have a bias, or none of them"
        rates = {getattr(part, "drop_prob", 0.0) for part in (block.drop_path1, block.drop_path2)}
        if len(rates) > 1:
            yield f"blocks.{i}: drop_path1 and drop_path2 differ in drop_prob: {sorted(rates)}"
        if fault := _activation_fault(block.mlp.act):
            yield f"blocks.{i}.mlp.act: {type(block.mlp.act).__name__} {fault}"


@torch.no_grad()
def _activation_fault(act: nn.Module) -> str:
    x = torch.linspace(-3, 3, 16, device="cpu")
    try:
        with torch.random.fork_rng(devices=[]):
            alone = torch.allclose(act(x.clone())[:5], act(x[:5].clone()), atol=1e-6)
    except Exception as error:  # whatever a foreign activation raises
        return f"fails: {error}"
    return "" if alone else "mixes neurons, so they are not nested"


def _whole_faults(model: Any) -> Iterator[str]:
    """Faults of the model as a whole: pooling, head, and how patches become tokens."""
    if model.global_pool not in POOLS:
        yield f"global_pool: {model.global_pool!r} is not nested; allowed: {', '.join(POOLS)}"
    if isinstance(model.head, nn.Linear) and model.head.bias is None:
        yield f"head: Linear without a bias; {PARTS['head'][1]}"
    stem, dynamic = model.patch_embed, model.dynamic_img_size
    form = (False, Format.NHWC) if dynamic else (True, Format.NCHW)
    if (stem.flatten, stem.output_fmt) != form:
        values = f"flatten={stem.flatten}, output_fmt={stem.output_fmt}"
        yield f"patch_embed: {values} must be {form[0]}, {form[1]} with dynamic_img_size={dynamic}"


def read_backbone(model: Any) -> Backbone:
    """The full widths of a timm ViT, and what its cost depends on besides them."""
    block, stem, head = model.blocks[0], model.patch_embed, model.head
    high, wide = stem.dynamic_feat_size(stem.img_size)
    outer = (model.norm_pre, model.norm, model.fc_norm)
    return Backbone(
        embed=model.embed_dim,
        heads=block.attn.num_heads,
        head_dim=block.attn.head_dim,
        mlp=block.mlp.fc1.out_features,
        depth=len(model.blocks),
        tokens=high * wide + model.num_prefix_tokens,
        num_classes=head.out_features if isinstance(head, nn.Linear) else 0,
        patch_pixels=prod(stem.proj.weight.shape[1:]),
        prefix_tokens=model.num_prefix_tokens,
        position_tokens=0 if model.pos_embed is None else model.pos_embed.shape[1],
        patch_bias=stem.proj.bias is not None,
        qkv_bias=block.attn.qkv.bias is not None,
        proj_bias=block.attn.proj.bias is not None,
        qk_norm=isinstance(block.attn.q_norm, nn.LayerNorm),
        layer_scale=isinstance(block.ls1, LayerScale),
        outer_norms=sum(isinstance(norm, nn.LayerNorm) for norm in outer),
    )
