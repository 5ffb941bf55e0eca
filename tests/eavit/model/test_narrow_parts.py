"""EVA's attention of few heads computes what timm's does, masks included."""

from __future__ import annotations

import torch
from strategies import assert_same, build
from timm.models.eva import EvaAttention

import eavit
from eavit import NestedViT, Submodel
from eavit.model.narrow_parts import NarrowEvaAttention
from tests.eavit.model.test_nested_eva import EVA


def test_attention_of_fewer_heads_than_channels_follows_masks():
    vit = NestedViT.from_timm(build(EVA))
    extracted = eavit.extract(vit, Submodel(12, (2,) * 3, (9,) * 3))
    narrow, whole = extracted.blocks[0].attn, eavit.extract(vit, vit.backbone.full).blocks[0].attn
    assert type(narrow) is NarrowEvaAttention and type(whole) is EvaAttention
    tokens = torch.randn(2, 5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    causal = narrow(tokens, is_causal=True)
    assert_same(causal, narrow(tokens, attn_mask=torch.ones(5, 5).tril().bool()), 1e-12)
    assert_same(causal[:, :1], narrow(tokens[:, :1]), 1e-12)
    whole.__class__ = NarrowEvaAttention
    wide = whole(tokens)
    whole.__class__ = EvaAttention
    assert_same(wide, whole(tokens), 1e-12)
