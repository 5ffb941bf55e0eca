"""A ViT that was built from its arguments computes what the one they came from computes."""

import json

import pytest
import torch
from hypothesis import given
from strategies import build, recipes
from timm.layers import GELUTanh, QuickGELU
from torch import nn

from eavit.deploy.architecture import CannotRebuildError, activation_name, build_submodel, build_vit, rebuilt
from eavit.model.vit import NestedViT, extract
from tests.eavit.families import KEYS
from tests.eavit.model.test_nested_eva import INNER, TAGS, tagged
from tests.eavit.small import plain

FORMS = {
    "class token": {},
    "average": {"global_pool": "avg"},
    "average, norm before": {"global_pool": "avg", "fc_norm": False},
    "no class token": {"global_pool": "avg", "class_token": False},
    "registers": {"reg_tokens": 2, "no_embed_class": True},
    "layer scale": {"init_values": 1e-5},
    "no qkv bias": {"qkv_bias": False},
    "pre-norm": {"pre_norm": True},
    "qk norm": {"qk_norm": True},
    "no positions": {"pos_embed": "none"},
    "any size": {"dynamic_img_size": True},
    "quick gelu": {"act_layer": "quick_gelu"},
    "gelu tanh": {"act_layer": "gelu_tanh"},
    "norm eps": {"norm_layer": lambda width, **options: nn.LayerNorm(width, eps=1e-3, **options)},
    "oblong": {"img_size": (4, 8)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_built_again(form):
    vit = NestedViT.from_timm(plain(**FORMS[form]))
    arguments = json.loads(json.dumps(rebuilt(vit)))
    twin = build_vit(arguments)
    twin.load_state_dict(vit.state_dict())
    images = torch.randn(2, 1, *arguments["img_size"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(twin(images), vit(images), atol=1e-6)


@pytest.mark.parametrize("key", KEYS)
def test_a_submodel_has_the_shapes_of_its_extract(key):
    vit = NestedViT.from_timm(plain())
    wanted = extract(vit, key)
    twin = build_submodel(rebuilt(vit), key)
    twin.load_state_dict(wanted.state_dict())
    images = torch.randn(2, 1, 4, 4)
    with torch.no_grad():
        assert torch.equal(twin(images), wanted(images))


def test_activations_have_timms_names():
    assert [activation_name(act) for act in (nn.GELU(), GELUTanh(), QuickGELU(), nn.SiLU())] == [
        "gelu",
        "gelu_tanh",
        "quick_gelu",
        "silu",
    ]


def test_an_activation_without_a_name_is_refused():
    with pytest.raises(CannotRebuildError, match="Softplus cannot be saved by name"):
        activation_name(nn.Softplus())


def test_what_is_built_otherwise_is_refused():
    vit = NestedViT.from_timm(plain())
    vit.blocks[0].norm2.eps = 0.3
    with pytest.raises(CannotRebuildError, match="gives other logits"):
        rebuilt(vit)


@given(recipe=recipes())
def test_any_model_that_is_nested_is_built_again(recipe):
    vit = NestedViT.from_timm(build(recipe).float())
    arguments = json.loads(json.dumps(rebuilt(vit)))
    twin = build_vit(arguments)
    twin.load_state_dict(vit.state_dict())
    assert type(twin) is recipe["kind"]
    assert NestedViT.from_timm(twin).backbone == vit.backbone


@pytest.mark.parametrize("tag", TAGS)
def test_the_tags_of_the_field_are_built_again_with_their_submodels(tag):
    plain = tagged(tag).float()
    vit = NestedViT.from_timm(plain)
    wanted = extract(vit, INNER)
    twin = build_submodel(json.loads(json.dumps(rebuilt(vit))), INNER)
    twin.load_state_dict(wanted.state_dict())
    images = torch.randn(2, 3, *plain.patch_embed.img_size)
    with torch.no_grad():
        assert torch.equal(twin(images), wanted(images))
