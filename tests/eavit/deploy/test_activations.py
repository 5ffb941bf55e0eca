"""The peak of activations is what torch's allocator was asked for in the same pass, but for scratch inside kernels."""

import numpy as np
import pytest
import timm
import torch
from torch.profiler import ProfilerActivity, profile

from eavit.deploy.activations import LayerPeaks, peak_activation_bytes
from eavit.deploy.limits import UnreachableError
from eavit.model.vit import NestedViT, extract
from eavit.space.product import ProductSpace
from eavit.weights import pico_letters
from tests.eavit.families import KEYS, family


def allocated_peak(module, shape):
    """Peak over the allocations and releases that the allocator itself reports."""
    with torch.no_grad():
        module(torch.zeros(1, *shape))  # what is made once
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
            images = torch.zeros(1, *shape)
            module(images)
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("submodel", ["e96-h6x6-m384x6", "e80-h6x3.5.2.0-m336.48.72x3.48"])
def test_the_peak_is_that_of_the_allocator(submodel):
    plain = extract(NestedViT.from_timm(pico_letters(10)), submodel).eval()
    assert peak_activation_bytes(plain, (1, 24, 24)) == allocated_peak(plain, (1, 24, 24))


def test_the_peak_of_a_larger_vit_is_that_of_the_allocator():
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=5).eval()
    assert peak_activation_bytes(vit, (3, 224, 224)) == allocated_peak(vit, (3, 224, 224))


def test_scratch_of_kernels_alone_is_not_counted():
    plain = family().extract(KEYS[2])  # at this size the first convolution takes more than it gives
    assert 0.9 < peak_activation_bytes(plain, (1, 4, 4)) / allocated_peak(plain, (1, 4, 4)) < 1


def test_activations_are_a_limit_as_others():
    elastic = family()
    peaks = {m.submodel: elastic.sizes(m.submodel)["activation_mib"] for m in elastic.members}
    plain = elastic.extract(KEYS[1])
    assert peaks[elastic.backbone.check(KEYS[1])] == peak_activation_bytes(plain, (1, 4, 4)) / 2**20
    low, high = min(peaks.values()), max(peaks.values())
    assert low < high
    assert peaks[elastic.choose(activation_mib=(low + high) / 2)] <= (low + high) / 2
    with pytest.raises(UnreachableError, match=r"activation_mib=.*: the smallest takes .* MiB of activations"):
        elastic.choose(activation_mib=low / 2)


@pytest.mark.parametrize(
    "model",
    [
        pico_letters(4),
        timm.create_model("vit_small_patch14_reg4_dinov2", img_size=28, embed_dim=48, num_heads=3, depth=3),
        timm.create_model("eva02_tiny_patch14_224", img_size=28, depth=3),
    ],
    ids=["pico", "registers", "eva02"],
)
def test_peaks_by_layers_are_those_of_whole_submodels(model):
    vit = NestedViT.from_timm(model.eval())
    space, rng = ProductSpace.eavit(vit.backbone), np.random.default_rng(0)
    shape = (model.patch_embed.proj.in_channels, *model.patch_embed.img_size)
    peaks = LayerPeaks(vit, shape)
    for submodel in (space.smallest, space.largest, *(space.sample(rng) for _ in range(6))):
        assert peaks(submodel) * 2**20 == peak_activation_bytes(extract(vit, submodel).eval(), shape)
