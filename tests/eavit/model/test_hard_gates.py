"""Sliced passes under hard gates against the masked ones, which compute every unit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from strategies import assert_same, build, images, seeds
from timm.layers import SwiGLU

from eavit import Gates, NestedViT, Submodel
from eavit.model import hard_gates
from eavit.model.calibration import calibrate
from eavit.selection.router import Router
from eavit.space.product import ProductSpace
from tests.eavit.model.vits import TINY

RECIPES = [
    TINY,
    {**TINY, "init_values": 0.1, "qk_norm": True, "reg_tokens": 2},
    {**TINY, "global_pool": "avg", "class_token": False, "qkv_bias": False},
    {**TINY, "global_pool": "avg", "reg_tokens": 1, "drop_path_rate": 0.4},
    {**TINY, "proj_bias": False, "num_heads": 2, "mlp_ratio": 1.5},
]


def shaken(vit: NestedViT, seed: int) -> Router:
    """A router of any logits, of a space whose widths leave units that no member uses."""
    b = vit.backbone
    space = ProductSpace(b, (3, 5, 8, 11), tuple(range(1, b.heads + 1)), (1, 4, 9, 13), 0, 0)
    router = Router(space, hidden=4).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.normal_(0, 1, generator=generator)
    return router


def passed(vit: NestedViT, router: Router, seed: int, forward) -> dict[str, torch.Tensor]:
    """Logits and all gradients of a pass under the noisy gates of a seed."""
    vit.zero_grad(), router.zero_grad()
    gates = router(0.5, torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    logits = forward(vit, images(vit), gates)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed), dtype=logits.dtype)
    (logits * weights).sum().backward()
    named = [*vit.named_parameters(), *router.named_parameters()]
    return {"logits": logits} | {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named}


def masked(vit, x, gates: Gates) -> torch.Tensor:
    return vit(x, replace(gates, reach=None))


@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=25)
@given(seed=seeds)
def test_values_and_gradients_are_those_of_the_masked_pass(recipe, seed):
    vit = NestedViT.from_timm(build(recipe, seed=seed % 7)).train()
    router = shaken(vit, seed)
    assert hard_gates.covers(vit)
    wanted, found = (passed(vit, router, seed, forward) for forward in (masked, hard_gates.forward))
    for name, value in wanted.items():
        assert_same(found[name], value, 1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_norm": True},
        {"scale_attn_norm": True},
        {"scale_mlp_norm": True},
        {"mlp_layer": SwiGLU},
        {"proj_drop_rate": 0.1},
        {"global_pool": "max"},
        {"global_pool": "avg", "fc_norm": False},
        {"num_classes": 0},
    ],
)
def test_what_is_not_covered_is_told_apart(changes):
    assert hard_gates.covers(NestedViT.from_timm(build(TINY)))
    assert not hard_gates.covers(NestedViT.from_timm(build({**TINY, **changes})))


def test_a_calibrated_vit_is_not_covered():
    vit = NestedViT.from_timm(build(TINY))
    assert not hard_gates.covers(calibrate(vit, [(images(vit), torch.zeros(2))]))


def test_hooks_are_called_by_the_masked_pass():
    vit = NestedViT.from_timm(build(TINY))
    vit.blocks[0].attn.proj.register_forward_hook(lambda *_: None)
    assert not hard_gates.covers(vit)


def test_a_frozen_backbone_gets_no_gradient():
    vit = NestedViT.from_timm(build(TINY)).requires_grad_(False)
    router = shaken(vit, 3)
    wanted, found = (passed(vit, router, 3, forward) for forward in (masked, hard_gates.forward))
    assert all(parameter.grad is None for parameter in vit.parameters())
    assert all(parameter.grad is not None for parameter in router.parameters())
    for name, value in wanted.items():
        assert_same(found[name], value, 1e-9)


def test_closed_parameters_are_those_that_the_pass_leaves_out():
    vit = NestedViT.from_timm(build(TINY))
    submodel = Submodel(8, (2, 0, 3), (0, 5, 0))
    gates = replace(Gates.of(submodel, vit.backbone, like=images(vit)), reach=submodel)
    hard_gates.forward(vit, images(vit), gates).sum().backward()
    unused = {id(parameter) for parameter in vit.parameters() if parameter.grad is None}
    assert unused == {id(parameter) for parameter in hard_gates.closed_parameters(vit, submodel)}
