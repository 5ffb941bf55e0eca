"""Slicing and masking of single modules, and what a backward pass may touch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import assert_same, build, images, randomise, recipes, seeds, submodels
from timm.layers import Attention, LayerNorm, Mlp, PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from eavit import Backbone, Gates, NestedViT, Submodel, extract
from eavit.model import nested, nesting
from tests.eavit.model.vits import TINY

DOUBLE = torch.float64


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def gate(kept: int, width: int) -> Tensor:
    return (torch.arange(width) < kept).to(DOUBLE)


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    return nesting.nest(randomise(module.double(), seed))


def norm_of(width: int, eps: float) -> nn.Module:
    return filled(LayerNorm(width, eps=eps))


def attention_of(bias: bool, norms: bool) -> Attention:
    return Attention(6, 3, attn_head_dim=2, qkv_bias=bias, proj_bias=bias, qk_norm=norms, norm_layer=LayerNorm)


# Single modules


@given(width=st.integers(1, 8), seed=st.integers(0, 99))
def test_layer_norm_takes_its_statistics_over_kept_channels_only(width, seed):
    norm = norm_of(8, 1e-6)
    x = tokens(2, 3, 8, seed=seed)
    wanted = F.layer_norm(x[..., :width], (width,), norm.weight[:width], norm.bias[:width], 1e-6)
    assert torch.equal(norm(x[..., :width], width), wanted)
    masked = norm(x * gate(width, 8), gate(width, 8))
    assert_same(masked[..., :width], wanted, 1e-10)
    assert torch.count_nonzero(masked[..., width:]) == 0
    assert_same(norm(x, gate(width, 8))[..., :width], wanted, 1e-10)  # closed channels never count, whatever they hold


def test_layer_norm_keeps_a_large_common_offset_out_of_the_variance():
    norm = norm_of(6, 1e-6)
    x = tokens(4, 6) * 1e-2 + 1e3
    assert_same(norm(x, gate(4, 6))[..., :4], norm(x[..., :4], 4), 1e-8)


def test_layer_norm_of_soft_gates_is_a_weighted_one():
    norm = norm_of(5, 1e-5)
    x, soft = tokens(2, 5), torch.tensor([1.0, 0.9, 0.5, 0.2, 0.0], dtype=DOUBLE)
    mean = (x * soft).sum(-1, keepdim=True) / soft.sum()
    variance = ((x - mean) ** 2 * soft).sum(-1, keepdim=True) / soft.sum()
    assert_same(norm(x, soft), ((x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias) * soft, 1e-12)


def test_no_row_of_a_linear_layer_is_none_and_not_all():
    state = filled(nn.Linear(5, 6)).narrow(0, 0)
    assert (state["weight"].shape, state["bias"].shape) == ((0, 0), (0,))


@given(out=st.integers(1, 6), into=st.integers(1, 5), bias=st.booleans())
def test_linear_uses_its_first_rows_and_columns(out, into, bias):
    layer = filled(nn.Linear(5, 6, bias=bias))
    x = tokens(2, into)
    wanted = x @ layer.weight[:out, :into].T + (layer.bias[:out] if bias else 0)
    assert_same(layer(x, out), wanted, 1e-12)
    shapes = {key: tuple(value.shape) for key, value in layer.narrow(out, into).items()}
    assert shapes == ({"weight": (out, into), "bias": (out,)} if bias else {"weight": (out, into)})


@given(heads=st.integers(1, 3), embed=st.integers(1, 6), norms=st.booleans(), bias=st.booleans())
def test_attention_equals_one_of_its_first_heads_written_out(heads, embed, norms, bias):
    attn = filled(attention_of(bias, norms))
    x = tokens(2, 4, embed)
    rows = attn.qkv.weight.view(3, 3, 2, 6)
    biases = attn.qkv.bias.view(3, 3, 2) if bias else torch.zeros(3, 3, 2, dtype=DOUBLE)
    out = attn.proj.bias[:embed].clone() if bias else torch.zeros(embed, dtype=DOUBLE)
    for head in range(heads):
        q, k, v = (x @ rows[part, head, :, :embed].T + biases[part, head] for part in range(3))
        scores = (attn.q_norm(q) @ attn.k_norm(k).transpose(1, 2) / 2**0.5).softmax(-1)
        out = out + scores @ v @ attn.proj.weight[:embed, 2 * head : 2 * head + 2].T
    assert_same(attn(x, heads), out, 1e-12)
    padded = F.pad(x, (0, 6 - embed))
    assert_same(attn(padded, gate(heads, 3))[..., :embed], out, 1e-12)


@given(hidden=st.integers(1, 7), embed=st.integers(1, 4))
def test_mlp_equals_one_of_its_first_neurons(hidden, embed):
    # A shifted activation is not 0 at 0: closed neurons must be closed after it.
    mlp = filled(Mlp(4, 7, act_layer=nn.Softplus))
    x = tokens(2, 3, embed)
    inner = F.softplus(x @ mlp.fc1.weight[:hidden, :embed].T + mlp.fc1.bias[:hidden])
    wanted = inner @ mlp.fc2.weight[:embed, :hidden].T + mlp.fc2.bias[:embed]
    assert_same(mlp(x, hidden), wanted, 1e-12)
    assert_same(mlp(F.pad(x, (0, 4 - embed)), gate(hidden, 7))[..., :embed], wanted, 1e-12)


def block_of(layer_scale: bool) -> nested.NestedBlock:
    return filled(Block(6, 3, mlp_ratio=1.5, qkv_bias=True, init_values=0.1 if layer_scale else None))


@pytest.mark.parametrize("layer_scale", [False, True])
def test_a_block_with_both_branches_skipped_is_the_identity(layer_scale):
    block, x = block_of(layer_scale), tokens(2, 4, 6)
    assert torch.equal(block(x, 6, 0, 0), x)
    assert torch.equal(block(x, gate(6, 6), gate(0, 3), gate(0, 9)), x)
    assert block.narrow(6, 0, 0) == {}


@pytest.mark.parametrize("layer_scale", [False, True])
@pytest.mark.parametrize(("heads", "hidden"), [(2, 0), (0, 5)])
def test_a_skipped_branch_adds_no_bias(heads, hidden, layer_scale):
    block, x = block_of(layer_scale), tokens(2, 4, 6)
    alone = (
        block.ls1(block.attn(block.norm1(x, 6), heads)) if heads else block.ls2(block.mlp(block.norm2(x, 6), hidden))
    )
    assert torch.equal(block(x, 6, heads, hidden), x + alone)
    assert_same(block(x, gate(6, 6), gate(heads, 3), gate(hidden, 9)), x + alone, 1e-12)


def test_the_first_gate_of_a_branch_scales_its_bias():
    block, x = block_of(layer_scale=False), tokens(1, 4, 6)
    half = torch.full((3,), 0.5, dtype=DOUBLE)
    assert_same(block.attn(x, half), 0.5 * block.attn(x, gate(3, 3)), 1e-12)
    halves = torch.full((9,), 0.5, dtype=DOUBLE)
    assert_same(block.mlp(x, halves), 0.5 * block.mlp(x, gate(9, 9)), 1e-12)


def test_stochastic_depth_factors_scale_each_image_and_branch():
    block, x = block_of(layer_scale=True), tokens(2, 4, 6)
    keep = torch.tensor([[0.0, 2.0], [0.0, 0.0]], dtype=DOUBLE).view(2, 2, 1, 1)
    found = block(x, 6, 3, 9, keep)
    assert torch.equal(found[0], x[0])
    assert_same(found[1], x[1] + 2 * (block(x, 6, 3, 0)[1] - x[1]), 1e-12)


@given(st.integers(1, 5), st.booleans(), st.booleans())
def test_patches_are_the_first_channels_of_the_stem(width, bias, pad):
    stem = filled(PatchEmbed((6, 6), (2, 3), 2, 5, bias=bias, dynamic_img_pad=pad))
    found, grid = stem(tokens(2, 2, 6, 6), width)
    whole, _ = stem(tokens(2, 2, 6, 6), 5)
    assert grid == (3, 2)
    assert found.shape == (2, 6, width)
    assert_same(found, whole[..., :width], 1e-12)
    assert stem(tokens(1, 2, 5, 7), 5)[1] == ((3, 3) if pad else (2, 2))


def test_one_qkv_row_group_for_each_part_and_head():
    attn = nesting.nest(Attention(2, 3, attn_head_dim=2, qkv_bias=True))
    with torch.no_grad():
        attn.qkv.bias.copy_(torch.arange(18.0))
    # (3 parts, 3 heads, 2 values): the first two heads are rows 0-3, 6-9 and 12-15.
    assert attn.narrow(2, 2)["qkv.bias"].tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15]


# Gradients


def first(kept: int, size: int) -> Tensor:
    return torch.arange(size) < kept


def _rows_of_heads(b: Backbone, kept: int, parts: int) -> Tensor:
    row = torch.arange(parts * b.heads * b.head_dim)
    return (row % (b.heads * b.head_dim)) // b.head_dim < kept


def _inside_block(b: Backbone, s: Submodel, layer: int, name: str) -> tuple[Tensor, ...]:
    """Kept indices of each axis, from timm's names alone."""
    channels, heads, hidden = first(s.embed, b.embed), s.heads[layer], s.mlp[layer]
    attn, mlp = torch.tensor([heads > 0]), torch.tensor([hidden > 0])
    every = torch.ones(b.head_dim, dtype=torch.bool)
    rows, neurons = _rows_of_heads(b, heads, 1), first(hidden, b.mlp)
    return {
        **{f"attn.{part}_proj.weight": (rows, channels) for part in "qkv"},
        **{f"attn.{name}": (rows,) for name in ("q_proj.bias", "k_proj.bias", "v_proj.bias", "q_bias", "v_bias")},
        **dict.fromkeys(("attn.norm.weight", "attn.norm.bias"), (rows,)),
        **{f"mlp.fc1_{part}.weight": (neurons, channels) for part in "gx"},
        **{f"mlp.{name}": (neurons,) for name in ("fc1_g.bias", "fc1_x.bias", "norm.weight", "norm.bias")},
        "gamma_1": (channels & attn,),
        "gamma_2": (channels & mlp,),
        "norm1.weight": (channels & attn,),
        "norm1.bias": (channels & attn,),
        "attn.qkv.weight": (_rows_of_heads(b, heads, 3), channels),
        "attn.qkv.bias": (_rows_of_heads(b, heads, 3),),
        "attn.q_norm.weight": (every & attn,),
        "attn.q_norm.bias": (every & attn,),
        "attn.k_norm.weight": (every & attn,),
        "attn.k_norm.bias": (every & attn,),
        "attn.proj.weight": (channels, _rows_of_heads(b, heads, 1)),
        "attn.proj.bias": (channels & attn,),
        "ls1.gamma": (channels & attn,),
        "norm2.weight": (channels & mlp,),
        "norm2.bias": (channels & mlp,),
        "mlp.fc1.weight": (neurons.repeat(1 + b.gated_mlp), channels),
        "mlp.fc1.bias": (neurons.repeat(1 + b.gated_mlp),),
        "mlp.fc2.weight": (channels, neurons),
        "mlp.fc2.bias": (channels & mlp,),
        "ls2.gamma": (channels & mlp,),
    }[name]


def inside(b: Backbone, s: Submodel, key: str, shape: torch.Size) -> Tensor:
    """Which entries of the parameter under timm's key belong to the submodel, written down a second time."""
    mask, channels = torch.ones(shape, dtype=torch.bool), first(s.embed, b.embed)
    if key.startswith("blocks."):
        _, layer, name = key.split(".", 2)
        for axis, kept in enumerate(_inside_block(b, s, int(layer), name)):
            mask &= kept.view([-1 if a == axis else 1 for a in range(len(shape))])
    elif key.startswith("patch_embed."):
        mask &= channels.view([-1] + [1] * (len(shape) - 1))
    elif key not in ("head.bias", "head_dist.bias"):  # of all others channels come last
        mask &= channels
    return mask


def gradients(vit: NestedViT, widths: Submodel | Gates, seed: int = 0) -> dict[str, Tensor]:
    vit.zero_grad(set_to_none=True)
    out = vit(images(vit, seed=seed), widths)
    (out * tokens(*out.shape, seed=seed + 1)).sum().backward()
    return {key: p.grad if p.grad is not None else torch.zeros_like(p) for key, p in vit.named_parameters()}


@given(recipe=recipes(), data=st.data())
def test_gradients_outside_the_slices_are_exactly_zero(recipe, data):
    vit = NestedViT.from_timm(build(recipe, seed=data.draw(seeds)))
    submodel = data.draw(submodels(vit.backbone))
    for widths in (submodel, Gates.of(submodel, vit.backbone, like=images(vit))):
        for key, grad in gradients(vit, widths).items():
            outside = grad[~inside(vit.backbone, submodel, key, grad.shape)]
            assert torch.count_nonzero(outside) == 0, f"{key} has a gradient outside {submodel}"


@given(recipe=recipes(), data=st.data())
def test_masked_and_sliced_calls_have_the_same_gradients(recipe, data):
    vit = NestedViT.from_timm(build(recipe, seed=data.draw(st.integers(0, 9))))
    submodel = data.draw(submodels(vit.backbone))
    sliced = _features_loss(vit, submodel)
    masked = _features_loss(vit, Gates.of(submodel, vit.backbone, like=images(vit)))
    for key, wanted in sliced.items():
        assert_same(masked[key], wanted, 1e-6 if submodel.embed < 3 else 1e-8)


def _features_loss(vit: NestedViT, widths: Submodel | Gates) -> dict[str, Tensor]:
    """Gradients of a loss that is the same for features of the kept channels and for zero-padded ones."""
    vit.zero_grad(set_to_none=True)
    out = vit(images(vit), widths)
    out = F.pad(out, (0, (vit.backbone.num_classes or vit.backbone.embed) - out.shape[-1]))
    (out * tokens(*out.shape, seed=1)).sum().backward()
    return {key: p.grad if p.grad is not None else torch.zeros_like(p) for key, p in vit.named_parameters()}


RICH = {**TINY, "reg_tokens": 2, "qk_norm": True, "init_values": 0.1, "pre_norm": True}


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_gradients_inside_the_slices_are_all_there(pool):
    vit = NestedViT.from_timm(build({**RICH, "global_pool": pool}))
    submodel = Submodel(7, (2, 0, 3), (5, 36, 0))
    for key, grad in gradients(vit, submodel).items():
        kept = grad[inside(vit.backbone, submodel, key, grad.shape)]
        if not key.endswith("k_norm.bias"):  # softmax ignores what all keys share
            assert kept.abs().gt(1e-14).all(), f"{key} is not reached by the loss"


def test_the_number_of_entries_inside_is_the_number_of_parameters_of_the_extract():
    vit = NestedViT.from_timm(build(RICH))
    submodel = Submodel(7, (2, 0, 3), (5, 36, 0))
    kept = sum(int(inside(vit.backbone, submodel, key, p.shape).sum()) for key, p in vit.named_parameters())
    assert kept == sum(p.numel() for p in extract(vit, submodel).parameters())


def test_gradients_reach_every_soft_gate():
    vit = NestedViT.from_timm(build(RICH))
    b = vit.backbone
    gates = [torch.full(shape, 0.7, dtype=DOUBLE) for shape in ((b.embed,), (b.depth, b.heads), (b.depth, b.mlp))]
    gates = [g.requires_grad_() for g in gates]
    out = vit(images(vit), Gates(*gates))
    (out * tokens(*out.shape)).sum().backward()
    assert all(torch.count_nonzero(g.grad) == g.numel() for g in gates)
