"""One router for each layer: choices are one-hot and counted, a surrogate learns the loss, routers follow both."""

from functools import partial

import numpy as np
import pytest
import torch

from eavit.methods.fitting import digest_of
from eavit.methods.flextron import flextron_space
from eavit.model import cost
from eavit.selection import layer_router
from eavit.selection.layer_router import (
    LayerRouters,
    Surrogate,
    SurrogateSampler,
    fit_surrogate,
    shares_of,
    surrogate_cost,
    train_routers,
)
from eavit.selection.predictor import one_hot
from eavit.space.product import ProductSpace
from eavit.training.samplers import stratified
from eavit.training.task import Spent
from eavit.training.train import Fit, schedule_of
from tests.eavit.small import SCHEDULE, Blobs, tiny

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
SPACE = flextron_space(BACKBONE)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
