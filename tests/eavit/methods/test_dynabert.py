"""DynaBERT: its grid, its two phases, its teachers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from eavit.methods import families
from eavit.methods.dynabert import distilled, dynabert, grid, kept_layers
from eavit.methods.fitting import digest_of
from eavit.model import cost
from eavit.model.importance import METRICS
from eavit.model.submodel import Backbone
from eavit.training.passes import TEACHER, cost_of, draws_of
from eavit.training.prepare import resorted
from eavit.training.task import Spent
from tests.eavit.small import SCHEDULE, TinyTask, plain, tiny

VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
BUDGETS = (0.05, 0.4, 0.7, 1.0)


@dataclass
class Short(TinyTask):
    """Four layers, and the regime equal MACs if ``train_macs`` says how many."""

    schedule: Mapping[str, Any] = field(default_factory=lambda: SCHEDULE | {"epochs": 2.0})

    def backbone(self):
        return plain(depth=4)


FULL = cost.macs(tiny(depth=4).backbone, tiny(depth=4).backbone.full)


@pytest.fixture
def fits(watch_fits):
    return watch_fits(families)


def test_the_grid_of_vit_b_is_the_source_s():
    assert kept_layers(12, 1.0) == tuple(range(12))
    assert kept_layers(12, 0.75) == (0, 1, 2, 4, 5, 6, 8, 9, 10)
    assert kept_layers(12, 0.5) == (0, 2, 4, 6, 8, 10)
    space = grid(VIT_B)
    assert space.count == 12 and space.closed and space.largest == VIT_B.full
    assert str(space.smallest) == "e768-h3" + ".0.3" * 5 + ".0-m768" + ".0.768" * 5 + ".0"
    assert cost.macs(VIT_B, space.smallest) / 1e9 == pytest.approx(2.30, abs=0.005)
    assert {s.heads[0] for s in space.members} == {3, 6, 9, 12}


def test_the_grid_scales_to_six_heads_and_six_layers():
    pico = Backbone(96, 6, 16, 384, 6, 10, 10)
    space = grid(pico)
    assert kept_layers(6, 0.75) == (0, 1, 2, 4) and kept_layers(6, 0.5) == (0, 2, 4)
    assert space.count == 12 and space.heads == (2, 3, 4, 6) and space.mlps == (96, 192, 288, 384)
    assert grid(tiny().backbone).count == 8  # of 3 layers, 3/4 and 1/2 are both 2: one depth, not two


def test_steps_cost_what_the_table_of_rivals_says():
    full = 3 * cost.macs(VIT_B, VIT_B.full)
    wide, deep = (distilled(s, 0.1)(0.0, None) for s in (grid(VIT_B, (1.0,)), grid(VIT_B)))
    assert cost_of(wide, VIT_B, 1, VIT_B).macs / full == pytest.approx(2.84, abs=0.005)
    assert cost_of(deep, VIT_B, 1, VIT_B).macs / full == pytest.approx(5.67 + 1 / 3, abs=0.005)


def test_both_phases_happen_and_are_what_they_say(tmp_path, fits):
    """The source tests its phase by a condition that is always true."""
    run = Short(tmp_path)
    adapted = dynabert().adapt(run)
    assert [fit.run.phase for fit in fits] == ["teacher", "width", "depth"]
    shapes = [{p.submodel for p in fit.plan(0.5, draws_of(0, 3))} for fit in fits]
    full = adapted.vit.backbone.full
    assert shapes[0] == {full}
    assert len(shapes[1]) == 4 and all(all(s.heads) for s in shapes[1])
    assert len(shapes[2]) == 12 and sum(all(s.heads) for s in shapes[2]) == 4
    assert [fit.run.total for fit in fits] == [4, 4, 4] and run.ledger.steps == 12
    assert adapted.report()["steps"] == {"teacher": 4, "width": 4, "depth": 4}


def test_teachers_are_full_fine_tuned_and_never_moved(tmp_path, fits):
    dynabert().adapt(Short(tmp_path))
    first, wide, deep = fits
    assert first.teacher is None and wide.teacher.backbone.full == deep.teacher.backbone.full
    assert wide.before[1] == wide.after[1] and deep.before[1] == deep.after[1]  # the teacher's weights, to the bit
    assert wide.before[0] == wide.before[1]  # both start equal
    assert wide.after[0] == deep.before[1] == deep.before[0]  # phase 1's end teaches
    assert not any(p.requires_grad or p.grad is not None for t in (wide.teacher, deep.teacher) for p in t.parameters())


def test_phases_distil_logits_and_hidden_states_without_labels():
    space = grid(tiny(depth=4).backbone)
    for p in distilled(space, 0.1)(0.0, None):
        assert (p.hard, p.soft, p.source) == (0.0, 1.0, TEACHER)
        assert p.features == pytest.approx(0.1 * (1 + sum(map(bool, p.submodel.heads))))  # their mean becomes a sum
    assert distilled(space, 0.0)(0.0, None)[0].features == 0


def test_few_sizes_a_step_are_the_largest_and_others_drawn_without_replacement():
    space = grid(VIT_B)
    every, few = distilled(space, 0.1), distilled(space, 0.1, 4)
    drawn = [few(0.5, draws_of(0, step)) for step in range(40)]
    assert drawn[3] == few(0.5, draws_of(0, 3)) != drawn[4]
    assert {p for passes in drawn for p in passes} == set(every(0.5, None))
    for passes in drawn:
        macs = [cost.macs(VIT_B, p.submodel) for p in passes]
        assert len({p.submodel for p in passes}) == 4 and passes[0].submodel == VIT_B.full
        assert macs == sorted(macs, reverse=True)
    assert distilled(grid(VIT_B, (1.0,)), 0.1, 4)(0.5, None) == distilled(grid(VIT_B, (1.0,)), 0.1)(0.5, None)


def test_few_sizes_make_cheaper_steps_and_more_of_them(tmp_path):
    """Both spend equal MACs, and what the ledger is charged is what the draws were planned to cost."""
    steps = {}
    for sizes in (0, 2):
        (folder := tmp_path / str(sizes)).mkdir()
        run = Short(folder, train_macs=6500.0 * FULL)
        adapted = dynabert(sizes=sizes).adapt(run)
        assert 0.95 < run.ledger.macs / run.train_macs <= 1.05
        steps[sizes] = adapted.report()["steps"]["depth"]
    assert steps[2] > 2 * steps[0]


def test_sorting_after_fine_tuning_leaves_the_stream_comparable(tmp_path):
    """Heads and neurons move, channels stay, the function stays; charged; nothing but the fit split is looked at."""
    account = Spent()
    run = TinyTask(tmp_path, ledger=account, select_a=None, select_b=None)
    vit = tiny().eval()
    moved = resorted(run, vit, "taylor", ("heads", "neurons"))
    x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for (mine, mine_states), (theirs, their_states) in [(vit.hidden(x), moved.hidden(x))]:
            assert torch.allclose(mine, theirs, atol=1e-5)
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(mine_states, their_states, strict=True))
    assert digest_of(vit) != digest_of(moved)
    again = METRICS["taylor"](moved, run.fit.batches(64))
    assert (again.heads.diff(dim=-1) <= 1e-6).all() and (again.neurons.diff(dim=-1) <= 1e-6).all()
    one = cost.macs(vit.backbone, vit.backbone.full) * len(run.fit)
    assert (account.forward_macs, account.backward_macs, account.images) == (one, 2 * one, len(run.fit))


def test_the_grid_is_chosen_from_without_looking_at_an_image(tmp_path):
    adapted = dynabert().adapt(Short(tmp_path, select_a=None, select_b=None, budgets=BUDGETS))
    space = grid(adapted.vit.backbone)
    assert adapted.select(0.05) is None and adapted.select(1.0) == space.largest
    for budget in BUDGETS[1:]:
        choice = adapted.select(budget)
        fitting = [s for s in space.members if cost.share(space.backbone, s) <= budget]
        assert cost.macs(space.backbone, choice) == max(cost.macs(space.backbone, s) for s in fitting)


def test_widths_alone_keep_all_layers(tmp_path, fits):
    adapted = dynabert(phases=1).adapt(Short(tmp_path))
    assert [fit.run.phase for fit in fits] == ["teacher", "width"]
    assert adapted.select(0.15) is None and all(adapted.select(0.4).heads)


@pytest.mark.parametrize("options", [{}, {"select": "nsga2", "evaluations": 8}, {"phases": 1, "nesting": "nested"}])
def test_dynabert_spends_equal_macs_to_five_per_cent(options, tmp_path):
    macs = 6500.0 * FULL
    run = Short(tmp_path, train_macs=macs)
    adapted = dynabert(**options).adapt(run)
    assert 0.95 * macs < run.ledger.forward_macs + run.ledger.backward_macs <= 1.05 * macs
    told = adapted.report()["steps"].values()
    assert max(told) - min(told) <= 3  # the proportions of the steps stay


@pytest.mark.parametrize("select", ["nsga2", "evolution", "random", "greedy", "uniform", "mix_n_match"])
def test_common_selectors_choose_from_the_grid_alone(select, tmp_path):
    short = SCHEDULE | {"epochs": 0.5}
    run = Short(tmp_path, schedule=short)
    adapted = dynabert(select=select, evaluations=10, nesting="nested").adapt(run)
    space, chosen = grid(adapted.vit.backbone), [adapted.select(b) for b in (0.4, 0.7, 1.0)]
    assert set(chosen) <= set(space.members)
    assert chosen[0] <= chosen[1] <= chosen[2]
    assert all(cost.share(space.backbone, s) <= b for s, b in zip(chosen, (0.4, 0.7, 1.0), strict=True))


def test_wrong_options_of_dynabert_are_named():
    for options, words in [
        ({"phases": 3}, "option phases=3"),
        ({"hidden": -1}, "option hidden=-1"),
        ({"hidden_deep": float("nan")}, "option hidden_deep=nan"),
        ({"sizes": 1}, "option sizes=1: must be 0"),
        ({"sizes": -2}, "option sizes=-2"),
        ({"sizes": 2.5}, "option sizes=2.5"),
        ({"importance": "tailor"}, "nearest: taylor"),
        ({"select": "grid"}, "option select='grid' is unknown"),
        ({"nesting": "nest"}, "nearest: nested"),
    ]:
        with pytest.raises(ValueError, match=words):
            dynabert(**options)
    with pytest.raises(ValueError, match="option sizes=13: the grid of 4 layers has 12 sizes"):
        dynabert(sizes=13).check(plain(depth=4), BUDGETS, (), "equal_steps")
