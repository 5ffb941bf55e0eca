"""EA-ViT: same seed same answer, killed or not, each option, both regimes."""

import json
from importlib import import_module
from itertools import pairwise

import pytest
import torch

from eavit import methods
from eavit.methods.ea_vit import CURRICULA, Stage1
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.space.product import ProductSpace
from eavit.training.checkpoint import Saving
from eavit.training.samplers import Triggered, shared, stratified
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, plain

SMALL_SEARCH = {"search": {"population": 12, "generations": 2}}
BACKBONE = NestedViT.from_timm(plain()).backbone


def task(tmp_path, **changes):
    return TinyTask(tmp_path, **changes)


def answers(adapted, budgets):
    """Keys and logits of all choices."""
    x = next(Blobs(8, 5).batches(8))[0]
    chosen = [adapted.select(b) for b in budgets]
    with torch.no_grad():
        return [None if c is None else (str(c), adapted.module(c)(x)) for c in chosen]


def equal(a, b):
    return all((p is q is None) or (p[0] == q[0] and torch.equal(p[1], q[1])) for p, q in zip(a, b, strict=True))


def test_equal_seeds_give_equal_answers_and_ledgers(tmp_path):
    runs = [task(tmp_path / str(i)) for i in (0, 1)]
    for run in runs:
        run.workdir.mkdir()
    first, second = (methods.ea_vit(**SMALL_SEARCH).adapt(run) for run in runs)
    budgets = runs[0].budgets
    assert equal(answers(first, budgets), answers(second, budgets)) and first.select(1.0) is not None
    assert runs[0].ledger.forward_macs > 0 and runs[0].ledger == runs[1].ledger


@pytest.mark.parametrize("stop", [("stage1", 10), ("search", 1), ("joint", 12)])
def test_a_killed_adaptation_goes_on_and_answers_the_same(stop, tmp_path):
    method = methods.ea_vit(**SMALL_SEARCH)
    for part in ("straight", "killed"):
        (tmp_path / part).mkdir()
    straight = task(tmp_path / "straight")
    wanted = answers(method.adapt(straight), straight.budgets)
    with pytest.raises(KeyboardInterrupt):
        method.adapt(task(tmp_path / "killed", stop_at=stop))
    again = task(tmp_path / "killed")
    assert equal(answers(method.adapt(again), again.budgets), wanted)
    assert again.ledger == straight.ledger


def test_it_learns(tmp_path):
    x, y = next(Blobs(60, 9).batches(60))
    schedule = SCHEDULE | {"epochs": 16.0, "lr": 1e-2}
    adapted = methods.ea_vit(**SMALL_SEARCH).adapt(task(tmp_path, schedule=schedule))
    with torch.no_grad():
        assert (adapted.module(adapted.select(1.0))(x).argmax(-1) == y).float().mean() > 0.9


def test_router_and_search_are_compared_on_fold_b_but_never_charged(tmp_path):
    run = task(tmp_path)
    report = methods.ea_vit(**SMALL_SEARCH).adapt(run).report()
    assert set(report["on_fold_b"]) == {str(b) for b in run.budgets}
    assert report["evaluations"] > 12 and -1 <= report["optimism"] <= 1
    json.dumps(report)


def test_search_as_selector_spends_all_steps_on_stage_one(tmp_path):
    run = task(tmp_path)
    adapted = methods.ea_vit(stage2={"selector": "search"}, **SMALL_SEARCH).adapt(run)
    assert run.ledger.steps == 48 and adapted.select(1.0) is not None


FULL = cost.macs(BACKBONE, BACKBONE.full)
FEW = {"search": {"population": 6, "generations": 1}}
SHORT = SCHEDULE | {"epochs": 3.0}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stage2": {"selector": "search"}, "nesting": "nested"},
        {"stage2": {"start": "none"}, "select": "random", "evaluations": 12},
        {"stage2": {"start": "uniform"}, "stage1": {"elastic": ["mlp", "heads"]}, "nesting": "nested"},
        {"defects": {"warmup": "silent", "fitness": "train_batch", "epoch_batches": 2}},
    ],
)
def test_equal_macs_are_kept_whatever_the_options(options, tmp_path):
    macs = (
        6000.0 if "selector" in options.get("stage2", {}) else 2500.0
    ) * FULL  # no fit after a search can make up for its estimate
    run = TinyTask(tmp_path, train_macs=macs)
    method = methods.ea_vit_published if "defects" in options else methods.ea_vit
    adapted = method(**FEW, **options).adapt(run)
    assert 0.95 * macs < run.ledger.forward_macs + run.ledger.backward_macs <= 1.02 * macs
    assert adapted.select(1.0) is not None


def test_of_equal_macs_the_stages_keep_their_proportion_of_steps(tmp_path):
    steps = {}

    class Watched(TinyTask):
        def progress(self, phase, done, total):
            steps[phase] = total

    methods.ea_vit(**FEW).adapt(Watched(tmp_path, train_macs=4000.0 * FULL))
    routed = steps["warm"] + steps["joint"]
    assert routed / (routed + steps["stage1"]) == pytest.approx(0.4, abs=0.05)
    assert steps["warm"] / routed == pytest.approx(0.1, abs=0.02)


def test_each_dimension_alone_is_a_space_of_its_own():
    whole = ProductSpace.eavit(BACKBONE, 0.5)

    def space_of(*elastic):
        return Stage1(elastic=elastic).space(BACKBONE)

    assert Stage1().space(BACKBONE) == whole
    one = space_of("mlp")
    assert one.mlps == whole.mlps and one.smallest == Submodel(12, (4,) * 3, (3,) * 3)
    assert space_of("heads").smallest == Submodel(12, (2,) * 3, (24,) * 3)
    assert space_of("embed").smallest == Submodel(6, (4,) * 3, (24,) * 3)
    assert space_of("depth").smallest == Submodel(12, (4, 4, 0), (24, 24, 0))
    assert space_of("depth", "embed", "heads", "mlp").largest == whole.largest


def test_what_is_not_elastic_stays_full(tmp_path):
    adapted = methods.ea_vit(stage1={"elastic": ["mlp", "depth"]}, **FEW).adapt(task(tmp_path, schedule=SHORT))
    for budget in (0.4, 0.7, 1.0):
        choice = adapted.select(budget)
        assert choice is None or (choice.embed == 12 and set(choice.heads) <= {0, 4})


def test_each_curriculum_is_another_sampler_and_the_default_is_the_papers():
    space = ProductSpace.eavit(BACKBONE, 0.5)
    first = {name: Stage1("stratified", name).sampler(space, 0.05, 100)(0.0, _rng()) for name in CURRICULA}
    assert first["growing"] == first["triggered"] == first["stages"] == (space.largest,)
    assert first["reversed"] == (space.smallest,)
    assert first["none"] == (stratified(space, _rng(), 0.05),)
    late = {name: Stage1("shared", name).sampler(space, 0.05, 100)(0.9, _rng()) for name in ("growing", "none")}
    assert late["growing"] == late["none"] == (shared(space, _rng()),)
    assert Stage1("shared", "triggered").sampler(space, 0.05, 400).patience == 20


def _rng():
    return __import__("numpy").random.default_rng(3)


def test_earlier_spellings_are_refused_with_the_new_one():
    for options, match in (
        ({"population": 16}, "option population=16: is written search.population now"),
        ({"route": 0.4}, "option route=0.4: is written stage2.share now"),
        ({"tying": "shared"}, "is written stage1.tying now"),
        ({"router_warmup": 0.1}, "is written stage2.warmup now"),
        ({"norm_over": "all"}, "is written defects.norm_over of eavit.methods:ea_vit_published now"),
    ):
        with pytest.raises(ValueError, match=match):
            methods.ea_vit(**options)


def test_its_card_has_the_values_of_this_recipe():
    table = methods.ea_vit(stage1={"tying": "shared"}, **FEW).card["parameters"]
    assert table["stage1.tying"] == ["shared", "ours"] and table["search.population"] == [6, "ours"]
    assert table["stage2.budget_weight"] == [20.0, "code"] and table["evaluations"][0] == 600


@pytest.mark.parametrize("start", ["none", "uniform"])
def test_a_router_without_a_search_measures_nothing(start, tmp_path):
    run = task(tmp_path)
    adapted = methods.ea_vit(stage2={"start": start}, **FEW).adapt(run)
    report = adapted.report()
    assert report["evaluations"] == 0 and "front" not in report and "search" not in report["on_fold_b"]["1.0"]
    assert run.ledger.images == len(run.fit) + 48 * 16 and adapted.select(1.0) is not None


def test_a_common_selector_and_nested_choices_on_the_weights_of_the_router(tmp_path):
    found = {}
    for name, options in {
        "native": {},
        "uniform": {"select": "uniform"},
        "nested": {"nesting": "nested"},
        "random": {"select": "random", "evaluations": 16},
    }.items():
        (tmp_path / name).mkdir()
        run = task(tmp_path / name, schedule=SHORT)
        found[name] = methods.ea_vit(**FEW, **options).adapt(run)
    report = {name: adapted.report() for name, adapted in found.items()}
    assert len({told["weights"] for told in report.values()}) == 1
    assert report["random"]["evaluations"] == report["native"]["evaluations"] + 16
    chosen = [s for b in (0.05, 0.4, 0.7, 1.0) if (s := found["nested"].select(b)) is not None]
    assert all(a <= b for a, b in pairwise(chosen))
    assert found["uniform"].select(1.0) == BACKBONE.full
    assert report["nested"]["nested"]["budgets"]["1.0"]["price"] <= 1


@pytest.mark.parametrize("stop", [("stage1", 9), ("stage1", 17), ("joint", 5)])
def test_a_stage_that_waits_for_the_loss_is_resumed_to_the_bit(stop, tmp_path, monkeypatch):
    """What the sampler heard is a part of the checkpoint."""
    monkeypatch.setattr("eavit.training.allocation.Saving", lambda path: Saving(path, seconds=0))
    states = []
    restore = Triggered.restore
    monkeypatch.setattr(Triggered, "restore", lambda s, state: (states.append(dict(state)), restore(s, state)))
    method = methods.ea_vit(stage1={"curriculum": "triggered"}, **FEW)
    for part in ("straight", "killed"):
        (tmp_path / part).mkdir()
    straight = task(tmp_path / "straight")
    told = method.adapt(straight)
    assert told.report()["coverage"] is None and not states
    with pytest.raises(KeyboardInterrupt):
        method.adapt(task(tmp_path / "killed", stop_at=stop))
    again = task(tmp_path / "killed")
    resumed = method.adapt(again)
    assert resumed.report() == told.report() and again.ledger == straight.ledger
    assert states and states[0]["seen"] > 0


def test_a_loss_triggered_curriculum_is_refused_with_equal_macs(tmp_path):
    with pytest.raises(ValueError, match="Triggered.*beforehand.*equal_steps"):
        methods.ea_vit(stage1={"curriculum": "triggered"}).adapt(TinyTask(tmp_path, train_macs=1e9))


def test_the_loss_moves_the_stages():
    """A loss that falls keeps the stage, one that stalls raises it."""
    sampler = Stage1(curriculum="triggered").sampler(ProductSpace.eavit(BACKBONE, 0.5), 0.05, 100)
    for step in range(20):
        sampler.observe(2.0 * 0.9**step)
    assert sampler.memory["stage"] == 0
    for _ in range(60):
        sampler.observe(0.2)
    assert sampler.memory["stage"] >= 1


def test_coverage_counts_the_steps_of_each_quarter(tmp_path):
    run = task(tmp_path)
    report = methods.ea_vit(stage2={"selector": "search"}, **FEW).adapt(run).report()
    assert [sum(quarter) for quarter in report["coverage"]] == [12] * 4
    assert report["coverage"][0][9] > report["coverage"][3][9]  # the curriculum begins with the full model
    assert len(json.dumps(report)) < 4000


def test_new_options_are_checked_by_name():
    for options, match in (
        ({"importance": "tailor"}, "importance='tailor'.*nearest: taylor"),
        (
            {"stage1": {"tying": "stratifed"}},
            "stage1.tying='stratifed'.*shared, per_layer, stratified; nearest: stratified",
        ),
        ({"stage2": {"selector": "routr"}}, "option stage2.selector='routr'.*nearest: router"),
        ({"stage2": {"share": 1.5}}, r"option stage2.share=1\.5: must be a number in \(0, 1\)"),
        ({"stage1": {"curriculum": "growin"}}, "option stage1.curriculum='growin'.*nearest: growing"),
        ({"stage1": {"elastic": ["mpl"]}}, "option stage1.elastic='mpl'.*nearest: mlp"),
        ({"stage1": {"elastic": []}}, "at least one of mlp, heads, embed, depth"),
        ({"stage1": {"elastic": ["mlp", "mlp"]}}, "each once"),
        ({"stage1": {"tyin": "shared"}}, "option stage1.tyin is unknown; allowed: tying, .*; nearest: tying"),
        ({"stage2": {"start": "nsga"}}, "option stage2.start='nsga'.*nearest: nsga2"),
        ({"select": "randm"}, "select='randm'.*nearest: random"),
        ({"nesting": "nestd"}, "nearest: nested"),
        ({"stage2": {"selector": "search", "start": "none"}}, "stage2.selector='search' has no router"),
        ({"stage2": {"selector": "search"}, "select": "random"}, "select='random' mean nothing"),
        ({"stage2": {"warmup": 1.0}}, "option stage2.warmup=1.0"),
        ({"search": {"population": 1}}, "option search.population=1"),
        ({"search": 20}, "option search=20: must be a table with any of population, generations"),
        ({"serch": {}}, "option serch is unknown; .*nearest: search"),
    ):
        with pytest.raises(ValueError, match=match):
            methods.ea_vit(**options)


def test_the_router_starts_from_all_that_was_found_and_is_held_to_what_budgets_ask_for(tmp_path, monkeypatch):
    seen = {}
    module = import_module("eavit.methods.ea_vit")  # the package has a function of that name
    monkeypatch.setattr(module, "imitate", lambda router, points: seen.update(start=points))
    monkeypatch.setattr(module, "route_jointly", lambda vit, router, points, routing, run: seen.update(held=points))
    methods.ea_vit(**SMALL_SEARCH).adapt(task(tmp_path, budgets=(0.5, 1.0), schedule=SHORT))
    below = [p for p in seen["start"] if p.share <= 0.5]
    assert len(below) > 1 and seen["held"] == tuple(seen["start"][len(below) - 1 :])
