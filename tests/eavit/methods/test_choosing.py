"""Options of a selection, what it costs, and what it answers."""

from itertools import pairwise

import pytest

from eavit.methods.choosing import SELECTS, SelectOptions
from eavit.selection.selectors import mix_n_match, uniform
from eavit.space.product import ProductSpace
from eavit.training.prepare import scoring_cost
from eavit.training.task import Spent
from tests.eavit.small import TinyTask, tiny

MADE = "tests.eavit.selection.made_selectors"
VIT = tiny().eval()
SPACE = ProductSpace.eavit(VIT.backbone, 0.5)


def task_in(folder):
    task = TinyTask(folder)
    task.ledger = Spent(onward=task.ledger)
    return task


def test_native_free_is_the_family_s_own():
    own = uniform()
    assert SelectOptions().own and SelectOptions().choosing(own).selector is own
    assert not SelectOptions(nesting="nested").own
    instead = mix_n_match()
    assert SelectOptions("uniform").choosing(own, {"uniform": instead}).selector is instead
    assert SelectOptions(f"{MADE}:by_scores").choosing(own).scored
    assert [name for name in SELECTS if SelectOptions(name).choosing(own).scored] == ["greedy"]


def test_wrong_options_are_named_before_any_work():
    for options, match in (
        ({"select": "natve"}, "select='natve'.*nearest: native"),
        ({"select": "nowhere:x"}, "select='nowhere:x': nowhere cannot be imported"),
        ({"nesting": "nestd"}, "nesting='nestd'.*nearest: nested"),
        ({"select": "random", "evaluations": 0}, "evaluations=0"),
    ):
        with pytest.raises(ValueError, match=match):
            SelectOptions(**options)


@pytest.mark.parametrize("select", ["random", "uniform", "greedy", "evolution", f"{MADE}:measured_twice"])
def test_the_cost_is_near_what_is_spent(select, tmp_path):
    task, choose = task_in(tmp_path), SelectOptions(select, evaluations=12).choosing(uniform())
    estimate = choose.cost(task, SPACE)
    selection = choose.run(task, VIT, SPACE)
    assert task.ledger.macs == pytest.approx(estimate, rel=0.4)
    if select == "greedy":
        assert estimate == scoring_cost(task, VIT.backbone, "taylor")
    assert selection.findings["evaluations"] == selection.evaluations <= 12


def test_an_answer_adds_its_evaluations_and_nests_where_it_is_asked_to(tmp_path):
    task, choose = task_in(tmp_path), SelectOptions("random", "nested", 8).choosing(uniform())
    adapted = choose.answer(task, VIT, SPACE, {"evaluations": 5, "weights": "w"})
    report = adapted.report()
    assert report["weights"] == "w" and report["evaluations"] >= 5 + 8 and "nested" in report
    chosen = [s for b in (0.4, 0.7, 1.0) if (s := adapted.select(b)) is not None]
    assert chosen and all(a <= b for a, b in pairwise(chosen))
