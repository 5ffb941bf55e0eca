"""Selectors of other packages: how they are found, and how they are held to the law."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata

import pytest

from eavit.model.submodel import Backbone
from eavit.selection import own_selectors
from eavit.selection.own_selectors import make_selector, needs_scores, selector_factory
from eavit.selection.selectors import SELECTORS, Problem
from eavit.space.product import ProductSpace
from tests.eavit.selection import made_selectors
from tests.eavit.selection.searched import shape_fitness

MADE = "tests.eavit.selection.made_selectors"
SPACE = ProductSpace.eavit(Backbone(48, 6, 8, 64, 3, 17, 4, patch_pixels=16), 0.5)
PROBLEM = Problem(SPACE, shape_fitness(SPACE), shape_fitness(SPACE, 1), (0.05, 0.5, 1.0), 0)


def made(name: str, evaluations: int = 8):
    return make_selector(getattr(made_selectors, name), evaluations)(PROBLEM)


def test_a_name_is_of_the_table_an_import_string_or_an_entry_point(monkeypatch):
    points = [
        metadata.EntryPoint("mine", f"{MADE}:smallest", own_selectors.GROUP),
        metadata.EntryPoint("random", f"{MADE}:never", own_selectors.GROUP),
    ]
    monkeypatch.setattr(own_selectors.metadata, "entry_points", lambda group: points)
    assert selector_factory("select", "random", SELECTORS) is SELECTORS["random"]
    assert selector_factory("select", f"{MADE}:smallest", SELECTORS) is made_selectors.smallest
    assert selector_factory("select", "mine", SELECTORS) is made_selectors.smallest
    with pytest.raises(ValueError, match="select='mime' is unknown; .*random, mine, or module:name.*nearest: mine"):
        selector_factory("select", "mime", SELECTORS)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (3, "option select=3 is unknown; allowed: nsga2, "),
        ("ranom", "'ranom' is unknown; .*, or module:name of a selector of yours; nearest: random"),
        ("nowhere:x", "'nowhere:x': nowhere cannot be imported: no module named nowhere"),
        (f"{MADE}:smalest", "made_selectors has no 'smalest'; nearest: smallest"),
        (f"{MADE}:NUMBER", "is int, not a function that makes a selector"),
        (f"{MADE}:needy", "needy needs the argument depth; only evaluations is given"),
        ("broken_selectors:x", "broken_selectors fails at import: RuntimeError: no luck"),
    ],
)
def test_what_is_no_selector_is_named(value, match, tmp_path, monkeypatch):
    (tmp_path / "broken_selectors.py").write_text("raise RuntimeError('no luck')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=match):
        selector_factory("select", value, SELECTORS)


def test_evaluations_are_counted_on_both_folds_whatever_is_reported():
    selection = made("measured_twice")
    assert selection.evaluations == 2
    assert [point.submodel for point in selection.measured] == [SPACE.smallest]
    with pytest.raises(RuntimeError, match="measures e.* beyond its 8 evaluations$"):
        made("too_many")
    with pytest.raises(RuntimeError, match="beyond its 0 evaluations; .* has a parameter evaluations"):
        made("measures_unasked")
    with pytest.raises(RuntimeError, match="beyond its 1 evaluations"):
        made("measured_twice", 1)


def test_choices_are_held_to_budget_and_kind():
    policy = made("over_budget").policy
    assert policy(1.0) == SPACE.largest
    with pytest.raises(ValueError, match=r"selector: e48-.* uses 1\.0+, over the budget 0\.5"):
        policy(0.5)
    with pytest.raises(TypeError, match="the selector gave NoneType, not an eavit"):
        made("gives_nothing")
    with pytest.raises(ValueError, match="factory gave NoneType, not a function"):
        made("makes_nothing")


def test_scores_are_asked_for_by_an_attribute():
    assert needs_scores(SELECTORS["greedy"]) and needs_scores(made_selectors.by_scores)
    assert not needs_scores(SELECTORS["random"]) and not needs_scores(made_selectors.smallest)
    with pytest.raises(ValueError, match="no scores"):
        make_selector(made_selectors.by_scores, 8)(replace(PROBLEM, scores=None))
