"""A tiny ViT as timm builds it, nested."""

from __future__ import annotations

from strategies import build

from eavit import NestedViT

TINY = {
    "img_size": 6,
    "patch_size": 3,
    "embed_dim": 12,
    "num_heads": 3,
    "depth": 3,
    "num_classes": 5,
}


def tiny(**changes) -> NestedViT:
    return NestedViT.from_timm(build({**TINY, **changes}))
