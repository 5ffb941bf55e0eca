"""Parts of plain timm ViTs (``VisionTransformer``, DeiT's distilled one, ``Eva``), the assumptions on them, and
refusals by name.

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
from timm.layers import (
    AttentionRope,
    DropPath,
    Format,
    GluMlp,
    LayerScale,
    RotaryEmbeddingCat,
    RotaryEmbeddingDinoV3,
    SwiGLU,
)
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import Mlp as TimmMlp
from timm.layers import PatchEmbed as TimmPatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from eavit.model.arguments import described
from eavit.model.attributes import implied_by_shapes, taken_for_granted, timm_class
from eavit.model.narrow_parts import NarrowEvaAttention
from eavit.model.submodel import Backbone

Model = TypeVar("Model", bound=nn.Module)

POOLS = ("token", "avg", "max", "avgmax")
NESTABLE = "vit_small_patch14_dinov2, vit_base_patch16_224, vit_base_patch16_siglip_gap_224, vit_small_patch16_dinov3"

_NORM = (TimmLayerNorm, nn.LayerNorm)
_HEAD = "one linear layer with a bias, or none, is nested"
_PLAIN_NORM = "only LayerNorm with weight and bias is nested"
_MLPS = (TimmMlp, GluMlp, SwiGLU)
_ROTARY = (RotaryEmbeddingCat, RotaryEmbeddingDinoV3)

# Each part of a plain ViT: its types, and why others are not nested.
PARTS: dict[str, tuple[tuple[type[nn.Module], ...], str]] = {
    "patch_embed": ((TimmPatchEmbed,), "hybrid stems are not nested"),
    "patch_embed.proj": ((nn.Conv2d,), "hybrid stems are not nested"),
    "patch_embed.norm": ((nn.Identity,), "a stem with a norm is not nested"),
    "pos_drop": ((nn.Dropout,), ""),
    "patch_drop": ((nn.Identity,), "patch dropout is not nested; build the model with patch_drop_rate=0"),
    "norm_pre": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "rope": (_ROTARY, "rotary positions that are learnt for each head, or have three axes, are not nested"),
    "blocks": ((nn.Sequential, nn.ModuleList), ""),
    "blocks.N": ((TimmBlock, EvaBlock), "parallel, post-norm and windowed blocks are not nested"),
    "blocks.N.norm1": (_NORM, _PLAIN_NORM),
    "blocks.N.attn": (
        (TimmAttention, EvaAttention, NarrowEvaAttention, AttentionRope),
        "windowed, gated and differential attention are not nested",
    ),
    "blocks.N.attn.qkv": ((nn.Linear,), ""),
    "blocks.N.attn.q_proj": ((nn.Linear,), ""),
    "blocks.N.attn.k_proj": ((nn.Linear,), ""),
    "blocks.N.attn.v_proj": ((nn.Linear,), ""),
    "blocks.N.attn.q_norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "blocks.N.attn.k_norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "blocks.N.attn.attn_drop": ((nn.Dropout,), ""),
    "blocks.N.attn.norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
    "blocks.N.attn.proj": ((nn.Linear,), ""),
    "blocks.N.attn.proj_drop": ((nn.Dropout,), ""),
    "blocks.N.ls1": ((LayerScale, nn.Identity), ""),
    "blocks.N.drop_path1": ((DropPath, nn.Identity), ""),
    "blocks.N.norm2": (_NORM, _PLAIN_NORM),
    "blocks.N.mlp": (_MLPS, ""),
    "blocks.N.mlp.fc1": ((nn.Linear,), ""),
    "blocks.N.mlp.fc1_g": ((nn.Linear,), ""),
    "blocks.N.mlp.fc1_x": ((nn.Linear,), ""),
    "blocks.N.mlp.act": ((nn.Module,), ""),
    "blocks.N.mlp.drop1": ((nn.Dropout,), ""),
    "blocks.N.mlp.norm": ((*_NORM, nn.Identity), _PLAIN_NORM),
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
    "head": ((nn.Linear, nn.Identity), _HEAD),
    "head_dist": ((nn.Linear, nn.Identity), _HEAD),
}
TENSORS: dict[type[Any], tuple[str, ...]] = {  # parameters and buffers that each type of part has itself
    VisionTransformer: ("cls_token", "reg_token", "pos_embed"),
    VisionTransformerDistilled: ("cls_token", "dist_token", "pos_embed"),
    Eva: ("cls_token", "reg_token", "pos_embed"),
    EvaBlock: ("gamma_1", "gamma_2"),
    EvaAttention: ("q_bias", "k_bias", "v_bias"),
    NarrowEvaAttention: ("q_bias", "k_bias", "v_bias"),
    RotaryEmbeddingCat: ("bands", "pos_embed"),
    RotaryEmbeddingDinoV3: ("periods", "pos_embed_cached"),
    nn.Linear: ("weight", "bias"),
    nn.Conv2d: ("weight", "bias"),
    nn.LayerNorm: ("weight", "bias"),
    TimmLayerNorm: ("weight", "bias"),
    LayerScale: ("gamma",),
}


class CannotNestError(ValueError):
    """The backbone has parts that cannot be nested; the message names each with its reason."""


def copy_with(model: Model, values: Mapping[str, Tensor]) -> Model:
    """A deep copy of a model whose named parameters, and buffers that are named in ``values``, have copies of these
    values. Attributes, flags and hooks are kept; no random number is drawn.
    """
    memo: dict[int, Any] = {}
    for name, parameter in model.named_parameters():
        memo[id(parameter)] = nn.Parameter(values[name].detach().clone(), requires_grad=parameter.requires_grad)
        vars(memo[id(parameter)]).update(vars(parameter))
    memo |= {id(old): values[name].detach().clone() for name, old in model.named_buffers() if name in values}
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
    base = timm_class(model)
    if base is nn.Module:
        yield f"{type(model).__name__} is not timm's VisionTransformer"
        return
    harmless = {"__init__", "__module__", "__doc__", "__annotations__", "__qualname__", "__parameters__"}
    for kind in type(model).__mro__[: type(model).__mro__.index(base)]:
        replaced = [name for name in vars(kind) if hasattr(base, name) and name not in harmless]
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
        known = TENSORS.get(timm_class(part) if not name else type(part), ())
        for leaf, buffer in part.named_buffers(recurse=False):
            if leaf not in known:
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
                if not _are_equal(getattr(part, key), value):
                    yield f"{name or 'model'}: {key} is {described(getattr(part, key))}; {source} {value}"


def _are_equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


def _block_faults(model: Any) -> Iterator[str]:
    """Blocks whose widths differ, and activations that mix neurons."""
    if not len(model.blocks):
        yield "blocks: the model has no block"
    for i, block in enumerate(model.blocks):
        shapes, wanted = ({n: p.shape for n, p in b.named_parameters()} for b in (block, model.blocks[0]))
        if shapes != wanted or block.attn.head_dim != model.blocks[0].attn.head_dim:
            yield f"blocks.{i}: its shapes differ from blocks.0; all layers of a backbone must have the same widths"
        width, queries = block.attn.proj.in_features, query_layers(block.attn)
        if sum(layer.out_features for layer in queries) != 3 * width:
            rows = " + ".join(str(layer.out_features) for layer in queries)
            yield f"blocks.{i}.attn: queries, keys and values have {rows} rows, not 3 x {width}"
        if len({layer.bias is None for layer in (block.attn.proj, block.mlp.fc2, *hidden_layers(block.mlp))}) > 1:
            yield f"blocks.{i}: attn.proj, mlp.fc1 and mlp.fc2 must all have a bias, or none of them"
        if len({scale is None or isinstance(scale, nn.Identity) for scale in scales(block)}) > 1:
            yield f"blocks.{i}: attention and MLP must both have a scale of channels, or none of them"
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
    pools = (*POOLS, "") if timm_class(model) is VisionTransformer else POOLS
    if model.global_pool not in pools:
        yield f"global_pool: {model.global_pool!r} is not nested; allowed: {', '.join(map(repr, pools))}"
    heads = {name: getattr(model, name) for name in ("head", "head_dist") if hasattr(model, name)}
    for name, head in heads.items():
        if isinstance(head, nn.Linear) and head.bias is None:
            yield f"{name}: Linear without a bias; {_HEAD}"
        if getattr(head, "out_features", 0) != getattr(model.head, "out_features", 0):
            yield f"{name}: must have as many classes as head"
    stem, dynamic = model.patch_embed, model.dynamic_img_size
    form = (False, Format.NHWC) if dynamic else (True, Format.NCHW)
    if (stem.flatten, stem.output_fmt) != form:
        values = f"flatten={stem.flatten}, output_fmt={stem.output_fmt}"
        yield f"patch_embed: {values} must be {form[0]}, {form[1]} with dynamic_img_size={dynamic}"


def query_layers(attn: Any) -> list[Any]:
    """The layers that give queries, keys and values: one for all of them, or one each."""
    return [attn.qkv] if attn.qkv is not None else [attn.q_proj, attn.k_proj, attn.v_proj]


def hidden_layers(mlp: Any) -> list[Any]:
    """The layers that give the hidden neurons: one, or one each for gates and values."""
    return [mlp.fc1_g, mlp.fc1_x] if isinstance(mlp, SwiGLU) else [mlp.fc1]


def scales(block: Any) -> list[Any]:
    """The scales of channels behind both branches."""
    return [block.gamma_1, block.gamma_2] if isinstance(block, EvaBlock) else [block.ls1, block.ls2]


def read_backbone(model: Any) -> Backbone:
    """The full widths of a timm ViT, and what its cost depends on besides them."""
    block, stem, head = model.blocks[0], model.patch_embed, model.head
    queries, split = query_layers(block.attn), getattr(block.attn, "q_bias", None) is not None
    high, wide = stem.dynamic_feat_size(stem.img_size)
    outer = (model.norm_pre, model.norm, model.fc_norm)
    return Backbone(
        embed=model.embed_dim,
        heads=block.attn.num_heads,
        head_dim=block.attn.head_dim,
        mlp=block.mlp.fc2.in_features,
        depth=len(model.blocks),
        tokens=high * wide + model.num_prefix_tokens,
        num_classes=head.out_features if isinstance(head, nn.Linear) else 0,
        patch_pixels=prod(stem.proj.weight.shape[1:]),
        prefix_tokens=model.num_prefix_tokens,
        position_tokens=0 if model.pos_embed is None else model.pos_embed.shape[1],
        patch_bias=stem.proj.bias is not None,
        qkv_bias=split or queries[0].bias is not None,
        k_bias=not split and (queries[0].bias is None or queries[len(queries) // 2].bias is not None),
        proj_bias=block.attn.proj.bias is not None,
        qk_norm=isinstance(block.attn.q_norm, nn.LayerNorm),
        layer_scale=isinstance(scales(block)[0], (LayerScale, nn.Parameter)),
        gated_mlp=isinstance(block.mlp, (GluMlp, SwiGLU)),
        attn_norm=isinstance(block.attn.norm, nn.LayerNorm),
        mlp_norm=isinstance(block.mlp.norm, nn.LayerNorm),
        classifiers=1 + hasattr(model, "head_dist"),
        head_tokens=1 if model.global_pool else high * wide + model.num_prefix_tokens,
        outer_norms=sum(isinstance(norm, nn.LayerNorm) for norm in outer),
    )
