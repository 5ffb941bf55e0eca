"""A foreign loop trains submodels without knowing of them."""

import pytest
import torch

from eavit import NestedViT, Sampled
from eavit.space.product import ProductSpace
from eavit.training.samplers import Always, Sandwich
from tests.eavit.families import KEYS, loader
from tests.eavit.small import plain, tiny

IMAGES = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_each_call_in_train_mode_runs_the_next_drawn_submodel():
    vit = tiny()
    one, other = Sampled(vit, steps=20).train(), Sampled(vit, steps=20)
    drawn = [other.draw() for _ in range(20)]
    assert len(set(drawn)) > 5
    assert drawn[0] == vit.backbone.full
    for submodel in drawn:
        assert torch.equal(one(IMAGES), vit(IMAGES, submodel))


def test_all_submodels_of_a_step_are_run_in_turn():
    vit = tiny()
    sampler = Sandwich(ProductSpace.eavit(vit.backbone, 0.5))
    drawn = [Sampled(vit, sampler, steps=10).draw()]
    assert drawn[0] == vit.backbone.full


def test_eval_mode_runs_the_full_model_and_draws_nothing():
    vit = tiny()
    sampled = Sampled(vit, steps=20).eval()
    assert torch.equal(sampled(IMAGES), vit(IMAGES))
    assert int(sampled.calls) == 0


def test_a_resumed_training_goes_on_drawing():
    whole = Sampled(tiny(), steps=20)
    drawn = [whole.draw() for _ in range(12)]
    first, second = Sampled(tiny(), steps=20), Sampled(tiny(), steps=20)
    [first.draw() for _ in range(7)]
    second.load_state_dict(first.state_dict())
    assert [second.draw() for _ in range(5)] == drawn[7:]


def test_a_bare_loop_trains_the_submodels():
    vit = tiny()
    key = KEYS[0]
    model = Sampled(vit, Always(ProductSpace.eavit(vit.backbone), (vit.backbone.check(key),)), steps=120).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(20):
        for images, labels in loader(shuffle=True):
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
            optimiser.zero_grad()
    ((images, labels),) = loader(96, 96, seed=1)
    vit.eval()
    assert (vit(images, key).argmax(1) == labels).float().mean() > 0.9


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="must be a nested ViT"):
        Sampled(plain(), steps=3)
    with pytest.raises(ValueError, match="steps"):
        Sampled(NestedViT.from_timm(plain()), steps=0)
