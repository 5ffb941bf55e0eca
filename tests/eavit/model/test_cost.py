"""What a submodel costs is what its extracted module is counted to cost, to the last multiply-accumulate."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import backbones, build, nested_pairs, recipes, submodels
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import eavit
from eavit import Backbone, Gates, NestedViT, Submodel
from eavit.model.cost import Measure, macs, params, share

VIT_B = Backbone(embed=768, heads=12, head_dim=64, mlp=3072, depth=12, tokens=197, num_classes=1000)


def counted(module: nn.Module, in_chans: int, size: tuple[int, int]) -> int:
    """MACs of one image as torch counts them: on the meta device, nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        module.eval().to("meta")(torch.zeros(1, in_chans, *size, device="meta"))
    flops, odd = divmod(counter.get_total_flops(), 2)
    assert odd == 0
    return flops


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def uniform(embed: int, heads: int, mlp: int, layers: int = 12) -> Submodel:
    return Submodel(embed, (heads,) * layers + (0,) * (12 - layers), (mlp,) * layers + (0,) * (12 - layers))


# The law: the formula and the counter agree


@given(recipe=recipes(), data=st.data())
def test_counted_macs_and_parameters_of_the_extract_equal_the_formulas(recipe, data):
    vit = NestedViT.from_timm(build(recipe).float())
    submodel = data.draw(submodels(vit.backbone))
    extracted = eavit.extract(vit, submodel)
    assert count_parameters(extracted) == eavit.params(vit.backbone, submodel)
    assert counted(extracted, recipe["in_chans"], recipe["img_size"]) == eavit.macs(vit.backbone, submodel)


@given(recipe=recipes())
def test_the_full_submodel_costs_what_the_timm_model_costs(recipe):
    plain = build(recipe).float()
    backbone = NestedViT.from_timm(plain).backbone
    assert eavit.params(backbone, backbone.full) == count_parameters(plain)
    assert eavit.macs(backbone, backbone.full) == counted(plain, recipe["in_chans"], recipe["img_size"])


@pytest.mark.parametrize("size", [(7, 6), (8, 8), (5, 4)])
@pytest.mark.parametrize("dynamic", [{}, {"dynamic_img_size": True, "dynamic_img_pad": True}], ids=["fixed", "padded"])
def test_an_own_image_size_that_patches_do_not_fill_is_counted_too(size, dynamic):
    # Without padding the rest of the image is cut off, with padding it makes one more row of patches.
    plain = VisionTransformer(size, 3, embed_dim=4, depth=1, num_heads=2, num_classes=2, weight_init="skip", **dynamic)
    backbone = NestedViT.from_timm(plain).backbone
    assert eavit.macs(backbone, backbone.full) == counted(plain, 3, size)
    assert eavit.params(backbone, backbone.full) == count_parameters(plain)


@pytest.fixture(scope="module")
def vit_b() -> NestedViT:
    with torch.device("meta"):  # 86 million parameters that take no memory
        return NestedViT.from_timm(timm.create_model("vit_base_patch16_224", weight_init="skip"))


def test_vit_b_backbone(vit_b):
    assert vit_b.backbone == VIT_B
    assert eavit.params(VIT_B, VIT_B.full) == 86_567_656


@pytest.mark.parametrize(
    "submodel",
    [
        VIT_B.full,
        Submodel(384, (6,) * 12, (1536,) * 10 + (0, 0)),
        Submodel(448, (12, 0, 7) * 4, (0, 384, 3072, 1536) * 3),
        Submodel(100, (0, 1) * 6, (0, 0, 7) * 4),
        uniform(384, 0, 0),
    ],
    ids=str,
)
def test_counted_macs_of_vit_b(vit_b, submodel):
    extracted = eavit.extract(vit_b, submodel)
    assert counted(extracted, 3, (224, 224)) == eavit.macs(VIT_B, submodel)
    assert count_parameters(extracted) == eavit.params(VIT_B, submodel)


def test_vit_b_at_224_with_1000_classes():
    assert eavit.macs(VIT_B, VIT_B.full) == 17_563_828_224


# Published methods on ViT-B/16 at 224 (reference figures): what each of their names means in kept units.
REFERENCE = """\
figure,classes,embed,heads,mlp,layers,gmacs
full,1000,768,12,3072,12,17.5638
full,100,768,12,3072,12,17.5631
MatFormer with half of the hidden neurons,1000,768,12,1536,12,11.99
MatFormer with a quarter,1000,768,12,768,12,9.20
MatFormer with an eighth: its floor,1000,768,12,384,12,7.80
HydraViT k=3: heads with their channels and neurons,1000,192,3,768,12,1.25
HydraViT k=6,1000,384,6,1536,12,4.60
HydraViT k=8,1000,512,8,2048,12,7.99
DynaBERT width 1/2 of heads and neurons at full depth,1000,768,6,1536,12,8.84
DynaBERT width 1/4 at half of the depth,1000,768,3,768,6,2.30
"""


@pytest.mark.parametrize(
    "row", list(csv.DictReader(io.StringIO(REFERENCE))), ids=lambda row: row["figure"].replace(" ", "_")
)
def test_reference_figures(row):
    backbone = replace(VIT_B, num_classes=int(row["classes"]))
    submodel = uniform(*(int(row[key]) for key in ("embed", "heads", "mlp", "layers")))
    digits = len(row["gmacs"].partition(".")[2])
    assert f"{macs(backbone, submodel) / 1e9:.{digits}f}" == row["gmacs"]


def test_macs_by_the_book():
    # One layer, counted by hand: 4 patches of 12 values and 1 class token, 6 channels, 2 heads of 3, 10 neurons.
    backbone = Backbone(6, 2, 3, 10, 1, tokens=5, num_classes=7, patch_pixels=12, position_tokens=5)
    stem, head = 4 * 12 * 6, 6 * 7
    attention = 5 * 6 * 18 + 5 * 5 * 6 + 5 * 5 * 6 + 5 * 6 * 6  # qkv, scores, weighted values, output
    assert macs(backbone, Submodel(6, (2,), (0,))) == stem + head + attention
    assert macs(backbone, Submodel(6, (0,), (10,))) == stem + head + 2 * 5 * 6 * 10
    assert macs(backbone, Submodel(6, (0,), (0,))) == stem + head


# Order


@given(st.data())
def test_a_nested_submodel_never_costs_more(data):
    backbone = data.draw(backbones())
    thin, wide = data.draw(nested_pairs(backbone))
    assert macs(backbone, thin) <= macs(backbone, wide)
    assert params(backbone, thin) <= params(backbone, wide)
    assert 0 <= share(backbone, thin) <= share(backbone, wide) <= share(backbone, backbone.full) == 1


@given(st.data())
def test_one_head_or_neuron_less_costs_strictly_less(data):
    backbone = data.draw(backbones())
    wide = data.draw(submodels(backbone).filter(lambda s: any(s.heads) or any(s.mlp)))
    rows = [list(wide.heads), list(wide.mlp)]
    row, layer = data.draw(
        st.sampled_from([(r, i) for r, widths in enumerate(rows) for i, w in enumerate(widths) if w])
    )
    rows[row][layer] -= 1
    thin = Submodel(wide.embed, tuple(rows[0]), tuple(rows[1]))
    assert macs(backbone, thin) < macs(backbone, wide)
    assert params(backbone, thin) < params(backbone, wide)


# Gates


def gates_of(submodel: Submodel, backbone: Backbone) -> Gates:
    return Gates.of(submodel, backbone, like=torch.zeros(1, dtype=torch.float64))


@given(st.data())
def test_hard_gates_cost_exactly_what_their_submodel_costs(data):
    backbone = data.draw(backbones())
    submodel = data.draw(submodels(backbone))
    assert macs(backbone, gates_of(submodel, backbone)).item() == macs(backbone, submodel)


def test_hard_gates_of_vit_b_cost_exactly_what_their_submodel_costs():
    submodel = Submodel(448, (12, 0, 7) * 4, (0, 384, 3072, 1536) * 3)
    assert macs(VIT_B, gates_of(submodel, VIT_B)).item() == macs(VIT_B, submodel)


def soft(draw: st.DrawFn, backbone: Backbone) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    shapes = [(backbone.embed,), (backbone.depth, backbone.heads), (backbone.depth, backbone.mlp)]
    draws = [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [d.sort(dim=-1, descending=True).values.requires_grad_() for d in draws]


@given(st.data())
def test_gradients_of_the_cost_reach_every_soft_gate(data):
    backbone = data.draw(backbones())
    gates = soft(data.draw, backbone)
    macs(backbone, Gates(*gates)).backward()
    # Every open unit costs something; a channel costs nothing only where the rest of the model is closed.
    assert all((gate.grad > 0).all() for gate in gates)


@given(st.data())
def test_the_gradient_of_the_cost_is_right(data):
    backbone = data.draw(backbones(max_depth=2))
    gates = soft(data.draw, backbone)
    assert torch.autograd.gradcheck(lambda *parts: macs(backbone, Gates(*parts)), gates, fast_mode=True)


@given(st.data())
def test_soft_gates_cost_between_the_submodels_around_them(data):
    backbone = data.draw(backbones())
    thin, wide = data.draw(nested_pairs(backbone))
    low, high = gates_of(thin, backbone), gates_of(wide, backbone)
    between = Gates(*(torch.lerp(getattr(low, n), getattr(high, n), 0.3) for n in ("embed", "heads", "mlp")))
    cost = macs(backbone, between).item()
    assert macs(backbone, thin) - 1e-6 <= cost <= macs(backbone, wide) + 1e-6


@given(st.data())
def test_a_measure_of_macs_is_what_budgets_are_fractions_of(data):
    backbone = data.draw(backbones())
    submodel = data.draw(submodels(backbone))
    assert Measure.of_macs(backbone).share(submodel) == share(backbone, submodel)
    assert Measure.of_macs(backbone) == Measure("macs", float, 1.0) != Measure("params", float, 1.0)
