"""The bake-off: equal weights for all selectors, what they spend, and the same submodels trained alone."""

from itertools import pairwise

import pytest
import torch

from eavit.methods.selected import CONTESTANTS, keys_in_turn, selected, trained_alone
from eavit.model import cost
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, tiny

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
BUDGETS = (0.05, 0.4, 0.7, 1.0)


def run(method, folder, **changes):
    task = TinyTask(folder, **{"schedule": SCHEDULE | {"epochs": 3.0}, **changes})
    folder.mkdir(exist_ok=True)
    return method.adapt(task), task


def logits(adapted):
    x = next(Blobs(8, 5).batches(8))[0]
    chosen = [adapted.select(b) for b in BUDGETS]
    with torch.no_grad():
        return [None if c is None else (str(c), adapted.module(c)(x).tolist()) for c in chosen]


def test_every_selector_meets_the_same_weights_within_its_evaluations(tmp_path):
    found = {name: run(selected(name, evaluations=24), tmp_path / name) for name in CONTESTANTS}
    reports = {name: adapted.report() for name, (adapted, _) in found.items()}
    assert len({report["weights"] for report in reports.values()}) == 1
    for name, (adapted, task) in found.items():
        states = [a.vit.state_dict() for a in (adapted, found["nsga2"][0])]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0]), name
        assert reports[name]["evaluations"] <= 24
        assert task.ledger.steps == 18 + (4 if name == "router" else 0)
        for budget in BUDGETS:
            choice = adapted.select(budget)
            assert choice is None or cost.share(BACKBONE, choice) <= budget
    assert reports["uniform"]["evaluations"] == 0 and reports["random"]["evaluations"] == 24
    assert reports["router"]["evaluations"] == reports["nsga2"]["evaluations"]
    free = found["nsga2"][1].ledger.backward_macs
    assert found["router"][1].ledger.backward_macs == free + 4 * 16 * FULL


def test_choices_are_reported_with_both_folds_and_nothing_of_it_is_charged(tmp_path):
    adapted, task = run(selected("uniform"), tmp_path)
    told = adapted.report()["choices"]
    assert list(told) == [str(b) for b in BUDGETS] and told["0.05"] is None
    choice = adapted.select(0.7)
    assert told["0.7"]["key"] == str(choice)
    x, y = next(task.select_b.batches(48))
    with torch.no_grad():
        right = float((adapted.vit(x, choice).argmax(-1) == y).float().mean())
    assert told["0.7"]["fold_b"] == pytest.approx(right, abs=1e-6)
    assert task.ledger.images == len(task.fit) + 18 * 16


@pytest.mark.parametrize("stop", [("stage1", 7), ("search", 1), ("router", 2)])
def test_a_killed_contest_goes_on_and_answers_the_same(stop, tmp_path):
    method = selected("router", evaluations=16)
    straight, books = run(method, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(method, tmp_path / "killed", stop_at=stop)
    again, others = run(method, tmp_path / "killed")
    assert logits(again) == logits(straight) and again.report() == straight.report()
    assert others.ledger == books.ledger


@pytest.mark.parametrize(("name", "nesting"), [("router", "nested"), ("greedy", "free")])
def test_equal_macs_are_kept(name, nesting, tmp_path):
    macs = 2500.0 * FULL
    adapted, task = run(selected(name, 12, nesting), tmp_path, train_macs=macs)
    assert 0.95 * macs < task.ledger.forward_macs + task.ledger.backward_macs <= 1.02 * macs
    chosen = [s for b in BUDGETS if (s := adapted.select(b)) is not None]
    assert nesting == "free" or all(a <= b for a, b in pairwise(chosen))


GIVEN = {
    "a": {0.4: "e6-h2x3-m12x3", 0.7: "e9-h3x3-m18x3", 1.0: "e12-h4x3-m24x3"},
    "b": {0.4: "e6-h2x3-m12x3", 0.7: "e9-h3x3-m12x3", 1.0: "e9-h3x3-m18x3"},
}


def test_the_truth_about_choices_is_reported_by_key_and_by_who_chose(tmp_path):
    adapted, task = run(trained_alone(), tmp_path, given=GIVEN)
    report = adapted.report()
    table = report["alone"]
    assert set(table) == {key for chosen in GIVEN.values() for key in chosen.values()} and report["left_out"] == 0
    assert table["e9-h3x3-m18x3"]["by"] == {"a": [0.7], "b": [1.0]}
    assert task.ledger.steps == 4 * 18
    for budget in (0.4, 0.7, 1.0):
        choice = adapted.select(budget)
        fitting = [key for key in table if table[key]["share"] <= budget]
        assert table[str(choice)]["fold_b"] == max(table[key]["fold_b"] for key in fitting)
    assert adapted.select(0.05) is None
    x, y = next(task.select_b.batches(48))
    choice = adapted.select(1.0)
    with torch.no_grad():
        right = float((adapted.module(choice)(x).argmax(-1) == y).float().mean())
    assert table[str(choice)]["fold_b"] == pytest.approx(right, abs=1e-6)


def test_a_cap_is_spread_over_budgets_and_prefers_what_many_chose(tmp_path):
    assert keys_in_turn({0.2: ["a", "b", "c"], 0.5: ["d"], 1.0: ["e", "a", "f"]}, 5) == ["a", "d", "e", "b", "c"]
    assert keys_in_turn({0.2: ["a"], 0.5: ["a", "b"]}, 9) == ["a", "b"]
    macs = 1200.0 * FULL
    adapted, task = run(trained_alone(cap=2), tmp_path, given=GIVEN, train_macs=macs)
    assert list(adapted.report()["alone"]) == ["e6-h2x3-m12x3", "e9-h3x3-m12x3"] and adapted.report()["left_out"] == 2
    assert 0.95 * macs < task.ledger.forward_macs + task.ledger.backward_macs <= macs


def test_wrong_options_of_selected_are_named(tmp_path):
    with pytest.raises(ValueError, match="selector='nsga3'.*nearest: nsga2"):
        selected("nsga3")
    with pytest.raises(ValueError, match="selector='nowhere:x': nowhere cannot be imported"):
        selected("nowhere:x")
    with pytest.raises(ValueError, match="router_steps=0"):
        selected("router", router_steps=0)
    with pytest.raises(ValueError, match="cap=0"):
        trained_alone(cap=0)
    with pytest.raises(ValueError, match="comes after at least one method"):
        trained_alone().adapt(TinyTask(tmp_path))
