"""What recipes are made of: portions of a training, in steps or in MACs, and the reserve of a search."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eavit.methods.recipe import Recipe, Search, retrain_on, search_cost, search_on, train_on
from eavit.model import cost
from eavit.selection.router import cost_of_route
from eavit.space.product import ProductSpace, uniform_shape
from eavit.training.prepare import prepare
from eavit.training.samplers import Curriculum, Random, Sandwich
from eavit.training.spending import Portion, Tally, budget_left, steps_for, steps_of
from eavit.training.steps import in_place, taught
from eavit.training.train import Span
from tests.eavit.small import SCHEDULE, Account, TinyTask, tiny

FULL = cost.macs(tiny().backbone, tiny().backbone.full)
SEARCH = Search(10, 2)


@dataclass
class Paid(TinyTask):
    """A task of the regime equal MACs."""

    train_macs: float | None = None


def spent(task):
    return task.ledger.forward_macs + task.ledger.backward_macs


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 2000))
def test_portions_share_all_steps_and_one_cycle(weights, whole):
    total, before, given_out = sum(weights), 0, 0
    for weight in weights:
        portion = Portion(weight / total, before / total)
        steps = portion.of_steps(whole)
        assert portion.span(steps, whole) == Span(given_out, whole)
        before, given_out = before + weight, given_out + steps
    assert given_out == whole


def test_a_portion_of_macs_divides_what_is_left():
    assert Portion(0.6, reserve=100).of_macs(1100) == pytest.approx(600)
    assert Portion(0.4, 0.6).of_macs(450) == pytest.approx(450)  # the last one takes all, whatever was estimated
    assert Portion(0.5, reserve=100).of_macs(50) == 0
    assert Portion(0.4, 0.6).span(80, 100) == Span(120, 200)  # its 80 steps are the last 40 % of a cycle of 200
    assert Portion(0.6).span(90, 100) == Span(0, 150)
    for share, before in ((0, 0), (1.1, 0), (0.5, 0.6), (0.5, -0.1)):
        with pytest.raises(ValueError, match="portion: share"):
            Portion(share, before)


def test_equal_steps_ignore_macs(tmp_path):
    task = TinyTask(tmp_path)
    assert budget_left(task) is None
    assert steps_for(task, Portion(0.25), lambda n: pytest.fail("asked for a price")) == 12
    vit = tiny()
    train_on(task, vit, Random(ProductSpace.eavit(vit.backbone)), portion=Portion(0.25))
    assert task.ledger.steps == 12


def test_a_ledger_that_cannot_be_asked_is_refused(tmp_path):
    with pytest.raises(TypeError, match="ledger is a Account.*Recipe"):
        budget_left(Paid(tmp_path, train_macs=1e9))


def test_a_tally_passes_on_and_remembers():
    account = Account()
    tally = Tally(account)
    with tally.phase("x"):
        tally.add(forward_macs=2, backward_macs=3, images=4, steps=1)
    assert tally.macs == 5 and (account.forward_macs, account.steps) == (2, 1)


@pytest.mark.parametrize("plan", [Curriculum, lambda s: in_place(Sandwich(s)), lambda s: taught(Random(s))])
def test_one_fit_spends_what_it_may(tmp_path, plan):
    task = Paid(tmp_path, train_macs=3000.0 * FULL)

    def run(own):
        vit = prepare(own)
        train_on(own, vit, plan(ProductSpace.eavit(vit.backbone, 0.5)), teacher=tiny(seed=1))
        assert budget_left(own) == task.train_macs - spent(task)

    Recipe("x", run).adapt(task)
    assert 0.95 * task.train_macs < spent(task) <= task.train_macs


def test_a_search_is_reserved_and_the_last_fit_trues_up(tmp_path):
    """Stage 1, search, router: whatever the search really costs, the whole is what it may be."""
    task, seen = Paid(tmp_path, train_macs=4000.0 * FULL), {}

    def run(own):
        vit = prepare(own)
        space = ProductSpace.eavit(vit.backbone, 0.5)
        reserve = search_cost(own, space, SEARCH)
        first = own.ledger.macs
        train_on(own, vit, Curriculum(space), "stage1", portion=Portion(0.6, reserve=reserve))
        seen["stage1"], seen["prepare"] = own.ledger.macs - first, first
        before = own.ledger.macs
        search_on(own, vit, space, SEARCH)
        seen["search"], seen["reserve"] = own.ledger.macs - before, reserve
        steps = steps_for(own, Portion(0.4, 0.6), lambda n: cost_of_route(vit.backbone, 16, n // 10, n - n // 10))
        with own.ledger.phase("route"):
            own.ledger.add(forward_macs=cost_of_route(vit.backbone, 16, steps // 10, steps - steps // 10))

    Recipe("x", run).adapt(task)
    assert 0.95 * task.train_macs < spent(task) <= task.train_macs
    assert seen["reserve"] == pytest.approx(seen["search"], rel=0.35)
    assert seen["stage1"] == pytest.approx(0.6 * (task.train_macs - seen["prepare"] - seen["reserve"]), rel=0.08)


def test_models_trained_alone_share_the_macs_or_each_get_all_steps(tmp_path):
    shapes = {b: uniform_shape(tiny().backbone, b) for b in (0.4, 0.7, 1.0)}
    for name, macs in (("steps", None), ("macs", 1500.0 * FULL)):
        task = Paid(tmp_path / name, schedule=SCHEDULE | {"epochs": 2.0}, train_macs=macs)
        Recipe("x", lambda own: retrain_on(own, tiny(), shapes)).adapt(task)
        if macs is None:
            assert task.ledger.steps == 3 * steps_of(task)
        else:
            assert 0.95 * macs < spent(task) <= macs


def test_too_little_to_train_at_all_trains_nothing(tmp_path):
    task, vit = Paid(tmp_path, train_macs=FULL / 2), tiny()
    before = vit.head.weight.clone()
    Recipe("x", lambda own: train_on(own, vit, Random(ProductSpace.eavit(vit.backbone)))).adapt(task)
    assert spent(task) == 0 and torch.equal(vit.head.weight, before)
