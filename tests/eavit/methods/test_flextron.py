"""Flextron-style: both models of a step, a surrogate that learns the loss, routers that learn from it alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from eavit.methods.fitting import digest_of
from eavit.methods.flextron import flextron, full_and_random, space_of
from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.selection import layer_router
from eavit.selection.layer_router import (
    LayerRouters,
    Surrogate,
    SurrogateSampler,
    fit_surrogate,
    layer_routers_cost,
    shares_of,
    surrogate_cost,
    train_routers,
)
from eavit.selection.predictor import one_hot
from eavit.selection.router import PolicyTable
from eavit.space.product import ProductSpace
from eavit.training.passes import draws_of
from eavit.training.samplers import per_layer, stratified
from eavit.training.task import Spent
from eavit.training.train import Fit, schedule_of
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, tiny

family = import_module("eavit.methods.flextron")  # the package passes on the function of this name

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
SPACE = space_of(BACKBONE)
BUDGETS = (0.05, 0.4, 0.7, 1.0)


@dataclass
class Short(TinyTask):
    schedule: Mapping[str, Any] = field(default_factory=lambda: SCHEDULE | {"epochs": 4.0})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_space_has_quarters_and_all_layers():
    space = space_of(Backbone(768, 12, 64, 3072, 12, 197, 100))
    assert (space.embeds, space.heads, space.mlps) == ((768,), (3, 6, 9, 12), (768, 1536, 2304, 3072))
    assert space.min_attn == space.min_mlp == 12
    pico = space_of(Backbone(96, 6, 16, 384, 6, 10, 10))
    assert pico.heads == (2, 3, 5, 6) and pico.mlps == (96, 192, 288, 384)


def test_a_step_of_the_first_phase_trains_the_full_model_and_a_random_one():
    plan = full_and_random(SPACE, per_layer)
    steps = [plan(0.0, draws_of(0, i)) for i in range(30)]
    assert all(len(passes) == 2 and passes[0].submodel == BACKBONE.full for passes in steps)
    assert all(SPACE.contains(p.submodel) and (p.hard, p.soft) == (1.0, 0.0) for passes in steps for p in passes)
    assert len({passes[1].submodel for passes in steps}) > 20


def test_choices_are_one_hot_and_their_share_is_counted():
    routers = LayerRouters(SPACE, generator())
    heads, mlp = routers.draw(torch.tensor([0.3, 0.9]), 1.0, generator(1))
    for choice in (heads, mlp):
        assert torch.equal(choice.detach().sum(-1), torch.ones(2, 3)) and set(choice.unique().tolist()) <= {0.0, 1.0}
    rng = np.random.default_rng(0)
    members = [SPACE.sample(rng) for _ in range(6)]
    marks = one_hot(SPACE, members)
    rows = marks[:, 1:13].view(6, 3, 4), marks[:, 13:].view(6, 3, 4)
    wanted = torch.tensor([cost.share(BACKBONE, s) for s in members])
    assert torch.allclose(shares_of(SPACE, *rows), wanted)
    assert torch.equal(Surrogate(SPACE, generator()).of_choices(*rows), Surrogate(SPACE, generator())(marks))


def test_noise_fades_with_the_temperature_but_gradients_reach_every_layer():
    routers = LayerRouters(SPACE, generator())
    heads, mlp = routers.draw(torch.full((4,), 0.5), 0.1, generator(2))
    (heads[..., 0].sum() + mlp[..., 1].sum()).backward()
    assert all((p.grad.flatten(1).abs().sum(1) > 0).all() for p in routers.parameters())
    assert (layer_router.WARM, layer_router.COLD) == (1.0, 0.1)


class Cheap:
    """A surrogate that says how much the choice of one layer is worth."""

    def __init__(self, layer):
        self.layer = layer

    def of_choices(self, heads, mlp):
        return 3 - 2 * mlp[:, self.layer, -1] - heads[:, self.layer, -1]


def test_routers_follow_the_surrogate_and_the_budget():
    """Whatever layer the surrogate thinks worth its MACs stays wide where the budget is small."""
    for layer in (0, 2):
        routers = LayerRouters(SPACE, generator())
        miss = train_routers(routers, Cheap(layer), 0.3, generator(1))
        assert miss < 0.02
        chosen = [routers.choose(t) for t in (0.45, 0.6, 0.75)]
        assert all(SPACE.contains(s) and s.mlp[layer] == 24 for s in chosen)
        assert sum(m == 24 for m in chosen[0].mlp) < 3
        shares = [cost.share(BACKBONE, routers.choose(t)) for t in (0.35, 0.6, 1.0)]
        assert shares == sorted(shares) and shares[-1] > shares[0] + 0.2
    again = LayerRouters(SPACE, generator())
    assert train_routers(again, Cheap(2), 0.3, generator(1)) == miss


def test_training_routers_leaves_the_surrogate_alone():
    surrogate, routers = Surrogate(SPACE, generator()), LayerRouters(SPACE, generator())
    before = {key: value.clone() for key, value in surrogate.state_dict().items()}
    train_routers(routers, surrogate, 0.3, generator())
    assert all(torch.equal(before[key], value) for key, value in surrogate.state_dict().items())
    assert all(p.grad is None for p in surrogate.parameters())


def test_the_surrogate_learns_the_loss_from_forward_passes_alone(monkeypatch):
    vit, account = tiny().eval(), Spent()
    before = digest_of(vit)

    def told(images, submodel):
        logits = torch.zeros(len(images), 3)
        logits[:, 0] = 8 * (1 - cost.share(BACKBONE, submodel))  # the smaller, the more it insists on one class
        return logits

    monkeypatch.setattr(type(vit), "forward", lambda self, images, submodel: told(images, submodel))
    draws = SurrogateSampler(SPACE, partial(stratified, floor=0.3))
    surrogate = Surrogate(SPACE, generator())
    run = Fit(Blobs(), schedule_of(SCHEDULE), 0, 150, ledger=account, phase="surrogate")
    fit_surrogate(vit, surrogate, draws, run)
    with torch.no_grad():
        small, large = surrogate(one_hot(SPACE, [SPACE.smallest, SPACE.largest])).tolist()
    assert small > 2.5 and large == pytest.approx(1.1, abs=0.5)
    assert digest_of(vit) == before and not any(p.grad is not None for p in vit.parameters())
    assert (account.forward_macs, account.backward_macs) == (surrogate_cost(draws, 16, 0, 150), 0)


def test_layer_routers_refuse_what_they_cannot_choose():
    with pytest.raises(ValueError, match="one embedding and full depth"):
        LayerRouters(ProductSpace.eavit(BACKBONE), generator())


def test_what_is_deployed_was_trained_and_fits_its_budget(tmp_path, watch_fits):
    fits = watch_fits(family)
    run = Short(tmp_path, budgets=BUDGETS)
    adapted = flextron().adapt(run)
    told = adapted.report()
    assert told["steps"] == {"elastic": 14, "surrogate": 3, "routed": 7} and run.ledger.steps == 24
    elastic, last = fits
    assert elastic.run.total == 14 and last.run.total == 7 and told["evaluations"] == 0
    routed = [last.plan(0.0, draws_of(0, i)) for i in range(200)]
    assert all(len(passes) == 1 and SPACE.contains(passes[0].submodel) for passes in routed)
    trained = {passes[0].submodel for passes in routed}
    assert adapted.select(0.05) is None
    for budget in (0.4, 0.55, 0.7, 0.85, 1.0):
        choice = adapted.select(budget)
        assert cost.share(BACKBONE, choice) <= budget and SPACE.contains(choice)
    assert adapted.select(0.85) in trained
    assert told["router"]["emitted"] >= 2


def test_routers_cost_no_image_but_are_charged(tmp_path):
    run = Short(tmp_path)
    spent = {}

    class Books(Spent):
        name = ""

        def phase(self, name):
            self.name = name
            return super().phase(name)

        def add(self, **amounts):
            spent.setdefault(self.name, []).append(amounts)
            super().add(**amounts)

    run.ledger = Books()
    flextron().adapt(run)
    asked, routed = spent["route"]
    assert asked["images"] == 3 * 16 and asked["backward_macs"] == 0 < asked["forward_macs"] < 3 * 16 * FULL
    assert routed["forward_macs"] == layer_routers_cost(SPACE) and routed["images"] == 0
    assert sum(len(entries) for name, entries in spent.items() if name == "train") == 2


@pytest.mark.parametrize("options", [{}, {"select": "random", "evaluations": 8, "nesting": "nested"}])
def test_equal_macs_are_spent_to_five_per_cent(options, tmp_path):
    macs = 4000.0 * FULL
    run = Short(tmp_path, train_macs=macs)
    flextron(**options).adapt(run)
    assert 0.95 * macs < run.ledger.forward_macs + run.ledger.backward_macs <= 1.05 * macs


def test_nested_routes_lie_inside_each_other(tmp_path):
    adapted = flextron(nesting="nested").adapt(Short(tmp_path, budgets=BUDGETS))
    chosen = [adapted.select(b) for b in BUDGETS[1:]]
    assert chosen[0] <= chosen[1] <= chosen[2]


def test_a_policy_of_emissions_is_projected_into_every_budget():
    routers = LayerRouters(SPACE, generator())
    policy = PolicyTable.from_members(SPACE, [routers.choose(t / 20) for t in range(1, 21)])
    for budget in np.linspace(0.01, 1, 40):
        choice = policy.choose(budget)
        floor = cost.share(BACKBONE, SPACE.smallest)
        assert (choice is None) == (budget < floor)
        assert choice is None or cost.share(BACKBONE, choice) <= budget


def test_wrong_options_are_named():
    for options, words in [
        ({"tying": "per_layr"}, "nearest: per_layer"),
        ({"budget_weight": 0}, "option budget_weight=0"),
        ({"select": "router"}, "option select='router' is unknown"),
        ({"importance": "tailor"}, "nearest: taylor"),
    ]:
        with pytest.raises(ValueError, match=words):
            flextron(**options)
