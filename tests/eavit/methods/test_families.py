"""A family's fits as data: order, sorting, teachers, fits aside, costs, diagnostics."""

import pytest
import torch

from eavit.methods import families
from eavit.methods.choosing import SelectOptions
from eavit.methods.families import Family, PlannedFit, family_recipe, train_family
from eavit.methods.recipe import Card
from eavit.model import cost
from eavit.selection.selectors import uniform
from eavit.space.product import ProductSpace
from eavit.training.passes import always, plain
from eavit.training.plans import taught
from eavit.training.samplers import Random
from tests.eavit.small import SCHEDULE, TinyTask, tiny

FULL = cost.macs(tiny().backbone, tiny().backbone.full)
CHOOSE = SelectOptions().choosing(uniform())


def design(budgets, backbone):
    space = ProductSpace.eavit(backbone)
    drawn = Random(space)
    return Family(
        space,
        [
            PlannedFit("aside", always(backbone.full), 0.25, aside=True),
            PlannedFit("own", plain(drawn), 0.25, sorts=("neurons",)),
            PlannedFit("by itself", taught(drawn), 0.25, (0.0, 0.5), teacher="start"),
            PlannedFit("by the first", taught(drawn), 0.25, (0.5, 1.0), teacher="first"),
        ],
    )


def test_fits_follow_each_other_with_their_teachers(tmp_path, watch_fits):
    seen = watch_fits(families)
    task = TinyTask(tmp_path, schedule=SCHEDULE | {"epochs": 2.0})
    vit, space, diagnostics = train_family(task, design, CHOOSE, "taylor")
    aside, own, itself, last = seen
    assert [fit.run.phase for fit in seen] == list(diagnostics["steps"])
    assert diagnostics["steps"] == {"aside": 3, "own": 3, "by itself": 3, "by the first": 3}
    assert aside.vit is not own.vit and own.vit is itself.vit is last.vit is vit
    assert aside.teacher is own.teacher is None and last.teacher is aside.vit
    assert itself.before[1] == itself.before[0] == own.after[0] and itself.after[1] == itself.before[1]
    assert (itself.run.span, last.run.span) == ((0, 6), (3, 6))
    assert sum(map(sum, diagnostics["coverage"])) == 9  # of the fits of the family alone
    assert isinstance(space, ProductSpace)


def test_equal_macs_pay_for_all_parts(tmp_path):
    macs = 4000.0 * FULL
    task = TinyTask(tmp_path, train_macs=macs)
    recipe = family_recipe("x", Card("t", "p", "c", "e", "s", "d", "n"), design, CHOOSE, "activation")
    assert recipe.card["parameters"] == {"importance": ["activation", "ours"]}
    adapted = recipe.adapt(task)
    assert 0.95 * macs < task.ledger.macs <= macs
    steps = adapted.report()["steps"].values()
    assert max(steps) - min(steps) <= 3  # the phases keep the proportions of their steps
    with torch.no_grad():
        assert adapted.module(adapted.select(1.0))(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_a_fault_of_the_design_stops_before_any_work(tmp_path):
    task = TinyTask(tmp_path)

    def refuse(task, backbone):
        raise ValueError("no such family")

    with pytest.raises(ValueError, match="no such family"):
        train_family(task, refuse, CHOOSE, "taylor")
    assert task.ledger.macs == 0
