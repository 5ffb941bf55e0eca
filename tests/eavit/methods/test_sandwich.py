"""The sandwich rule: who is trained, who teaches whom, who is regularised."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from eavit.methods.sandwich import CARD, sandwich
from eavit.model import cost
from eavit.model.objective import distillation
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT
from eavit.selection.selectors import EVALUATIONS
from eavit.space.product import ProductSpace
from eavit.training.distributed import Share
from eavit.training.passes import Step, cost_of_steps, terms_of
from eavit.training.plans import in_place
from eavit.training.samplers import Sandwich, stratified
from eavit.weights import pico
from tests.eavit.laws import BACKBONE, ends_on_its_macs, obeys, task_in
from tests.eavit.small import Blobs, tiny

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
PICO = NestedViT.from_timm(pico(10)).backbone
STEP = Step(3, 10, 7, Share(0, 12, 12))


def plan_of(backbone, floor=0.2):
    space = ProductSpace.eavit(backbone, 1.0)
    return in_place(Sandwich(space, 2, partial(stratified, floor=floor)))


def terms(vit, smoothing=0.1):
    images, labels = next(Blobs(12, 5).batches(12))
    passes = plan_of(BACKBONE)(STEP.progress, STEP.rng)
    losses = terms_of(vit, plan_of(BACKBONE), smoothing)(vit, images.double(), labels, STEP)
    return passes, losses, images.double(), labels


@pytest.mark.parametrize("options", [{}, {"min_depth": 0.5, "middle": 1}])
def test_choices_of_sandwich_fit_their_budgets(options, tmp_path):
    adapted = obeys(sandwich(evaluations=20, **options), tmp_path)
    assert 0 < adapted.report()["evaluations"] <= 20
    space = ProductSpace.eavit(BACKBONE, options.get("min_depth", 1.0))
    assert all(space.contains(adapted.select(b)) for b in (0.4, 0.7, 1.0))


@pytest.mark.parametrize("nesting", ["free", "nested"])
def test_equal_macs_with_the_search_included(nesting, tmp_path):
    adapted = ends_on_its_macs(sandwich(evaluations=20, nesting=nesting), tmp_path)
    if nesting == "nested":
        chosen = [adapted.select(b) for b in (0.4, 0.7, 1.0)]
        assert chosen[0] <= chosen[1] <= chosen[2]


@pytest.mark.parametrize("select", ["nsga2", "random", "greedy", "uniform"])
def test_a_common_selector_on_its_own_space(select, tmp_path):
    adapted = sandwich(select=select, evaluations=12).adapt(task_in(tmp_path))
    assert all(ProductSpace.eavit(BACKBONE, 1.0).contains(adapted.select(b)) for b in (0.4, 0.7, 1.0))
    assert adapted.report()["evaluations"] <= 12


def test_largest_first_smallest_there_and_random_ones_within_the_budgets():
    space = ProductSpace.eavit(BACKBONE, 1.0)
    for step in range(50):
        first, *others = plan_of(BACKBONE, floor=0.4)(0.5, np.random.default_rng([1, step]))
        assert first.submodel == space.largest and others[-1].submodel == space.smallest and len(others) == 3
        assert all(space.contains(p.submodel) for p in others)
        assert all(cost.share(BACKBONE, p.submodel) > 0.3 for p in others[:-1])
        assert (first.hard, first.soft, first.source, first.smoothed) == (1, 0, None, True)
        assert all((p.hard, p.soft, p.source, p.smoothed) == (0, 1, 0, False) for p in others)


def test_random_ones_start_at_the_smallest_budget_of_the_task(tmp_path):
    trained = sandwich(select="uniform").adapt(task_in(tmp_path, budgets=(0.75, 1.0))).report()["coverage"]
    assert not any(count for quarter in trained for count in quarter[3:6])  # between the smallest and the budgets


def test_smallest_and_cost_on_vit_b_and_pico():
    assert str(ProductSpace.eavit(VIT_B, 1.0).smallest) == "e384-h6x12-m384x12"
    assert str(ProductSpace.eavit(PICO, 1.0).smallest) == "e48-h3x6-m48x6"
    full = 3 * cost.macs(VIT_B, VIT_B.full)
    spent = cost_of_steps(plan_of(VIT_B, floor=0.0), VIT_B, 1, 0, 150) / full / 150
    assert spent == pytest.approx(1.95, abs=0.08)


def test_the_others_learn_from_the_largest_alone_and_only_it_is_smoothed():
    vit = tiny().double().eval()
    passes, losses, images, labels = terms(vit)
    with torch.no_grad():
        guide = vit(images)
        for p, term in zip(passes, losses, strict=True):
            mine = vit(images, p.submodel)
            wanted = (
                F.cross_entropy(mine, labels, label_smoothing=0.1) if p.source is None else distillation(mine, guide)
            )
            assert torch.allclose(term.loss, wanted)


def test_no_gradient_reaches_the_teacher_side():
    """The largest's parameters outside the smallest slice get nothing from the smallest's distillation."""
    vit = tiny().double().eval()
    passes, losses, _, _ = terms(vit)
    for p, term in zip(passes, losses, strict=True):
        vit.zero_grad()
        term.loss.backward()
        if p.source is not None:
            block, s = vit.blocks[0], p.submodel
            assert not block.mlp.fc1.weight.grad[s.mlp[0] :].any() and not block.mlp.fc1.weight.grad[:, s.embed :].any()
            assert block.mlp.fc1.weight.grad[: s.mlp[0], : s.embed].any()


def test_stochastic_depth_acts_on_the_largest_alone():
    vit = tiny().double().train()
    vit.drop_path = (0.6, 0.6, 0.6)

    def values(seed):
        torch.manual_seed(seed)
        _, losses, _, _ = terms(vit)
        return [float(t.loss.detach()) for t in losses]

    assert values(0)[0] != values(1)[0]
    handed = []
    forward = vit.forward
    vit.forward = lambda images, submodel, rates: handed.append((submodel, rates)) or forward(images, submodel, rates)
    values(0)
    assert [rates for _, rates in handed] == [None, (), (), ()] and handed[0][0] == BACKBONE.full


def test_wrong_options_of_sandwich_are_named():
    for options, match in (
        ({"middle": -1}, "middle=-1"),
        ({"min_depth": 1.5}, r"min_depth=1\.5"),
        ({"temperature": 0}, "temperature=0"),
        ({"importance": "tailor"}, "importance='tailor'.*nearest: taylor"),
        ({"evaluations": 0}, "evaluations=0"),
        ({"select": "evolutoin"}, "select='evolutoin'.*nearest: evolution"),
    ):
        with pytest.raises(ValueError, match=match):
            sandwich(**options)


def test_the_card_of_sandwich():
    assert sandwich().card["parameters"]["evaluations"] == [EVALUATIONS, "ours"]
    assert {who for _, who in CARD.parameters.values()} <= {"paper", "code", "ours"}
