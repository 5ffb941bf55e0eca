"""Tiny backbones, submodels and spaces for Hypothesis, and timm ViTs whose every parameter is random."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from hypothesis import strategies as st
from timm.layers import GluMlp, Mlp, SwiGLU
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from eavit.model.submodel import Backbone, Submodel
from eavit.space.product import ProductSpace

seeds = st.integers(0, 2**32 - 1)


@st.composite
def backbones(draw: st.DrawFn, max_depth: int = 3) -> Backbone:
    """A consistent tiny backbone, as a value: no weights, widths of a few units."""
    heads, head_dim = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    prefix, patches = draw(st.integers(0, 3)), draw(st.integers(1, 6))
    return Backbone(
        embed=heads * head_dim,
        heads=heads,
        head_dim=head_dim,
        mlp=draw(st.integers(1, 12)),
        depth=draw(st.integers(1, max_depth)),
        tokens=patches + prefix,
        num_classes=draw(st.integers(0, 4)),
        patch_pixels=draw(st.integers(1, 12)),
        prefix_tokens=prefix,
        position_tokens=draw(st.sampled_from((0, patches, patches + prefix))),
        patch_bias=draw(st.booleans()),
        qkv_bias=draw(st.booleans()),
        proj_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        layer_scale=draw(st.booleans()),
        outer_norms=draw(st.integers(0, 2)),
        k_bias=draw(st.booleans()),
        gated_mlp=draw(st.booleans()),
        attn_norm=draw(st.booleans()),
        mlp_norm=draw(st.booleans()),
        classifiers=draw(st.integers(1, 2)),
    )


def _widths(least: int, most: int, depth: int) -> st.SearchStrategy[tuple[int, ...]]:
    # Zero and the full width are the two ends where formulas break, so they come up often.
    width = st.integers(least, most) | st.sampled_from((least, most))
    return st.lists(width, min_size=depth, max_size=depth).map(tuple)


def submodels(backbone: Backbone) -> st.SearchStrategy[Submodel]:
    """Anything nested in the backbone: channels need not be whole heads, any branch may be skipped."""
    b = backbone
    return st.builds(Submodel, st.integers(1, b.embed), _widths(0, b.heads, b.depth), _widths(0, b.mlp, b.depth))


@st.composite
def free_submodels(draw: st.DrawFn) -> Submodel:
    """Submodels of no backbone in particular, with widths of any number of digits and runs of equal layers."""
    depth = draw(st.integers(1, 14))
    width = st.integers(0, 3) | st.integers(0, 10**6)
    rows = st.lists(width, min_size=depth, max_size=depth).map(tuple)
    return Submodel(draw(st.integers(1, 10**6)), draw(rows), draw(rows))


@st.composite
def nested_pairs(draw: st.DrawFn, backbone: Backbone) -> tuple[Submodel, Submodel]:
    """``(a, b)`` with ``a <= b``; about half of the layers are equal in both."""

    def below(width: int, least: int) -> int:
        return draw(st.just(width) | st.integers(least, width))

    wide = draw(submodels(backbone))
    thin = Submodel(below(wide.embed, 1), tuple(below(h, 0) for h in wide.heads), tuple(below(m, 0) for m in wide.mlp))
    return thin, wide


def _choices(most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(1, most), min_size=1, max_size=3).map(lambda widths: tuple(sorted(widths)))


@st.composite
def spaces(draw: st.DrawFn, max_depth: int = 3) -> ProductSpace:
    """Any product space over a tiny backbone, holes in the widths included."""
    b = draw(backbones(max_depth))
    least = st.integers(0, b.depth)
    return ProductSpace(
        b, draw(_choices(b.embed)), draw(_choices(b.heads)), draw(_choices(b.mlp)), draw(least), draw(least)
    )


def members(space: ProductSpace) -> list[Submodel]:
    """Every submodel of a tiny space, found by asking each one that could be: independent of the space's own codes."""
    rows_of_heads = product((0, *space.heads), repeat=space.depth)
    rows_of_mlp = list(product((0, *space.mlps), repeat=space.depth))
    every = (Submodel(e, h, m) for h in rows_of_heads for m in rows_of_mlp for e in space.embeds)
    return [submodel for submodel in every if space.contains(submodel)]


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    """``kind``, a class of timm's that can be nested, and keyword arguments of a tiny model of it: every part that a
    backbone may have or lack.
    """
    flag = st.booleans()
    kind = draw(st.sampled_from((VisionTransformer, VisionTransformer, VisionTransformerDistilled, Eva)))
    patch, grid = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    dynamic, distilled = draw(flag), kind is VisionTransformerDistilled
    class_token = distilled or draw(flag)
    pools = ("token",) if distilled else ("avg", "max", "avgmax") + ("token",) * 3 * class_token
    pools += ("",) * (kind is VisionTransformer)
    common = {
        "kind": kind,
        "img_size": (patch[0] * grid[0], patch[1] * grid[1]),
        "patch_size": patch,
        "in_chans": draw(st.integers(1, 3)),
        "num_classes": draw(st.integers(0, 4)),
        "global_pool": draw(st.sampled_from(pools)),
        "depth": draw(st.integers(1, 3)),
        "num_heads": draw(st.integers(1, 3)),
        "class_token": class_token,
        "no_embed_class": draw(flag),
        "dynamic_img_size": dynamic,
        "dynamic_img_pad": dynamic and draw(flag),
        "qkv_bias": draw(flag),
        "qk_norm": draw(flag),
        "init_values": draw(st.sampled_from((None, 0.1))),
    }
    return common | draw(_of_eva(common) if kind is Eva else _of_vit(common, distilled))


@st.composite
def _of_vit(draw: st.DrawFn, common: dict[str, Any], distilled: bool) -> dict[str, Any]:
    flag = st.booleans()
    mlp = draw(st.sampled_from((Mlp, Mlp, GluMlp, SwiGLU)))
    return {
        "embed_dim": common["num_heads"] * draw(st.integers(2, 5)),
        "mlp_layer": mlp,
        "mlp_ratio": draw(st.sampled_from((2.0, 4.0) if mlp is GluMlp else (0.5, 1.0, 1.5, 3.0))),
        "reg_tokens": 0 if distilled else draw(st.integers(0, 2)),
        "pos_embed": "learn" if distilled else draw(st.sampled_from(("learn", "learn", "none"))),
        "no_embed_class": not distilled and common["no_embed_class"],
        "pre_norm": draw(flag),
        "final_norm": draw(flag),
        "fc_norm": False if distilled else draw(st.sampled_from((None, True, False))),
        "pool_include_prefix": draw(flag),
        "proj_bias": draw(flag),
        "scale_attn_norm": draw(flag),
        "scale_mlp_norm": draw(flag),
        "act_layer": draw(st.sampled_from(("gelu", "gelu_tanh", "quick_gelu", "relu"))),
    }


@st.composite
def _of_eva(draw: st.DrawFn, common: dict[str, Any]) -> dict[str, Any]:
    flag = st.booleans()
    return {
        "embed_dim": common["num_heads"] * 4 * draw(st.integers(1, 2)),
        "mlp_ratio": draw(st.sampled_from((0.5, 1.0, 4 * 2 / 3))),
        "num_reg_tokens": draw(st.integers(0, 2)),
        "qkv_fused": draw(flag),
        "attn_type": draw(st.sampled_from(("eva", "eva", "rope"))),
        "swiglu_mlp": draw(flag),
        "swiglu_align_to": draw(st.sampled_from((0, 3))),
        "scale_mlp": draw(flag),
        "scale_attn_inner": draw(flag),
        "use_abs_pos_emb": draw(flag),
        "use_rot_pos_emb": draw(st.sampled_from((True, True, False))),
        "rope_type": draw(st.sampled_from(("cat", "dinov3"))),
        "rope_rotate_half": draw(flag),
        "rope_grid_indexing": draw(st.sampled_from(("ij", "xy"))),
        "use_pre_transformer_norm": draw(flag),
        "use_post_transformer_norm": draw(st.sampled_from((None, True, False))),
        "use_fc_norm": draw(st.sampled_from((None, True, False))),
    }


def image_sizes(recipe: dict[str, Any]) -> st.SearchStrategy[tuple[int, int]]:
    """Sizes that the recipe's model takes: its own, other whole patches if dynamic, any if it pads."""
    if not recipe["dynamic_img_size"]:
        return st.just(recipe["img_size"])
    if recipe["dynamic_img_pad"]:
        return st.tuples(st.integers(1, 9), st.integers(1, 9))
    high, wide = recipe["patch_size"]
    return st.tuples(st.integers(1, 4).map(lambda n: n * high), st.integers(1, 4).map(lambda n: n * wide))


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return 1 + 0.3 * noise
    if name.endswith("weight"):  # keeps activations near one at any width, so that tolerances mean the same for all
        return noise / max(1, shape[1:].numel()) ** 0.5
    return 0.5 * noise


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fills every parameter: norms, biases, scales and tokens too, which fresh models leave at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_random(name, parameter.shape, generator))
    return model.eval()


def build(recipe: dict[str, Any], seed: int = 0) -> VisionTransformer:
    """The timm model of a recipe, in float64, with random weights."""
    options = dict(recipe)
    kind = options.pop("kind", VisionTransformer)
    start = {} if kind is Eva else {"weight_init": "skip"}
    return randomise(kind(**options, **start).double(), seed)


def images(vit: Any, batch: int = 2, seed: int = 0, size: tuple[int, int] | None = None) -> Tensor:
    """Random images of the backbone's own size (or another) and dtype."""
    generator, shape = torch.Generator().manual_seed(seed), size or vit.patch_embed.img_size
    noise = torch.randn(batch, vit.in_chans, *shape, generator=generator, dtype=torch.float64)
    return noise.to(next(vit.parameters()))


def assert_same(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Equal within ``tolerance``, relative to the largest value where that exceeds 1."""
    assert found.shape == wanted.shape
    worst = (found - wanted).abs().max().item()
    assert worst <= tolerance * max(1.0, wanted.abs().max().item()), f"differs by {worst:.3g}"
