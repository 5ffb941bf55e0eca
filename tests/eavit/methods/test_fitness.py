"""Searches on a task: measurements are replayed, the cost is estimated, a front answers budgets."""

import pytest

from eavit.methods.fitness import FrontSearch, Search, front_policy
from eavit.methods.recipe import Recipe
from eavit.space.product import ProductSpace
from eavit.training import checkpoint
from eavit.training.checkpoint import Journal
from tests.eavit.small import TinyTask, tiny

SPACE = ProductSpace.eavit(tiny().backbone, 0.5)


def searched(folder, stop=None):
    folder.mkdir(exist_ok=True)
    task = TinyTask(folder, stop_at=stop)
    vit = tiny()
    result = []
    search, space = FrontSearch(Search(12, 2)), ProductSpace.eavit(vit.backbone, 0.5)
    Recipe("x", lambda t: result.append(search.run(t, vit, space))).adapt(task)
    return result[0], task.ledger


def test_a_search_replays_what_it_knew(tmp_path, monkeypatch):
    straight, ledger = searched(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "killed", ("search", 1))
    lines = len((tmp_path / "killed" / "search.jsonl").read_text().split())
    assert lines
    asked = []
    real = checkpoint.Journal.get
    monkeypatch.setattr(
        "eavit.training.checkpoint.Journal.get",
        lambda self, key, find: real(self, key, lambda: asked.append(key) or find()),
    )
    known = set(Journal(tmp_path / "killed" / "search.jsonl").known)
    again, again_ledger = searched(tmp_path / "killed")
    assert again == straight and again_ledger == ledger
    assert known and not known & set(asked) and len(asked) + len(known) == straight[0].evaluations
    asked.clear()
    third, third_ledger = searched(tmp_path / "killed")
    assert not asked and third == straight and third_ledger == ledger


def test_the_cost_of_fitness_is_near_what_is_spent(tmp_path):
    search, costs = FrontSearch(Search(12, 2)), []
    task = TinyTask(tmp_path)
    Recipe("x", lambda own: costs.append(search.cost(own, SPACE)) or search.run(own, tiny(), SPACE)).adapt(task)
    assert task.ledger.macs == pytest.approx(costs[0], rel=0.35)


def test_a_front_gives_the_fittest_at_or_under_a_budget(tmp_path):
    (front, optimism), _ = searched(tmp_path)
    choose = front_policy(front)
    assert choose(0.001) is None and choose(1.0) == front.points[-1].submodel
    assert -1 <= optimism <= 1


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="option search.population=1: must be a whole number from 2 up"):
        Search(1)
    with pytest.raises(ValueError, match="option search.generations=1.5"):
        Search(8, 1.5)
