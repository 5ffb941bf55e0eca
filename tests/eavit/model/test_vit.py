"""A nested ViT is the timm model it came from, at every width: sliced, masked and extracted say the same."""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import cache, partial

import pytest
import timm
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import assert_same, build, image_sizes, images, randomise, recipes, seeds, submodels
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import eavit
from eavit import Gates, NestedViT, Submodel
from tests.eavit.model.vits import TINY, tiny

SHALLOW = {"depth": 3, "img_size": 32, "num_classes": 10}
DRAWS = settings(max_examples=3)

# timm's own models at their own widths (three at a narrower one, to save time), three layers deep, on small images.
ZOO = {
    "tiny": ("vit_tiny_patch16_224", {}),
    "small_one_channel": ("vit_small_patch16_224", {"in_chans": 1}),
    "base": ("vit_base_patch16_224", {}),
    "base_patch32_features": (
        "vit_base_patch32_224",
        {"num_classes": 0, "img_size": 64, "embed_dim": 192, "num_heads": 3},
    ),
    "gap": ("vit_base_patch16_gap_224", {"embed_dim": 384, "num_heads": 6}),
    "gap_fc_norm": ("vit_base_patch16_siglip_gap_224", {"embed_dim": 192, "num_heads": 3, "fc_norm": True}),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 28}),
    "clip_pre_norm": ("vit_base_patch16_clip_quickgelu_224", {"embed_dim": 192, "num_heads": 3}),
    "deit3": ("deit3_small_patch16_224", {}),
    "intern_no_qkv_bias": ("vit_intern300m_patch14_448", {"img_size": 28, "embed_dim": 192, "num_heads": 3}),
    "qk_norm": ("vit_tiny_patch16_224", {"qk_norm": True}),
    "wee_reg1_gap": ("vit_wee_patch16_reg1_gap_256", {}),
    "betwixt_reg4_gap": ("vit_betwixt_patch16_reg4_gap_256", {"embed_dim": 160, "num_heads": 5}),
    "dynamic": ("vit_tiny_patch16_224", {"dynamic_img_size": True}),
    "dynamic_pad": ("vit_tiny_patch16_224", {"dynamic_img_size": True, "dynamic_img_pad": True}),
    "no_positions": ("vit_tiny_patch16_224", {"pos_embed": "none"}),
    "no_proj_bias": ("vit_tiny_patch16_224", {"proj_bias": False}),
    "every_token": ("vit_tiny_patch16_224", {"global_pool": "", "reg_tokens": 1}),
    "max_pool": ("vit_tiny_patch16_224", {"global_pool": "max"}),
    "avgmax_pool_with_prefix": ("vit_tiny_patch16_224", {"global_pool": "avgmax", "pool_include_prefix": True}),
    "no_final_norm": ("vit_tiny_patch16_224", {"final_norm": False}),
    "oblong": ("vit_tiny_patch16_224", {"img_size": (16, 48), "patch_size": (16, 8)}),
    "flexi": ("flexivit_small", {"img_size": 32}),
}
SIZES = {"dynamic": [(32, 32), (48, 32), (16, 64)], "dynamic_pad": [(32, 32), (40, 17), (70, 32)]}
PRECISION = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
CASES = [(name, size) for name in ZOO for size in SIZES.get(name, [None])]


@cache
def timm_model(name: str, dtype: torch.dtype) -> VisionTransformer:
    tag, changes = ZOO[name]
    options = {**SHALLOW, **changes}
    return randomise(timm.create_model(tag, weight_init="skip", **options).to(dtype), seed=len(name))


@cache
def nested_model(name: str, dtype: torch.dtype) -> NestedViT:
    return NestedViT.from_timm(timm_model(name, dtype))


def padded(features: torch.Tensor, width: int) -> torch.Tensor:
    return nn.functional.pad(features, (0, width - features.shape[-1]))


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
@pytest.mark.parametrize(("name", "size"), CASES)
def test_the_full_model_equals_timm(name, size, dtype, tolerance):
    plain, vit = timm_model(name, dtype), nested_model(name, dtype)
    x = images(vit, size=size)
    for training in (False, True):
        plain.train(training), vit.train(training)
        assert_same(vit(x), plain(x), tolerance)
        assert_same(vit(x, vit.backbone.full), plain(x), tolerance)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
@pytest.mark.parametrize(("name", "size"), CASES)
@DRAWS
@given(data=st.data())
def test_sliced_masked_and_extracted_agree(name, size, dtype, tolerance, training, data):
    vit = nested_model(name, dtype).train(training)
    submodel = data.draw(submodels(vit.backbone))
    x = images(vit, seed=data.draw(st.integers(0, 99)), size=size)
    with torch.no_grad():
        sliced, extracted = vit(x, submodel), eavit.extract(vit, submodel)(x)
        masked = vit(x, Gates.of(submodel, vit.backbone, like=x))
    assert_same(sliced, extracted, tolerance)
    # Without a head the masked output keeps its full width, with zeros beyond the kept channels.
    assert_same(masked, sliced if vit.backbone.num_classes else padded(sliced, vit.backbone.embed), tolerance)


@given(recipe=recipes(), data=st.data())
def test_any_plain_vit_equals_timm_and_nests_exactly(recipe, data):
    plain = build(recipe, seed=data.draw(seeds))
    vit = NestedViT.from_timm(plain)
    submodel, x = data.draw(submodels(vit.backbone)), images(vit, size=data.draw(image_sizes(recipe)))
    assume(submodel.embed > 1 or not recipe["dynamic_img_size"])  # torch resamples a column of one channel wrongly
    with torch.no_grad():
        assert_same(vit(x), plain(x), 1e-10)
        sliced, masked = vit(x, submodel), vit(x, Gates.of(submodel, vit.backbone, like=x))
        assert_same(sliced, eavit.extract(vit, submodel)(x), 1e-10)
    assert_same(masked, sliced if vit.backbone.num_classes else padded(sliced, vit.backbone.embed), 1e-10)


DROPPING = {**TINY, "drop_path_rate": 0.5}


def test_masked_features_are_zero_beyond_the_kept_channels():
    vit = tiny(num_classes=0)
    submodel = Submodel(7, (1, 0, 3), (9, 48, 0))
    assert vit(images(vit), submodel).shape == (2, 7)
    masked = vit(images(vit), Gates.of(submodel, vit.backbone, like=images(vit)))
    assert masked.shape == (2, 12)
    assert torch.count_nonzero(masked[:, 7:]) == 0
    assert torch.count_nonzero(masked[:, :7]) == 14


def test_a_model_of_skipped_branches_only_is_its_embedding_norm_and_head():
    vit = tiny()
    nothing = Submodel(12, (0,) * 3, (0,) * 3)
    token = vit.norm(vit.cls_token[0] + vit.pos_embed[0, :1], 12)
    assert_same(vit(images(vit), nothing), vit.head(token).expand(2, -1), 1e-12)
    assert len(eavit.extract(vit, nothing).blocks) == 0


# Stochastic depth


@pytest.mark.parametrize("rate", [0.3, 0.8])
@given(data=st.data())
def test_stochastic_depth_drops_the_same_branches_sliced_and_masked(rate, data):
    vit = tiny(drop_path_rate=rate).train()
    submodel, seed = data.draw(submodels(vit.backbone)), data.draw(seeds)
    x = images(vit, batch=4)
    outputs = []
    for widths in (submodel, Gates.of(submodel, vit.backbone, like=x)):
        torch.manual_seed(seed)
        outputs.append(vit(x, widths))
    assert_same(outputs[1], outputs[0], 1e-10)


def test_stochastic_depth_has_timms_rates_and_is_off_in_eval_mode():
    vit = NestedViT.from_timm(build(DROPPING))
    assert vit.drop_path == pytest.approx((0.0, 0.25, 0.5))
    extracted = eavit.extract(vit, Submodel(8, (1, 2, 0), (5, 0, 5)))
    rates = [p.drop_prob for n, p in extracted.named_modules() if "drop_path" in n and hasattr(p, "drop_prob")]
    assert rates == pytest.approx([0.25, 0.5])
    x = images(vit)
    assert torch.equal(vit(x), vit(x))
    vit.train()
    assert not torch.equal(vit(x), vit(x))


def test_stochastic_depth_keeps_the_mean_of_each_branch():
    vit = NestedViT.from_timm(build(DROPPING)).train()
    keep = vit._draw_paths(torch.zeros(4000, 1, 1, dtype=torch.float64))
    assert keep.shape == (3, 2, 4000, 1, 1)
    assert torch.allclose(keep.mean(2).squeeze(), torch.ones(3, 2, dtype=torch.float64), atol=0.08)
    assert [sorted(layer.unique().tolist()) for layer in keep] == [[1.0], [0.0, pytest.approx(4 / 3)], [0.0, 2.0]]


# In from timm and out again


@given(recipe=recipes())
def test_state_has_timms_keys_and_shapes_and_values(recipe):
    plain = build(recipe)
    state, wanted = NestedViT.from_timm(plain).state_dict(), plain.state_dict()
    assert set(state) == set(wanted)
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


@given(recipe=recipes())
def test_extracting_everything_gives_the_timm_model_back(recipe):
    plain = build(recipe)
    vit = NestedViT.from_timm(plain)
    back = eavit.extract(vit, vit.backbone.full)
    assert type(back) is recipe["kind"]
    assert {k: v.shape for k, v in back.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    again = NestedViT.from_timm(back)
    assert again.backbone == vit.backbone
    assert again.drop_path == vit.drop_path
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in again.state_dict().items())


@given(recipe=recipes(), data=st.data())
def test_a_uniform_extract_can_be_nested_again(recipe, data):
    vit = NestedViT.from_timm(build(recipe))
    b = vit.backbone
    heads, hidden = data.draw(st.integers(1, b.heads)), data.draw(st.integers(1, b.mlp))
    submodel = Submodel(data.draw(st.integers(1, b.embed)), (heads,) * b.depth, (hidden,) * b.depth)
    again = NestedViT.from_timm(eavit.extract(vit, submodel))
    assert again.backbone.full == submodel
    assert eavit.macs(again.backbone, submodel) == eavit.macs(b, submodel)
    inner = data.draw(submodels(again.backbone))
    assert_same(again(images(vit), inner), vit(images(vit), inner), 1e-10)


@given(recipe=recipes(), data=st.data())
def test_extracts_of_one_submodel_load_each_others_state(recipe, data):
    plain = build(recipe)
    vit, other = NestedViT.from_timm(plain), NestedViT.from_timm(randomise(copy.deepcopy(plain), seed=7))
    submodel = data.draw(submodels(vit.backbone))
    extracted, target = eavit.extract(vit, submodel), eavit.extract(other, submodel)
    target.load_state_dict(extracted.state_dict(), strict=True)
    assert torch.equal(target(images(vit)), extracted(images(vit)))


def test_an_extract_and_its_source_share_no_memory():
    plain = build(DROPPING)
    vit = NestedViT.from_timm(plain)
    extracted = eavit.extract(vit, vit.backbone.full)
    owners = [{p.data_ptr() for p in module.parameters()} for module in (plain, vit, extracted)]
    assert not owners[0] & owners[1]
    assert not owners[1] & owners[2]
    before = vit(images(vit))
    with torch.no_grad():
        for parameter in (*extracted.parameters(), *plain.parameters()):
            parameter.fill_(float("nan"))
    assert torch.equal(vit(images(vit)), before)
    assert all(p.is_contiguous() and p.is_leaf for p in extracted.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
def test_dtype_and_mode_are_kept_in_and_out(dtype, training):
    vit = NestedViT.from_timm(build(DROPPING).to(dtype).train(training))
    extracted = eavit.extract(vit, Submodel(4, (1, 0, 2), (3, 3, 0)))
    for module in (vit, extracted):
        assert {p.dtype for p in module.parameters()} == {dtype}
        assert {m.training for m in module.modules()} == {training}


def test_activations_keep_their_arguments():
    plain = build({**TINY, "act_layer": partial(nn.LeakyReLU, negative_slope=0.5)})
    vit = NestedViT.from_timm(plain)
    assert_same(vit(images(vit)), plain(images(vit)), 1e-10)
    assert_same(eavit.extract(vit, vit.backbone.full)(images(vit)), plain(images(vit)), 1e-10)


@pytest.mark.parametrize("changes", [{"class_token": True}, {"no_embed_class": True, "reg_tokens": 1}])
def test_an_oblong_dynamic_backbone_agrees_to_the_last_digits(changes):
    # Some releases of timm resample positions, through float32, even at the native size, unless the grid is square.
    recipe = {**TINY, "img_size": (6, 12), "dynamic_img_size": True, **changes}
    plain = build(recipe)
    vit = NestedViT.from_timm(plain)
    assert_same(vit(images(vit)), plain(images(vit)), 1e-10)


# Calls leave no trace

CALLED = tiny(init_values=0.1, qk_norm=True)


@given(data=st.data())
def test_calls_in_turn_do_not_affect_each_other(data):
    vit = CALLED
    one, other = (data.draw(submodels(vit.backbone)) for _ in range(2))
    x, before = images(vit), OrderedDict((k, v.clone()) for k, v in vit.state_dict().items())
    alone = copy.deepcopy(vit)(x, one)
    first = vit(x, one)
    vit(x, other), vit(x, Gates.of(other, vit.backbone, like=x)), eavit.extract(vit, other)(x), vit(x)
    assert torch.equal(first, alone)
    assert torch.equal(vit(x, one), alone)
    assert all(torch.equal(value, before[key]) for key, value in vit.state_dict().items())
