"""EA-ViT+: members that fill budgets or limits of any measure, drawn by weight; wrong options before any work."""

from collections import Counter

import numpy as np
import pytest
import torch
from strategies import build

from eavit.methods.ea_vit_plus import Members, Shapes, by_bins, ea_vit_plus, using_up
from eavit.model import cost
from eavit.model.cost import Measure
from eavit.model.importance import Scores
from eavit.model.submodel import Submodel
from eavit.training.task import Target
from tests.eavit.laws import BACKBONE, ends_on_its_macs, obeys, task_in
from tests.eavit.model.test_nested_eva import DEIT, EVA
from tests.eavit.selection.searched import shape_fitness

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


def test_shapes_keep_to_multiples():
    space = Shapes(multiple_of=8).space(BACKBONE)
    widths, full = {*space.embeds, *space.mlps}, {BACKBONE.embed, BACKBONE.mlp}
    assert full <= widths
    assert all(width % 8 == 0 for width in widths - full)
    assert len(space.embeds) < len(Shapes().space(BACKBONE).embeds)


def test_candidates_fill_each_budget_in_several_shapes():
    shapes, budgets = Shapes(), (0.45, 0.7, 1.0)
    space = shapes.space(BACKBONE)
    b = BACKBONE
    scores = Scores(torch.rand(b.embed), torch.rand(b.depth, b.heads), torch.rand(b.depth, b.mlp))
    macs = Measure.of_macs(b)
    candidates = shapes.candidates(space, scores, [Target(macs, budget) for budget in budgets])
    assert all(space.contains(each) for each in candidates)
    for budget in budgets[:2]:
        near = [s for s in candidates if 0.85 * budget <= cost.share(b, s) <= budget]
        assert len(near) >= 3


def scores():
    """Importance of the units, the same each time."""
    generator, b = torch.Generator().manual_seed(0), BACKBONE
    channels = torch.rand(b.embed, generator=generator).sort(descending=True).values
    heads = torch.rand(b.depth, b.heads, generator=generator)
    return Scores(channels, heads, torch.rand(b.depth, b.mlp, generator=generator))


@pytest.mark.parametrize(
    ("propose", "measured", "members"),
    [
        ("searched", 33, ["e4-h2x3-m12x3", "e7-h3x3-m16x3", "e9-h3x3-m19x3", "e12-h4x3-m24x3"]),
        ("paths", 12, ["e4-h2x3-m12x3", "e10-h0.1x2-m24x2.22", "e9-h3x3-m19x3", "e12-h4x3-m24x3"]),
    ],
)
def test_members_for_budgets_of_macs_are_those_of_recorded_runs(propose, measured, members):
    """Written down before there were other measures."""
    shapes = Shapes(propose=propose)
    space, macs = shapes.space(BACKBONE), Measure.of_macs(BACKBONE)
    targets = [Target(macs, budget) for budget in (0.2, 0.4555, 0.6, 1.0)]
    known = shapes.explore(space, scores(), targets, 3, shape_fitness(space, digits=6))
    assert len(known) == measured
    assert [str(by_bins(known, target)) for target in targets] == members


def branches(submodel):
    """A device that takes one millisecond for each branch, whatever its widths, and a little for the channels."""
    return 1.0 + sum(map(bool, submodel.heads)) + sum(map(bool, submodel.mlp)) + submodel.embed / 1000


def kept(submodel):
    """A size that falls as the MLPs of the last layer get wider."""
    return submodel.embed + 30.0 - submodel.mlp[-1]


@pytest.mark.parametrize("size", [branches, kept], ids=["branches", "falling"])
@pytest.mark.parametrize("propose", ["searched", "paths", "uniform"])
def test_members_use_a_limit_of_any_measure_up(size, propose):
    shapes = Shapes(propose=propose)
    space, full = shapes.space(BACKBONE), size(BACKBONE.full)
    measure = Measure(size.__name__, size, full)
    limits = [5.5, 6.2] if size is branches else [12.0, 15.0]
    targets = [Target(measure, limit / full) for limit in limits]
    fitness = shape_fitness(space, digits=6)
    always = [space.smallest, Submodel(3, (1, 0, 1), (3, 0, 24))]
    known = shapes.explore(space, scores(), targets, 3, fitness, always)
    assert known == shapes.explore(space, scores(), targets, 3, fitness, always)  # the same each time
    for target, limit in zip(targets, limits, strict=True):
        member = using_up(known, target)
        assert size(member) <= limit and space.contains(member)
        within = [s for s in known if size(s) <= limit]
        assert size(member) > max(map(size, within)) - full / 20  # no shape uses a twentieth more
        assert not [s for s in within if size(s) >= size(member) and known[s] > known[member]]


def test_where_time_goes_by_depth_members_keep_their_widths():
    shapes, full = Shapes(), branches(BACKBONE.full)
    space, measure = shapes.space(BACKBONE), Measure("branches", branches, full)
    target = Target(measure, 5.1 / full)
    fitness = shape_fitness(space, digits=6)
    member = using_up(shapes.explore(space, scores(), [target], 0, fitness, [space.smallest]), target)
    by_macs = Target(Measure.of_macs(BACKBONE), target.budget)
    other = by_bins(shapes.explore(space, scores(), [by_macs], 0, fitness), by_macs)
    assert branches(member) <= 5.1 < branches(other)  # by MACs the member is within only by luck
    assert member.embed == BACKBONE.embed and max(member.heads) == BACKBONE.heads


def test_targets_stand_in_the_place_of_budgets(tmp_path):
    measure = Measure("branches", branches, branches(BACKBONE.full))
    targets = (Target(measure, 5.1 / measure.full), Target(Measure.of_macs(BACKBONE), 0.5))
    adapted = ea_vit_plus(shapes=LITTLE).adapt(task_in(tmp_path, budgets=(), targets=targets))
    *filled, full = map(Submodel.parse, adapted.report()["filled"])
    assert full == BACKBONE.full
    assert [target.fits(member) for target, member in zip(targets, filled, strict=True)] == [True, True]
    assert {*filled, full} == {*map(Submodel.parse, adapted.report()["members"])}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"members": {"drew": 1}}, "members.*drew.*nearest: draw"),
        ({"members": {"micro_batches": 0}}, "members.micro_batches=0"),
        ({"members": {"step": "al"}}, "members.step='al'.*nearest: all"),
        ({"shapes": {"propose": "serched"}}, "shapes.propose='serched'.*nearest: searched"),
        ({"importance": "rotate"}, "importance='rotate'.*nearest: rotated"),
        ({"nesting": "nested"}, "nesting='nested'.*allowed: free, monotone"),
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
