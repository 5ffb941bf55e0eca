"""The router emits members of its space, starts from a front, learns budgets, and its policy never overspends."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eavit.model import cost
from eavit.model.gates import Gates
from eavit.model.submodel import Backbone, Submodel
from eavit.selection.router import (
    PolicyTable,
    RoutedViT,
    Router,
    Routing,
    budget_penalty,
    imitate,
    imitation,
    route_frozen,
    route_jointly,
    shaping_of,
)
from eavit.space.product import ProductSpace
from eavit.training.task import Spent
from eavit.training.train import Fit, accuracy, schedule_of
from tests.eavit.selection.searched import spread_front
from tests.eavit.small import SCHEDULE, Blobs, tiny
from tests.strategies import backbones, members, seeds, spaces, submodels

B = Backbone(8, 2, 4, 16, 2, 5, 3, patch_pixels=4, position_tokens=5)


def shaken(space, seed):
    """A router with any logits at all."""
    router = Router(space, hidden=4)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.normal_(0, 3, generator=generator)
    return router


@given(space=spaces(), seed=seeds, target=st.floats(0, 1), noisy=st.booleans())
def test_gates_are_hard_prefixes_and_a_member_of_the_space(space, seed, target, noisy):
    gates = shaken(space, seed)(target, torch.Generator().manual_seed(seed) if noisy else None)
    for part in (gates.embed, gates.heads, gates.mlp):
        assert ((part - part.round()).abs() < 1e-5).all() and (part.diff(dim=-1) <= 1e-5).all()
    submodel = gates.harden()
    assert space.contains(submodel)
    wanted = Gates.of(submodel, space.backbone)
    assert torch.allclose(gates.heads, wanted.heads, atol=1e-5) and torch.allclose(gates.mlp, wanted.mlp, atol=1e-5)


def test_noise_gives_a_gradient_to_every_logit():
    space = ProductSpace.eavit(tiny().backbone, 0.5)
    router = Router(space)
    gates = router(0.5, torch.Generator().manual_seed(0))
    (cost.macs(space.backbone, gates) / cost.macs(space.backbone, space.backbone.full)).backward()
    assert (router.last.bias.grad != 0).float().mean() > 0.7
    quiet = router(0.5)
    assert not quiet.heads.requires_grad  # deterministic at evaluation


def test_vit_b_router_is_light():
    """A few thousand parameters, as the paper's (2,326 for ViT-B)."""
    router = Router(ProductSpace.eavit(Backbone(768, 12, 64, 3072, 12, 197, 100)))
    assert sum(p.numel() for p in router.parameters()) < 4000


def test_imitation_makes_the_router_emit_the_front():
    space = ProductSpace.eavit(tiny().backbone, 0.5)
    points = spread_front(space)
    router = Router(space)
    loss = imitate(router, points, steps=1500)
    assert loss < 0.1
    right = [router(p.share).harden() == p.submodel for p in points]
    assert sum(right) >= len(points) - 2
    assert router(1.0).harden() == space.largest


@given(space=spaces(), seed=seeds, budget=st.floats(0.001, 1))
def test_no_choice_is_ever_over_budget(space, seed, budget):
    """And a larger budget never gets a cheaper choice."""
    policy = PolicyTable.of(shaken(space, seed), targets=8)
    limit = budget * cost.macs(space.backbone, space.backbone.full)
    choice = policy.choose(budget)
    if choice is None:
        assert cost.macs(space.backbone, space.smallest) > limit
    else:
        assert space.contains(choice) and cost.macs(space.backbone, choice) <= limit
        more = policy.choose(min(1.0, budget * 1.3))
        assert more is not None and cost.macs(space.backbone, more) >= cost.macs(space.backbone, choice)


@given(data=st.data())
def test_the_table_holds_the_emissions_and_their_narrowings_only(data):
    """Every member lies in the space and under an emission; MACs strictly ascend down to the space's floor."""
    space = data.draw(spaces(max_depth=2))
    emitted = data.draw(st.lists(st.sampled_from(members(space)), min_size=1, max_size=3))
    policy = PolicyTable.from_members(space, emitted)
    macs = [cost.macs(space.backbone, s) for s in policy.members]
    assert macs == sorted(set(macs))
    assert macs[0] == cost.macs(space.backbone, space.smallest)
    assert all(space.contains(s) and any(s <= e for e in emitted) for s in policy.members)
    assert {cost.macs(space.backbone, e) for e in emitted} <= set(macs)
    alone = PolicyTable.from_members(space, emitted, narrowed=False)
    assert set(alone.members) <= set(emitted)
    assert alone.emitted == policy.emitted == len(alone.members)


def test_an_overshot_budget_gets_a_near_relative():
    """One step too dear is one step narrowed, not the next emission far below."""
    space = ProductSpace.eavit(tiny().backbone, 0.5)
    policy = PolicyTable.from_members(space, [space.smallest, space.largest])
    choice = policy.choose(0.97)
    assert choice <= space.largest
    assert cost.share(space.backbone, choice) > 0.9


def routed(tmp_path, **changes):
    vit = tiny()
    space = ProductSpace.eavit(vit.backbone, 0.5)
    router, ledger = Router(space), Spent()
    points = spread_front(space)
    imitate(router, points)
    table = schedule_of(SCHEDULE | {"lr": 1e-2})
    warm, joint = (
        Fit(Blobs(), table, 0, total, ledger=ledger, phase=phase) for phase, total in (("warm", 6), ("joint", 60))
    )
    before = {key: value.clone() for key, value in vit.state_dict().items()}
    route_frozen(vit, router, points, Routing(**changes), warm)
    route_jointly(vit, router, points, Routing(**changes), joint)
    return vit, router, before, ledger


def test_joint_training_teaches_every_routed_size(tmp_path):
    vit, router, before, ledger = routed(tmp_path)
    policy = PolicyTable.of(router)
    assert ledger.steps == 66
    full = cost.macs(vit.backbone, vit.backbone.full)
    assert ledger.backward_macs == (6 * 1 + 60 * 2) * 16 * full  # a frozen backbone needs no weight gradients
    for budget in (0.5, 1.0):
        choice = policy.choose(budget)
        assert accuracy(vit, choice, Blobs(60, 9)) > 0.9
    assert not torch.equal(before["head.weight"], vit.state_dict()["head.weight"])


def test_warm_up_leaves_the_backbone_alone():
    vit = tiny()
    space = ProductSpace.eavit(vit.backbone, 0.5)
    before = {key: value.clone() for key, value in vit.state_dict().items()}
    router = Router(space)
    logits = router.last.bias.detach().clone()
    table = schedule_of(SCHEDULE)
    route_frozen(vit, router, spread_front(space), Routing(), Fit(Blobs(), table, 0, 5))
    assert all(torch.equal(vit.state_dict()[key], value) for key, value in before.items())
    assert not torch.equal(router.last.bias, logits)
    assert all(p.requires_grad for p in vit.parameters())


def test_the_budget_term_pulls_the_router_to_its_targets():
    """Without imitation and from an open start, the emitted share follows the target."""
    vit = tiny()
    space = ProductSpace.eavit(vit.backbone, 0.5)
    router = Router(space)
    table = schedule_of(SCHEDULE)
    plan = Routing(imitation_weight=0.0, budget_weight=200.0, lr=3e-2)
    route_frozen(vit, router, spread_front(space), plan, Fit(Blobs(), table, 0, 150))
    shares = [cost.share(vit.backbone, router(t).harden()) for t in (0.2, 0.5, 0.9)]
    assert shares[0] < shares[1] < shares[2]
    assert max(abs(s - t) for s, t in zip(shares, (0.2, 0.5, 0.9), strict=True)) < 0.25


def test_policy_refuses_foreign_members():
    space = ProductSpace.eavit(tiny().backbone, 0.5)
    with pytest.raises(ValueError, match="not in the space"):
        PolicyTable.from_members(space, [Submodel(12, (4, 4, 4), (1, 1, 1))])


def test_a_frozen_backbone_stays_as_it_is_and_the_imitation_fades():
    vit, ledger = tiny(), Spent()
    space = ProductSpace.eavit(vit.backbone, 0.5)
    router, points = Router(space), spread_front(space)
    before = {key: value.clone() for key, value in vit.state_dict().items()}
    logits = router.last.bias.detach().clone()
    vit.cls_token.requires_grad_(False)
    run = Fit(Blobs(), schedule_of(SCHEDULE), 0, 7, ledger=ledger, phase="router")
    route_frozen(vit, router, points, Routing(), run)
    assert all(torch.equal(vit.state_dict()[key], value) for key, value in before.items())
    assert not torch.equal(router.last.bias, logits) and [
        n for n, p in vit.named_parameters() if not p.requires_grad
    ] == ["cls_token"]
    full = cost.macs(vit.backbone, vit.backbone.full)
    assert (ledger.steps, ledger.forward_macs, ledger.backward_macs) == (7, 7 * 16 * full, 7 * 16 * full)
    gates = Gates.of(space.smallest, vit.backbone)
    both = RoutedViT(vit, router)
    losses = {
        fading: [
            shaping_of(RoutedViT(vit, router), points, Routing(), fading)(gates, 1.0, p)[1] for p in (0.0, 0.5, 1.0)
        ]
        for fading in (0.0, 1.0)
    }
    assert losses[0.0][0] == losses[0.0][2] > 0
    assert losses[1.0] == [losses[0.0][0], losses[0.0][0] / 2, 0]
    assert len(shaping_of(both, (), Routing(), 1.0)(gates, 1.0, 0.0)) == 1


@given(st.data())
def test_imitation_is_zero_only_at_the_reference(data):
    backbone = data.draw(backbones())
    a, b = data.draw(submodels(backbone)), data.draw(submodels(backbone))
    like = torch.zeros((), dtype=torch.float64)
    gap = imitation(Gates.of(a, backbone, like), Gates.of(b, backbone, like)).item()
    assert (gap == 0) == (a == b)


def test_imitation_is_the_sum_of_five_means_over_gates():
    """Of heads, neurons, channels, and the first gates of both branches, which are those of depth."""
    a, b = Gates.of(Submodel(4, (1, 0), (8, 2)), B), Gates.of(B.full, B)
    heads = (2 * B.heads - 1) / (2 * B.heads)
    neurons = (2 * B.mlp - 10) / (2 * B.mlp)
    channels = (B.embed - 4) / B.embed
    assert imitation(a, b).item() == pytest.approx(heads + neurons + channels + 1 / 2 + 0, rel=1e-6)


def test_budget_penalty_is_the_squared_gap_and_differentiable():
    gates = Gates.of(B.full, B)
    assert budget_penalty(B, gates, 1.0).item() == pytest.approx(0, abs=1e-12)
    assert budget_penalty(B, gates, 0.25).item() == pytest.approx(0.75**2, rel=1e-5)
    half = Gates.of(Submodel(4, (1, 1), (8, 8)), B)
    soft = Gates(half.embed.clone().requires_grad_(), half.heads, half.mlp)
    budget_penalty(B, soft, 0.01).backward()
    assert (soft.embed.grad > 0).all()  # too dear: every gate should shrink


def test_a_step_under_hard_gates_moves_all_weights_as_a_masked_one_does():
    """Those of closed branches too, by their decay and moments."""
    stepped = []
    for sliced in (True, False):
        vit = tiny().double()
        space = ProductSpace.eavit(vit.backbone, 0.5)
        routed = RoutedViT(vit, Router(space).double())
        assert routed.sliced
        routed.sliced = sliced
        optimiser = torch.optim.AdamW(routed.parameters(), lr=1e-2, weight_decay=0.1)
        for step in range(8):
            optimiser.zero_grad(set_to_none=True)
            images = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            logits, _ = routed(images, 0.3, torch.Generator().manual_seed(step))
            torch.nn.functional.cross_entropy(logits, torch.arange(4) % 3).backward()
            optimiser.step()
        stepped.append(torch.cat([parameter.detach().flatten() for parameter in routed.parameters()]))
    assert torch.allclose(*stepped, rtol=0, atol=1e-6)
