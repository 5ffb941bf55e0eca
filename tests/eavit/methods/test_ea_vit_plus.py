"""EA-ViT+: members that fill the budgets, drawn by weight; wrong options before any work."""

from collections import Counter

import numpy as np
import pytest
import torch
from strategies import build

from eavit.methods.ea_vit_plus import Members, Shapes, ea_vit_plus
from eavit.model import cost
from eavit.model.importance import Scores
from eavit.model.submodel import Submodel
from tests.eavit.laws import BACKBONE, ends_on_its_macs, obeys, task_in
from tests.eavit.model.test_nested_eva import DEIT, EVA

LITTLE = {"population": 4, "generations": 1}
SIZES = tuple(Submodel(3 * k, (k,) * 3, (6 * k,) * 3) for k in (1, 2, 3, 4))


@pytest.mark.parametrize("propose", ["searched", "paths", "uniform"])
def test_choices_of_ea_vit_plus_fit_their_budgets(propose, tmp_path):
    adapted = obeys(ea_vit_plus(shapes={"propose": propose, **LITTLE}), tmp_path)
    report = adapted.report()
    assert report["members"][-1] == str(BACKBONE.full) and report["proposals"] >= 3


def test_ea_vit_plus_spends_equal_macs(tmp_path):
    ends_on_its_macs(ea_vit_plus(shapes=LITTLE), tmp_path)


@pytest.mark.parametrize("importance", ["taylor", "variance", "rotated", "none"])
def test_every_importance_runs(importance, tmp_path):
    adapted = ea_vit_plus(importance, shapes=LITTLE).adapt(task_in(tmp_path))
    assert adapted.select(1.0) == BACKBONE.full


def test_small_members_are_drawn_most():
    plan = Members(draw=1.0, micro_batches=4).plan(BACKBONE, SIZES)
    drawn = Counter(p.submodel for step in range(2000) for p in plan(0.5, np.random.default_rng(step)))
    shares = np.array([cost.share(BACKBONE, size) for size in SIZES])
    wanted = 8000 * (1 / shares) / (1 / shares).sum()
    assert [drawn[size] for size in SIZES] == pytest.approx(wanted.tolist(), rel=0.05)


def test_each_piece_of_a_batch_has_one_member_and_the_weights_add_up_to_one():
    passes = Members(draw=0.0, micro_batches=4).plan(BACKBONE, SIZES)(0.0, np.random.default_rng(0))
    assert sorted(p.part for p in passes) == [(i, 4) for i in range(4)]
    assert sum(p.hard for p in passes) == 1
    assert {p.submodel for p in passes} == set(SIZES)  # as many pieces as members of equal weight: each once


def test_a_step_may_train_every_member_on_the_whole_batch():
    passes = Members(step="all", draw=0.0).plan(BACKBONE, SIZES)(0.0, np.random.default_rng(0))
    assert [(p.submodel, p.part, p.hard) for p in passes] == [(size, None, 0.25) for size in SIZES]


def test_members_are_spread_over_the_budgets():
    assert Members().budgets((0.4, 0.2)) == (0.2, 0.4, 1.0)
    assert Members(count=5).budgets((0.2, 1.0)) == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0))


def test_candidates_fill_each_budget_in_several_shapes():
    shapes, budgets = Shapes(), (0.45, 0.7, 1.0)
    space = shapes.space(BACKBONE)
    b = BACKBONE
    scores = Scores(torch.rand(b.embed), torch.rand(b.depth, b.heads), torch.rand(b.depth, b.mlp))
    candidates = shapes.candidates(space, scores, budgets)
    assert all(space.contains(each) for each in candidates)
    for budget in budgets[:2]:
        near = [s for s in candidates if 0.85 * budget <= cost.share(b, s) <= budget]
        assert len(near) >= 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"members": {"drew": 1}}, "members.*drew.*nearest: draw"),
        ({"members": {"micro_batches": 0}}, "members.micro_batches=0"),
        ({"members": {"step": "al"}}, "members.step='al'.*nearest: all"),
        ({"shapes": {"propose": "serched"}}, "shapes.propose='serched'.*nearest: searched"),
        ({"importance": "rotate"}, "importance='rotate'.*nearest: rotated"),
        ({"stage1": {}}, "stage1"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        ea_vit_plus(**options)


@pytest.mark.parametrize("recipe", [EVA, DEIT], ids=["eva", "distilled"])
def test_backbones_without_statistics_are_ordered_by_taylor(recipe, tmp_path):
    task = task_in(tmp_path)
    shape = {"img_size": 4, "patch_size": 2, "in_chans": 1, "num_classes": 3, "embed_dim": 16, "num_heads": 4}
    task.backbone = lambda: build({**recipe, **shape}).float()
    adapted = ea_vit_plus(shapes=LITTLE).adapt(task)
    choice = adapted.select(1.0)
    assert choice is not None and adapted.module(choice)(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
