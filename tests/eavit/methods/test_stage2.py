"""Layout of the second stage: where the learning rate starts anew, and the router's steps alone."""

from importlib import import_module

import pytest

from eavit import methods
from eavit.methods.stage2 import Stage2, uniform_points
from eavit.model import cost
from eavit.model.vit import NestedViT
from eavit.space.product import ProductSpace
from eavit.training.train import Fit, Schedule, Span
from tests.eavit.small import Blobs, TinyTask, plain

BACKBONE = NestedViT.from_timm(plain()).backbone
FEW = {"search": {"population": 6, "generations": 1}}
STEPS = 48  # of the schedule of a tiny task


def run_of(steps: int, span: Span) -> Fit:
    return Fit(Blobs(), Schedule(), 0, steps, span=span)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (10, 90, Span(160, 250))),
        ({"cycle": "own"}, (10, 90, Span(0, 90))),
        ({"warmup_steps": 40}, (40, 100, Span(150, 250))),
        ({"warmup_steps": 40, "cycle": "own"}, (40, 100, Span(0, 100))),
        ({"warmup": 0.0, "cycle": "own"}, (0, 100, Span(0, 100))),
    ],
)
def test_steps_and_cycle_follow_the_options(options, expected):
    assert Stage2(**options).divided(run_of(100, Span(150, 250))) == expected


def spans_of(options, tmp_path, monkeypatch):
    """Steps and spans of both stages as they are trained."""
    module, seen = import_module("eavit.methods.ea_vit"), {}
    trained, joint = module.train, module.route_jointly
    monkeypatch.setattr(module, "train", lambda vit, how, run: (seen.update(stage1=run), trained(vit, how, run)))
    monkeypatch.setattr(module, "route_jointly", lambda *args: (seen.update(joint=args[-1]), joint(*args)))
    run = TinyTask(tmp_path)
    adapted = methods.ea_vit(stage2=options, **FEW).adapt(run)
    assert adapted.select(1.0) is not None
    return {name: (fit.total, fit.span) for name, fit in seen.items()}, run.ledger.steps


def test_by_default_one_cycle_runs_through_both_stages(tmp_path, monkeypatch):
    spans, steps = spans_of({"share": 0.5}, tmp_path, monkeypatch)
    assert spans == {"stage1": (24, Span(0, STEPS)), "joint": (22, Span(26, STEPS))} and steps == STEPS


def test_each_stage_can_have_its_own_cycle(tmp_path, monkeypatch):
    spans, steps = spans_of({"share": 0.5, "cycle": "own"}, tmp_path, monkeypatch)
    assert spans == {"stage1": (24, Span(0, 24)), "joint": (22, Span(0, 22))} and steps == STEPS


def test_a_number_of_warm_up_steps_comes_on_top_of_the_schedule(tmp_path, monkeypatch):
    spans, steps = spans_of({"share": 0.5, "cycle": "own", "warmup_steps": 7}, tmp_path, monkeypatch)
    assert spans == {"stage1": (24, Span(0, 24)), "joint": (24, Span(0, 24))} and steps == STEPS + 7


@pytest.mark.parametrize("method", [methods.ea_vit, methods.ea_vit_published])
def test_equal_macs_pay_for_the_warm_up_steps_too(method, tmp_path):
    macs = 4000.0 * cost.macs(BACKBONE, BACKBONE.full)
    run = TinyTask(tmp_path, train_macs=macs)
    method(stage2={"warmup_steps": 20, "cycle": "own"}, **FEW).adapt(run)
    assert 0.95 * macs < run.ledger.forward_macs + run.ledger.backward_macs <= 1.02 * macs


def test_its_options_are_checked_by_name():
    for options, match in (
        ({"cycle": "shred"}, "option stage2.cycle='shred'.*nearest: shared"),
        ({"warmup_steps": -1}, "option stage2.warmup_steps=-1: must be a whole number from 0 up"),
        ({"warmup_steps": 2.5}, "option stage2.warmup_steps=2.5"),
    ):
        with pytest.raises(ValueError, match=match):
            methods.ea_vit(stage2=options)


def test_the_uniform_points_ascend_to_the_full_model():
    points = uniform_points(ProductSpace.eavit(BACKBONE, 0.5))
    assert [p.cost for p in points] == sorted(p.cost for p in points) and points[-1].share == 1.0
