"""Allocation: regime and schedule to the steps of all phases, and what is really left to the last one."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eavit.methods.fitness import FrontSearch, Search
from eavit.methods.fitting import train
from eavit.methods.recipe import Recipe
from eavit.model import cost
from eavit.space.product import ProductSpace
from eavit.training.allocation import Phase, allocate, batch_of, plan_cost, steps_of, steps_within
from eavit.training.passes import cost_of_steps, plain
from eavit.training.plans import in_place, taught
from eavit.training.prepare import preparation_cost, prepare, start
from eavit.training.samplers import Curriculum, Random, Sandwich, Triggered
from eavit.training.task import Spent
from eavit.training.train import Span
from tests.eavit.small import SCHEDULE, TinyTask, tiny
from tests.eavit.training.test_passes import PLANS, B

FULL = cost.macs(B, B.full)
SPACE = ProductSpace.eavit(B, 0.5)


def told(task):
    """A task whose ledger can be read, as Recipe gives it."""
    task.ledger = Spent(onward=task.ledger)
    return task


def linear(price):
    return lambda steps: float(price * steps)


def refused():
    pytest.fail("asked for a price")


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 2000))
def test_shares_of_the_schedule_add_up_and_phases_share_one_cycle(weights, whole):
    task = TinyTask(Path(), schedule=SCHEDULE | {"epochs": whole / 6})
    assert steps_of(task) == whole
    names = [str(i) for i in range(len(weights))]
    phases = [Phase(name, linear(1), w / sum(weights)) for name, w in zip(names, weights, strict=True)]
    allocation = allocate(task, *phases)
    assert sum(allocation.steps) == whole
    before = 0
    for phase, steps, place in zip(phases, allocation.steps, allocation.places, strict=True):
        assert abs(steps - phase.share * whole) <= 1
        assert place == pytest.approx((before / whole, (before + steps) / whole))
        before += steps


def test_equal_steps_ask_no_price(tmp_path):
    task = told(TinyTask(tmp_path))
    allocation = allocate(task, refused, Phase("a", lambda _: refused(), 0.25), refused)
    assert allocation.steps == (12,) and allocation.fit("a").total == 12
    run = allocation.fit("a")
    assert (run.phase, run.span, run.saving.path) == ("a", Span(0, 12), tmp_path / "a.safetensors")


def test_equal_macs_keep_the_proportions_of_the_steps(tmp_path):
    """Fixed parts first, then so many steps of each phase that they are in the proportion of the shares."""
    task = told(TinyTask(tmp_path, train_macs=10_000.0))
    phases = Phase("a", linear(10), 0.6), Phase("b", linear(40), 0.4)
    allocation = allocate(task, lambda: 500.0, phases[0], lambda: 300.0, phases[1], lambda: 200.0)
    assert allocation.steps == (245, 163)  # of 9000 MACs: 6 to 16
    assert allocation.places == ((0.0, pytest.approx(6 / 22)), (pytest.approx(6 / 22), 1.0))
    equal = allocate(task, *(Phase(p.name, p.cost, weight=1.0) for p in phases))
    assert equal.steps == (500, 125)


def test_the_last_phase_divides_what_is_really_left(tmp_path):
    task = told(TinyTask(tmp_path, train_macs=10_000.0))
    allocation = allocate(task, Phase("a", linear(10), 0.5), lambda: 1000.0, Phase("b", linear(10), 0.5), lambda: 500.0)
    assert allocation.steps == (425, 425)
    task.ledger.add(forward_macs=4250 + 2000)  # the search took twice its estimate
    assert allocation.fit("a").total == 425
    last = allocation.fit("b")
    assert last.total == (10_000 - 500 - 6250) // 10
    assert last.span == Span(325, 650)  # as if the phase before had been as long
    assert allocation.fit("b", linear(20)).total == 162  # a better price than the declared one
    task.ledger.add(forward_macs=10_000)
    assert allocation.fit("b").total == 0


def test_a_phase_may_have_a_part_of_a_cycle_of_its_own(tmp_path):
    task = told(TinyTask(tmp_path))
    parts = Phase("a", linear(1), 0.5, (0.0, 0.25)), Phase("b", linear(1), 0.5, (0.25, 1.0))
    allocation = allocate(task, *parts)
    assert allocation.fit("a").span == Span(0, 96) and allocation.fit("b").span == Span(8, 32)
    assert allocate(task, Phase("a", linear(1)), Phase("b", linear(1), 0.5)).steps == (48, 24)  # beside the schedule


def test_too_little_pays_for_no_step(tmp_path):
    task = told(TinyTask(tmp_path, train_macs=FULL / 2))
    run = allocate(task, lambda: 1e9, Phase("a", plan_cost(task, B, Random(SPACE)))).fit("a")
    vit = tiny()
    before = vit.head.weight.clone()
    train(vit, Random(SPACE), run)
    assert task.ledger.macs == 0 and torch.equal(vit.head.weight, before)
    assert allocate(task).steps == ()


def test_a_ledger_that_cannot_be_read_is_refused(tmp_path):
    task = TinyTask(tmp_path, train_macs=1e9)
    task.ledger = object()
    with pytest.raises(TypeError, match="ledger is a object.*Recipe"):
        allocate(task, Phase("a", linear(1)))


def test_a_sampler_that_follows_the_loss_has_no_price(tmp_path):
    task = told(TinyTask(tmp_path, train_macs=1e9))
    with pytest.raises(ValueError, match="Triggered.*beforehand.*equal_steps"):
        allocate(task, Phase("a", plan_cost(task, B, Triggered(SPACE))))


@pytest.mark.parametrize("plan", [Curriculum, lambda s: in_place(Sandwich(s)), lambda s: taught(Random(s))])
def test_one_fit_spends_what_it_may(tmp_path, plan):
    task = TinyTask(tmp_path, train_macs=3000.0 * FULL)

    def run(own):
        vit, steps = start(own), plan(SPACE)
        price = plan_cost(own, B, steps, taught=True)
        allocation = allocate(own, partial(preparation_cost, own, B), Phase("train", price))
        assert batch_of(own) == 16 and price(3) == price(3)
        vit = prepare(own, vit)
        train(vit, steps, allocation.fit("train"), tiny(seed=1))

    Recipe("x", run).adapt(task)
    assert 0.95 * task.train_macs < task.ledger.macs <= task.train_macs


def test_a_search_is_paid_for_beforehand(tmp_path):
    """Its estimate is near what it costs, and preparation's is exact."""
    task, search = TinyTask(tmp_path, train_macs=4000.0 * FULL), FrontSearch(Search(10, 2))

    def run(own):
        vit = prepare(own, start(own))
        assert own.ledger.macs == preparation_cost(own, B)
        estimate, before = search.cost(own, SPACE), own.ledger.macs
        search.run(own, vit, SPACE)
        assert estimate == pytest.approx(own.ledger.macs - before, rel=0.35)

    Recipe("x", run).adapt(task)


@pytest.mark.parametrize("name", ["plain", "in_place", "micro", "taught"])
def test_steps_within_is_the_nearest_number_of_steps(name):
    price = partial(cost_of_steps, PLANS[name], B, 16, 3)
    spent = [0, *(price(n) for n in range(1, 31))]
    for macs in (0, FULL, 777.7 * FULL, spent[23] - 1):
        steps = steps_within(macs, price, most=30)
        assert spent[steps] <= macs
        assert steps == 30 or spent[steps + 1] > macs or spent[steps] >= 0.998 * macs
    assert steps_within(1e18, price, most=30) == 30


@given(rates=st.lists(st.integers(0, 9), min_size=1, max_size=40), macs=st.integers(0, 400))
def test_steps_within_any_rising_cost(rates, macs):
    spent = np.concatenate([[0], np.cumsum(rates)])
    asked = []
    steps = steps_within(macs, lambda n: asked.append(n) or float(spent[n]), len(rates))
    assert spent[steps] <= macs
    assert steps == len(rates) or spent[steps + 1] > macs or spent[steps] >= 0.998 * macs
    assert len(asked) == len(set(asked)) <= 14  # a replay of all draws each


def test_costs_rise_with_the_steps():
    price = plan_cost(told(TinyTask(Path())), B, plain(Random(SPACE)))
    assert all(a < b for a, b in pairwise(price(n) for n in (0, 1, 5, 30)))
