"""Models trained alone: the whole schedule for each, or an equal part of the MACs."""

import pytest

from eavit.methods.recipe import Recipe
from eavit.methods.retraining import Sized, distinct_shapes, phases_alone, retrain
from eavit.model import cost
from eavit.space.product import uniform_shape
from eavit.training.allocation import allocate, steps_of
from tests.eavit.small import SCHEDULE, TinyTask, tiny

B = tiny().backbone
FULL = cost.macs(B, B.full)
SHAPES = {b: uniform_shape(B, b) for b in (0.01, 0.4, 0.7, 1.0)} | {1.1: B.full}


@pytest.mark.parametrize("macs", [None, 1500.0 * FULL])
def test_models_trained_alone_share_the_macs_or_each_get_all_steps(macs, tmp_path):
    task = TinyTask(tmp_path, schedule=SCHEDULE | {"epochs": 2.0}, train_macs=macs)
    shapes = distinct_shapes(SHAPES)
    assert len(shapes) == 3 and SHAPES[0.01] is None

    def run(own):
        phases = phases_alone(own, [(B, shape) for shape in shapes])
        allocation = allocate(own, *phases)
        assert [allocation.fit(phase.name).span.before for phase in phases] == [0, 0, 0]
        return retrain(allocation, tiny(), SHAPES)

    adapted = Recipe("x", run).adapt(task)
    assert adapted.select(0.01) is None and adapted.select(1.1) == adapted.select(1.0) == B.full
    assert not adapted.module(B.full).training
    if macs is None:
        assert task.ledger.steps == 3 * steps_of(task)
    else:
        assert 0.95 * macs < task.ledger.macs <= macs


def test_a_choice_of_other_widths_has_a_name():
    assert str(Sized("pruned-0.5", B.full)) == f"pruned-0.5-{B.full}"
