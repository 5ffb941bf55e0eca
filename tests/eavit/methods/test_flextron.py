"""Flextron-style: both models of a step, a surrogate that learns the loss, routers that learn from it alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from eavit.methods.flextron import flextron, flextron_space, full_and_random
from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.selection.layer_router import (
    LayerRouters,
    layer_routers_cost,
)
from eavit.selection.router import PolicyTable
from eavit.training.passes import draws_of
from eavit.training.samplers import per_layer
from eavit.training.task import Spent
from tests.eavit.small import SCHEDULE, TinyTask, tiny

family = import_module("eavit.methods.flextron")  # the package passes on the function of this name

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
SPACE = flextron_space(BACKBONE)
BUDGETS = (0.05, 0.4, 0.7, 1.0)


@dataclass
class Short(TinyTask):
    schedule: Mapping[str, Any] = field(default_factory=lambda: SCHEDULE | {"epochs": 4.0})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_space_has_quarters_and_all_layers():
    space = flextron_space(Backbone(768, 12, 64, 3072, 12, 197, 100))
    assert (space.embeds, space.heads, space.mlps) == ((768,), (3, 6, 9, 12), (768, 1536, 2304, 3072))
    assert space.min_attn == space.min_mlp == 12
    pico = flextron_space(Backbone(96, 6, 16, 384, 6, 10, 10))
    assert pico.heads == (2, 3, 5, 6) and pico.mlps == (96, 192, 288, 384)


def test_a_step_of_the_first_phase_trains_the_full_model_and_a_random_one():
    plan = full_and_random(SPACE, per_layer)
    steps = [plan(0.0, draws_of(0, i)) for i in range(30)]
    assert all(len(passes) == 2 and passes[0].submodel == BACKBONE.full for passes in steps)
    assert all(SPACE.contains(p.submodel) and (p.hard, p.soft) == (1.0, 0.0) for passes in steps for p in passes)
    assert len({passes[1].submodel for passes in steps}) > 20


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
def test_flextron_spends_equal_macs_to_five_per_cent(options, tmp_path):
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


def test_wrong_options_of_flextron_are_named():
    for options, words in [
        ({"tying": "per_layr"}, "nearest: per_layer"),
        ({"budget_weight": 0}, "option budget_weight=0"),
        ({"select": "router"}, "option select='router' is unknown"),
        ({"importance": "tailor"}, "nearest: taylor"),
    ]:
        with pytest.raises(ValueError, match=words):
            flextron(**options)
