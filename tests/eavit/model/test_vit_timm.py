"""A nested ViT is called by timm's tools as any ViT is, and what a timm model computes beside logits stays exact."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from strategies import assert_same, build, images
from timm.data import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn

import eavit
from eavit import Gates, NestedViT, Submodel
from eavit.model.nested import NestedLayerNorm
from eavit.model.nesting import nest
from tests.eavit.model.vits import TINY, tiny

INNER = Submodel(7, (2, 0, 1), (9, 48, 0))
RICH = {**TINY, "reg_tokens": 1, "init_values": 0.1, "qk_norm": True}


def nested_and_plain(**changes) -> tuple[NestedViT, VisionTransformer]:
    plain = build({**TINY, **changes})
    return NestedViT.from_timm(plain), plain


# What timm reads from an instance


@pytest.mark.parametrize(
    "tag", ["vit_base_patch16_224.augreg_in21k", "vit_base_patch16_clip_224.openai", "vit_small_patch14_dinov2.lvd142m"]
)
def test_extracts_are_preprocessed_as_their_source(tag):
    plain = timm.create_model(tag, pretrained=False, depth=1, num_classes=3, weight_init="skip")
    vit = NestedViT.from_timm(plain)
    made = [vit, eavit.sort_by_importance(vit, [], "l2")]
    made += [eavit.extract(v, Submodel(128, (2,), (77,))) for v in made]
    wanted = resolve_model_data_config(plain)
    assert wanted["mean"] != (0.485, 0.456, 0.406) or wanted["crop_pct"] == 1.0  # not what timm falls back to
    for one in made:
        assert resolve_model_data_config(one) == wanted
        assert one.pretrained_cfg == plain.pretrained_cfg and one.default_cfg == plain.default_cfg
    assert made[-1].num_features == made[-1].embed_dim == made[-1].head_hidden_size == 128
    assert made[-1].feature_info == [
        {"module": "blocks.0", "num_chs": 128, "reduction": plain.patch_embed.patch_size[0]}
    ]


def groups(model: nn.Module, **options) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in model.named_parameters()}
    optimiser = create_optimizer_v2(model, opt="adamw", lr=1.0, weight_decay=0.05, **options)
    return {
        names[id(p)]: (group["weight_decay"], group.get("lr_scale", 1.0))
        for group in optimiser.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize("options", [{}, {"layer_decay": 0.75}], ids=["plain", "layer_decay"])
def test_timms_optimisers_group_the_parameters_as_on_the_source(options):
    vit, plain = nested_and_plain(reg_tokens=2)
    wanted = groups(plain, **options)
    assert groups(vit, **options) == wanted
    assert wanted["cls_token"][0] == wanted["pos_embed"][0] == wanted["reg_token"][0] == 0.0
    assert len({scale for _, scale in wanted.values()}) == (5 if options else 1)


def test_features_head_and_intermediates_are_timms():
    vit, plain = nested_and_plain(reg_tokens=1, global_pool="avg")
    x = images(vit)
    assert_same(vit.forward_features(x), plain.forward_features(x), 1e-12)
    assert_same(vit.forward_head(vit.forward_features(x)), plain(x), 1e-12)
    for one, other in zip(*(m.get_intermediate_layers(x, 2, norm=True) for m in (vit, plain)), strict=True):
        assert_same(one, other, 1e-12)
    assert vit.get_classifier() is vit.head and vit.no_weight_decay() == plain.no_weight_decay()
    assert vit.group_matcher() == plain.group_matcher()


@pytest.mark.parametrize("classes", [0, 7])
def test_a_new_classifier_is_nested(classes):
    vit = tiny()
    vit.reset_classifier(classes)
    assert vit.backbone.num_classes == classes == vit.num_classes
    vit.double()
    x = images(vit)
    assert vit(x).shape == (2, classes or 12) and vit(x, INNER).shape == (2, classes or 7)
    assert_same(vit(x, INNER), eavit.extract(vit, INNER)(x), 1e-12)
    vit.head = nn.Linear(12, 2).double()  # as one does by hand
    assert vit.backbone.num_classes == 2 and vit(x, INNER).shape == (2, 2)


def test_another_input_size_is_followed():
    vit, plain = nested_and_plain()
    for model in (vit, plain):
        model.set_input_size((9, 12))
    x = images(vit)
    assert vit.backbone.tokens == 13 and x.shape[-2:] == (9, 12)
    assert_same(vit(x), plain(x), 1e-12)
    assert_same(vit(x, INNER), eavit.extract(vit, INNER)(x), 1e-12)


def test_an_average_of_weights_follows_and_runs_submodels():
    vit = tiny()
    ema = ModelEmaV3(vit, decay=0.5)
    before = vit.head.bias.detach().clone()
    with torch.no_grad():
        vit.head.bias.add_(2.0)
    ema.update(vit, step=9)
    assert torch.allclose(ema.module.head.bias, before + 1.0)
    assert ema.module(images(vit), INNER).shape == (2, 5)


@pytest.mark.parametrize("widths", [None, INNER, Gates.of(INNER, tiny().backbone)], ids=["full", "sliced", "masked"])
def test_gradient_checkpointing_runs_blocks_again_and_changes_no_gradient(widths):
    plain = build(RICH)
    plain.set_grad_checkpointing(True)
    vit = NestedViT.from_timm(plain).train()
    assert vit.grad_checkpointing and eavit.extract(vit, INNER).grad_checkpointing
    found = {}
    for saving in (True, False):
        vit.set_grad_checkpointing(saving)
        calls: list[int] = []
        hook = vit.blocks[0].norm1.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        vit.zero_grad(set_to_none=True)
        vit(images(vit), widths).square().sum().backward()
        hook.remove()
        found[saving] = {name: p.grad for name, p in vit.named_parameters() if p.grad is not None}
        assert len(calls) == 1 + saving
    assert found[True].keys() == found[False].keys()
    assert all(torch.equal(found[True][name], grad) for name, grad in found[False].items())


# Exact in other ways of running


def test_an_empty_batch_gives_no_logits():
    vit, plain = nested_and_plain()
    x = images(vit)[:0]
    assert vit(x).shape == vit(x, INNER).shape == plain(x).shape == (0, 5)
    assert vit(x, Gates.of(INNER, vit.backbone, like=x)).shape == (0, 5)
    assert vit.train()(x, INNER, (0.0, 0.5, 0.5)).shape == (0, 5)


def test_a_key_is_a_submodel():
    vit = tiny()
    x = images(vit)
    assert torch.equal(vit(x, str(INNER)), vit(x, INNER))
    assert torch.equal(eavit.extract(vit, str(INNER))(x), eavit.extract(vit, INNER)(x))
    assert eavit.macs(vit, str(INNER)) == eavit.macs(vit.backbone, INNER)
    assert eavit.params(vit, str(INNER)) == eavit.params(vit.backbone, INNER)


class Sliced(nn.Module):
    def __init__(self, vit: NestedViT) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, x):
        return self.vit(x, INNER)


def test_the_sliced_forward_exports_with_a_dynamic_batch():
    vit = tiny().float()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Sliced(vit), (images(vit),), dynamic_shapes=({0: batch},))
    for size in (1, 5):
        x = images(vit, batch=size)
        assert_same(program.module()(x), vit(x, INNER), 1e-5)


class Tagged(VisionTransformer):
    """A user's subclass that only adds to timm's."""

    note = "mine"

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.experiment = {"id": 7}

    def describe(self) -> str:
        return f"{self.note} {self.experiment}"


def test_subclasses_that_only_add_are_nested_and_come_back():
    plain = Tagged(**TINY).double().eval()
    vit = NestedViT.from_timm(plain)
    back = eavit.extract(vit, vit.backbone.full)
    assert type(back) is Tagged and back.describe() == plain.describe() and back.experiment is not plain.experiment
    x = images(vit)
    assert_same(vit(x), plain(x), 1e-12)


def test_a_compiled_model_is_unwrapped():
    plain = build(TINY)
    vit = NestedViT.from_timm(torch.compile(plain, backend="eager"))
    assert set(vit.state_dict()) == set(plain.state_dict())
    assert_same(vit(images(vit)), plain(images(vit)), 1e-12)


DROPOUTS = {"drop_rate": 0.3, "pos_drop_rate": 0.2, "attn_drop_rate": 0.2, "proj_drop_rate": 0.3}


@pytest.mark.parametrize("options", [*({key: rate} for key, rate in DROPOUTS.items()), DROPOUTS], ids=" ".join)
@pytest.mark.parametrize("submodel", [None, INNER], ids=str)
def test_dropout_is_timms_in_training_and_off_in_eval_mode(options, submodel):
    vit, plain = nested_and_plain(**options)
    x = images(vit, batch=4)
    model = plain if submodel is None else eavit.extract(vit, submodel)
    assert_same(vit(x, submodel), model(x), 1e-12)
    outputs = []
    for one in (lambda: vit.train()(x, submodel), lambda: model.train()(x)):
        torch.manual_seed(3)
        outputs.append(one())
    assert_same(outputs[0], outputs[1], 1e-12)
    assert not torch.allclose(outputs[0], vit.eval()(x, submodel))


# Narrow number formats


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_of_masked_norms_are_in_float32(dtype):
    norm = nest(nn.LayerNorm(64, dtype=dtype))
    assert isinstance(norm, NestedLayerNorm)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[:, 3] = 400.0  # its square is beyond float16
    gate = torch.ones(64, dtype=dtype)
    wanted = nn.functional.layer_norm(x.double(), (64,))
    bound = 2 * (nn.functional.layer_norm(x, (64,)).double() - wanted).abs().max()
    assert (norm(x, gate).double() - wanted).abs().max() <= bound


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gates_of_half_precision_models_agree_with_slices(dtype):
    vit = tiny()
    exact = vit(images(vit), INNER)
    half = copy.deepcopy(vit).to(dtype)
    x = images(half)
    sliced, masked = half(x, INNER), half(x, Gates.of(INNER, half.backbone))  # gates in float32
    assert sliced.dtype == masked.dtype == dtype
    assert_same(sliced.double(), exact, 0.05)
    assert_same(masked.double(), exact, 0.05)
    assert eavit.macs(vit.backbone, Gates.of(INNER, vit.backbone, like=x)).item() == eavit.macs(vit.backbone, INNER)
