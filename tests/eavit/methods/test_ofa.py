"""Once-for-all: stages that grow, re-sorting that changes no function, one teacher, a predictor that selects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from eavit.methods import families
from eavit.methods.fitting import digest_of
from eavit.methods.ofa import ofa, plan_of, stages_of
from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.training.passes import TEACHER, draws_of
from eavit.training.prepare import resorted
from tests.eavit.small import SCHEDULE, TinyTask, tiny

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
NAMES = ["full", "depth", "mlp", "heads", "embed"]


@dataclass
class Short(TinyTask):
    schedule: Mapping[str, Any] = field(default_factory=lambda: SCHEDULE | {"epochs": 3.0})
    budgets: tuple[float, ...] = (0.05, 0.6)


@pytest.fixture
def seen(monkeypatch, watch_fits):
    """Each fit and each sorting as it happened."""
    log, sort = watch_fits(families), families.resorted

    def spy(task, vit, metric, units):
        log.append(units)
        return sort(task, vit, metric, units)

    monkeypatch.setattr(families, "resorted", spy)
    return log


def test_stages_open_one_dimension_after_another():
    stages = stages_of(Backbone(768, 12, 64, 3072, 12, 197, 100))
    assert [s.name for s in stages] == NAMES and [s.number for s in stages] == [1, 2, 4, 4, 4]
    assert stages[0].space.largest == stages[0].space.smallest == stages[0].space.backbone.full
    assert stages[-1].space.sizes == (4, 4, 4) and stages[-1].space.least == (2, 2, 2)
    rng = np.random.default_rng(0)
    for small, large in pairwise(stages):
        assert small.space.count < large.space.count
        assert all(large.space.contains(small.space.sample(rng)) for _ in range(20))
    pico = stages_of(Backbone(96, 6, 16, 384, 6, 10, 10))[-1].space
    assert (pico.sizes, pico.least, pico.heads, pico.embeds) == ((3, 3), (2, 2), (3, 4, 5, 6), (48, 64, 80, 96))


def test_a_step_trains_one_two_four_submodels_and_the_teacher_teaches_all_but_the_first():
    for stage in stages_of(BACKBONE):
        passes = plan_of(stage)(0.5, draws_of(0, 1))
        assert len(passes) == stage.number and all(stage.space.contains(p.submodel) for p in passes)
        taught = {(p.hard, p.soft, p.source) for p in passes}
        assert taught == ({(1.0, 0.0, None)} if stage.name == "full" else {(1.0, 1.0, TEACHER)})


def test_sorting_moves_weights_but_no_function_that_was_trained(tmp_path):
    """What a stage will cut is sorted before it opens: every member of the stages before stays as it was."""
    vit, x = tiny().eval(), torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    stages, rng = stages_of(BACKBONE), np.random.default_rng(0)
    for before, stage in pairwise(stages[1:]):
        moved = resorted(TinyTask(tmp_path), vit, "taylor", stage.sorts)
        assert digest_of(moved) != digest_of(vit)
        with torch.no_grad():
            for member in (BACKBONE.full, *(before.space.sample(rng) for _ in range(5))):
                assert torch.allclose(vit(x, member), moved(x, member), atol=1e-5), (stage.name, str(member))
            assert not torch.allclose(vit(x, stage.space.smallest), moved(x, stage.space.smallest), atol=1e-5)
        vit = moved


def test_stages_follow_each_other_with_one_teacher_that_never_moves(tmp_path, seen):
    run = Short(tmp_path)
    told = ofa(select="mix_n_match").adapt(run).report()
    fits = [entry for entry in seen if not isinstance(entry, tuple)]
    assert [entry if isinstance(entry, tuple) else entry.run.phase for entry in seen] == [
        *("full", "depth"),
        *(("neurons",), "mlp", ("heads",), "heads", ("channels",), "embed"),
    ]
    assert fits[0].teacher is None
    teacher = fits[1].teacher
    assert all(fit.teacher is teacher for fit in fits[1:])
    assert {digest for fit in fits[1:] for digest in (fit.before[1], fit.after[1])} == {fits[0].after[0]}
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert list(told["steps"]) == NAMES and sum(told["steps"].values()) == run.ledger.steps == 18
    assert [sum(row) > 0 for row in told["coverage"]] == [True] * 4


def test_the_stages_that_shrink_share_a_cycle_of_the_learning_rate(tmp_path, seen):
    ofa(select="mix_n_match").adapt(Short(tmp_path))
    spans = [entry.run.span for entry in seen if not isinstance(entry, tuple)]
    assert spans == [(0, 5), (0, 16), (3, 12), (6, 12), (9, 12)]  # of 5, 4, 3, 3 and 3 steps


def test_the_predictor_chooses_trained_members(tmp_path):
    run = Short(tmp_path)
    adapted = ofa(evaluations=8).adapt(run)
    choice = adapted.select(0.6)
    assert adapted.select(0.05) is None
    assert stages_of(BACKBONE)[-1].space.contains(choice) and cost.share(BACKBONE, choice) <= 0.6
    assert adapted.report()["evaluations"] <= 8 and "predictor" in adapted.report()


def test_ofa_spends_equal_macs_to_five_per_cent(tmp_path):
    macs = 5000.0 * FULL
    run = Short(tmp_path, train_macs=macs)
    ofa(select="nsga2", evaluations=8).adapt(run)
    assert 0.95 * macs < run.ledger.forward_macs + run.ledger.backward_macs <= 1.05 * macs


def test_wrong_options_of_ofa_are_named():
    for options, words in [
        ({"evaluations": 3}, "option evaluations=3"),
        ({"select": "predictr"}, "nearest: predictor"),
        ({"nesting": "fre"}, "nearest: free"),
        ({"importance": "tailor"}, "nearest: taylor"),
    ]:
        with pytest.raises(ValueError, match=words):
            ofa(**options)
