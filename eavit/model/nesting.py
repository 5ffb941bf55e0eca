"""timm's parts turned into nested ones and back, in place."""

from __future__ import annotations

from timm.layers import Attention, AttentionRope, GluMlp, LayerNorm, LayerScale, Mlp, PatchEmbed, SwiGLU
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block
from torch import nn

from eavit.model import nested, nested_eva
from eavit.model.narrow_parts import NarrowEvaAttention

NESTED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nested.NestedLinear,
    nn.LayerNorm: nested.NestedLayerNorm,
    LayerNorm: nested.NestedLayerNorm,
    LayerScale: nested.NestedLayerScale,
    PatchEmbed: nested.NestedPatchEmbed,
    Attention: nested.NestedAttention,
    Mlp: nested.NestedMlp,
    GluMlp: nested.NestedGluMlp,
    SwiGLU: nested.NestedSwiGLU,
    Block: nested.NestedBlock,
    EvaAttention: nested_eva.NestedEvaAttention,
    NarrowEvaAttention: nested_eva.NestedEvaAttention,
    AttentionRope: nested_eva.NestedAttentionRope,
    EvaBlock: nested_eva.NestedEvaBlock,
}


def nest(module: nn.Module) -> nn.Module:
    """Turn all parts of a module that are timm's into nested ones, in place, and remember what each part was."""
    for part in module.modules():
        kind = NESTED.get(type(part))
        if kind is not None:
            vars(part)["plain_type"] = type(part)
            part.__class__ = kind
    return module


def unnest(module: nn.Module) -> nn.Module:
    """Undo :func:`nest`, in place; statistics of a calibration go."""
    for part in module.modules():
        for name in (nested.INPUT_MEAN, nested.POWER):
            part._buffers.pop(name, None)
        if "plain_type" in vars(part):
            part.__class__ = vars(part).pop("plain_type")
    return module
