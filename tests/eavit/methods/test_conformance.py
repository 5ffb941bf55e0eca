"""The rules of every method, on a tiny set: whatever ``eavit.methods`` names is tried here, in both regimes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from inspect import signature
from itertools import product
from typing import Any

import pytest
import torch

from eavit import methods
from eavit.methods.answers import Elastic
from eavit.methods.fixed import own_pretraining
from eavit.methods.pruned import pruned
from eavit.methods.recipe import Card
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.training import allocation
from eavit.training.checkpoint import Saving
from tests.eavit.conforming import (
    BACKBONE,
    BUDGETS,
    FULL,
    METHODS,
    SHAPES,
    Answers,
    Counter,
    Watched,
    answers,
    counted,
    made,
    task,
)
from tests.eavit.small import Blobs


@dataclass(frozen=True)
class Ran:
    task: Watched
    adapted: Any
    answers: Answers
    macs: int | None  # that torch counted while it ran


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """The undisturbed run of a method, once for all tests of this file."""

    @cache
    def run(name: str) -> Ran:
        own = task(tmp_path_factory.mktemp("straight"), name)
        if METHODS[name].beside:
            adapted, macs = made(name).adapt(own), None
        else:
            with Counter() as counter:
                adapted = made(name).adapt(own)
            macs = counter.macs
        return Ran(own, adapted, answers(adapted, own.ledger), macs)

    return run


every = pytest.mark.parametrize("name", methods.__all__)


# --- the rules -----------------------------------------------------------------------------------------------------


@every
def test_choices_are_members_fit_their_budget_and_are_what_is_deployed(name, ran):
    run, x = ran(name), next(Blobs(8, 5).batches(8))[0]
    assert any(key is not None for key in run.answers.keys)
    assert run.adapted.select(BUDGETS[0]) is None
    for budget in sorted({*BUDGETS, 0.06, 0.31, 0.55, 0.83}):  # of the task, and between: the area asks there too
        choice = run.adapted.select(budget)
        if choice is None:
            continue
        widths = choice if isinstance(choice, Submodel) else getattr(choice, "widths", choice)
        module = run.adapted.module(choice)
        assert METHODS[name].inside(widths), f"{choice} is no member"
        assert counted(module) <= budget * FULL * (1 + 1e-9)
        assert not module.training and str(choice) == str(choice).strip() != ""
        with torch.no_grad():
            assert module(x).shape == (8, 3)
            if isinstance(choice, Submodel) and hasattr(run.adapted, "vit"):
                assert counted(module) == cost.macs(BACKBONE, choice)
                assert torch.allclose(module(x), run.adapted.vit(x, choice), atol=1e-5)


@every
def test_it_is_called_as_it_is_named_and_its_report_is_small_json(name, ran):
    assert made(name).name == name
    told = json.dumps(dict(ran(name).adapted.report()))
    assert len(told) < 20_000


@every
def test_the_ledger_holds_what_was_computed(name, ran):
    """Torch counts each product as it happens, the ledger by formula. The formula has a backward pass cost two forward
    passes, and one through the patches costs less; a pass that nobody paid for would be far more than that.
    """
    run = ran(name)
    assert run.task.ledger.macs > 0 and all(run.task.ledger.phases)
    assert run.macs is None or 0.9 < run.task.ledger.macs / run.macs < 1.15, run.task.ledger.phases


@every
def test_killed_again_and_again_it_ends_as_if_undisturbed(name, ran, tmp_path, monkeypatch):
    """Stopped once in each phase that it tells of, then left alone: equal seeds, equal choices, weights and books."""
    monkeypatch.setattr(allocation, "Saving", lambda path: Saving(path, 0.0))  # a checkpoint after every step
    stops = {phase: max(1, most // 2) for phase, most in ran(name).task.told.items()}
    assert stops
    for stop in stops.items():
        with pytest.raises(KeyboardInterrupt):
            made(name).adapt(task(tmp_path, name, stop_at=stop))
    again = task(tmp_path, name)
    assert answers(made(name).adapt(again), again.ledger) == ran(name).answers


@every
def test_every_method_spends_equal_macs_to_five_per_cent(name, tmp_path):
    allowance = float(METHODS[name].enough * FULL)
    own = task(tmp_path, name, train_macs=allowance)
    made(name).adapt(own)
    trains = any(steps for *_, steps in own.ledger.phases.values())
    share = own.ledger.macs / allowance
    assert share <= 1.05 and (share >= 0.95 or not trains)


@every
def test_equal_steps_are_the_schedule_s_whatever_a_step_costs(name, ran):
    """Of the family, or of each model that is trained alone."""
    steps = sum(steps for *_, steps in ran(name).task.ledger.phases.values())
    keys = set(filter(None, ran(name).answers.keys)) if name != "trained_alone" else set(SHAPES.values())
    assert steps in (0, 6, 6 * len(keys))  # trained_alone trains all that it is given, whichever it answers with


@every
def test_the_card_is_complete(name):
    about = made(name).about
    assert isinstance(about, Card), f"{name} has no card"
    for part in ("title", "paper", "code", "elastic", "step", "distillation", "selection"):
        text = getattr(about, part)
        assert isinstance(text, str) and text.strip(), f"{name}: card.{part} is empty"
    assert about.parameters and about.ours
    assert about.deviations or about.paper.startswith("none"), "a published method has deviations, and they are told"
    for parameter, (value, source) in about.parameters.items():
        assert source in ("paper", "code", "ours"), f"{name}: {parameter} = {value} says {source!r}"
    assert set(json.loads(json.dumps(made(name).card))) == set(asdict(about))


@every
def test_options_are_plain_and_wrong_ones_are_named(name):
    known = {key: p for key, p in signature(getattr(methods, name)).parameters.items() if p.kind is not p.VAR_KEYWORD}
    json.dumps([list(p.default) if isinstance(p.default, tuple) else p.default for p in known.values()])
    for option in ("importance", "select", "nesting"):
        if option in known:
            with pytest.raises(ValueError, match=rf"option {option}='tailor' is unknown; allowed: "):
                made(name, **{option: "tailor"})
    with pytest.raises((ValueError, TypeError), match="importence"):
        made(name, importence="taylor")


@every
def test_every_way_to_select_and_to_nest_is_offered_where_the_family_is_searched(name, ran):
    known = signature(getattr(methods, name)).parameters
    shared = isinstance(ran(name).adapted, Elastic)
    choice = "selector" if name == "selected" else "select"
    assert not shared or {choice, "nesting", "importance"} <= set(known), f"{name} takes only {list(known)}"


@every
def test_a_loss_that_is_not_finite_is_reported(name, tmp_path):
    with pytest.raises((FloatingPointError, ValueError), match="(?i)nan|finite"):
        made(name).adapt(task(tmp_path, name, fit=Blobs(48, poison=3)))


def test_the_table_is_not_ahead_of_the_package():
    """Every method of the table is importable, so that a name that was dropped is dropped here too."""
    assert {"pruned": pruned, "own_pretraining": own_pretraining}.keys() <= METHODS.keys()
    assert set(methods.__all__) <= METHODS.keys()
    assert list(methods.__all__) == sorted(set(methods.__all__))


def test_inside_is_a_real_question():
    """The answers of the table differ from method to method."""
    every_size = [
        Submodel(e, (h,) * 3, (m, m, n)) for e, h, m, n in product((5, 6, 12), (2, 4), (2, 3, 12, 24), (0, 3, 12, 24))
    ]
    assert {name for name, tried in METHODS.items() if all(map(tried.inside, every_size))} == set()
