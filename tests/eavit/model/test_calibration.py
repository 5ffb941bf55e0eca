"""Dropped units count with their means: at full width nothing changes, and what is constant can be dropped for free."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer

from eavit.model.calibration import attach_statistics, calibrate, statistics_of
from eavit.model.gates import Gates
from eavit.model.importance import sort_by_importance
from eavit.model.nested import INPUT_MEAN, POWER
from eavit.model.rotation import rotate
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract
from tests.eavit.small import Blobs, plain, tiny
from tests.strategies import assert_same, build, images, recipes, submodels

PLAIN = recipes().filter(lambda recipe: recipe["kind"] is VisionTransformer)


def build_plain(recipe):
    """A ViT with a head, plain MLPs and no norm over units."""
    plain_parts = {"num_classes": 3, "mlp_layer": Mlp, "scale_attn_norm": False, "scale_mlp_norm": False}
    return NestedViT.from_timm(build(recipe | plain_parts))


def batches(vit, count=3):
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(images(vit).shape, dtype=torch.float64, generator=generator) for _ in range(count)]
    return [(x, torch.arange(len(x)) % 2) for x in noise]


@given(recipe=PLAIN)
@settings(max_examples=15)
def test_the_full_model_is_unchanged_to_the_bit(recipe):
    vit = build_plain(recipe)
    x = images(vit)
    with torch.no_grad():
        assert torch.equal(calibrate(vit, batches(vit))(x), vit(x))


@given(recipe=PLAIN, data=st.data())
@settings(max_examples=25)
def test_sliced_gated_and_extracted_submodels_agree(recipe, data):
    vit = build_plain(recipe)
    vit, x = calibrate(vit, batches(vit)), images(vit)
    submodel = data.draw(submodels(vit.backbone))
    with torch.no_grad():
        sliced = vit(x, submodel)
        assert_same(extract(vit, submodel)(x), sliced, 1e-10)
        assert_same(vit(x, Gates.of(submodel, vit.backbone, sliced)), sliced, 1e-10)


def test_extracts_have_the_parameters_of_timm_and_no_statistics():
    vit = calibrate(tiny(), Blobs().batches(16))
    half = Submodel(6, (2,) * 3, (12,) * 3)
    assert extract(vit, half).state_dict().keys() == plain().state_dict().keys()
    assert {name.rpartition(".")[2] for name, _ in vit.named_buffers()} <= {INPUT_MEAN, POWER}


def test_a_constant_neuron_and_a_constant_head_can_be_dropped_for_free():
    vit = tiny().double()
    with torch.no_grad():  # the last neuron gives gelu(1); the last head gives its value's bias
        vit.blocks[1].mlp.fc1.weight[-1], vit.blocks[1].mlp.fc1.bias[-1] = 0.0, 1.0
        vit.blocks[0].attn.qkv.weight.view(3, 4, 3, 12)[2, 3] = 0.0
        vit.blocks[0].attn.qkv.bias.view(3, 4, 3)[2, 3] = 0.7
    data = [(x.double(), y) for x, y in Blobs().batches(16)]
    calibrated, x = calibrate(vit, data), data[0][0]
    less = Submodel(12, (3, 4, 4), (24, 23, 24))
    with torch.no_grad():
        assert_same(calibrated(x, less), vit(x), 1e-10)
        assert (vit(x, less) - vit(x)).abs().max() > 1e-3


def test_sorting_moves_the_statistics_along():
    vit = tiny().double()
    data = [(x.double(), y) for x, y in Blobs().batches(16)]
    first, second = calibrate(sort_by_importance(vit, data), data), sort_by_importance(calibrate(vit, data), data)
    half = Submodel(6, (2,) * 3, (12,) * 3)
    with torch.no_grad():
        assert_same(first(data[0][0], half), second(data[0][0], half), 1e-10)


def test_norms_keep_the_scale_that_their_channels_had():
    """Rotated, the first channels are the strongest; a norm over these alone would shrink them."""
    vit = tiny().double()
    data = [(x.double(), y) for x, y in Blobs().batches(96)]
    vit = calibrate(rotate(vit, data), data)
    norm = vit.blocks[1].norm1
    scale = norm.narrow(6)["weight"] / norm.weight[:6]
    power = getattr(norm, POWER)
    assert torch.allclose(scale, (power[:6].mean() / power.mean()).sqrt().expand(6))
    assert scale[0] > 1 and norm.narrow(12)["weight"] is norm.weight


def test_statistics_can_be_read_and_attached_again():
    vit, plain_one, half = calibrate(tiny(), Blobs().batches(16)), tiny(), Submodel(6, (2,) * 3, (12,) * 3)
    x = next(iter(Blobs().batches(16)))[0]
    assert statistics_of(plain_one) == {}
    attach_statistics(plain_one, statistics_of(vit))
    with torch.no_grad():
        assert torch.equal(plain_one(x, half), vit(x, half))


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="vit is"):
        calibrate(plain(), [])
