"""EA-ViT and the slices that nobody trained: same seed same answer, killed or not, each option, both regimes."""

import json
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise

import pytest
import torch

from eavit import methods
from eavit.methods.stage1 import CURRICULA, sampler_of, space_of
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract
from eavit.space.product import ProductSpace
from eavit.training.prepare import prepare
from eavit.training.samplers import Triggered, shared, stratified
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, plain

SMALL_SEARCH = {"population": 12, "generations": 2}
SHAPES = {0.05: "e6-h2.2.0-m3x3", 0.4: "e6-h2.2.2-m12x3", 0.7: "e9-h3x3-m18x3", 1.0: "e12-h4x3-m24x3"}
OPTIONS = {
    "ea_vit": SMALL_SEARCH,
    "matformer": {},
    "slice_untrained": SMALL_SEARCH,
    "fixed_same_shape": {},
    "fixed_uniform": {},
}
BACKBONE = NestedViT.from_timm(plain()).backbone


def task(tmp_path, name="", **changes):
    shapes = {b: s for b, s in SHAPES.items() if cost.share(BACKBONE, Submodel.parse(s)) <= b}
    given = {"ea_vit": shapes} if name == "fixed_same_shape" else {}
    return TinyTask(tmp_path, given=given, **changes)


def answers(adapted, budgets):
    """Keys and logits of all choices."""
    x = next(Blobs(8, 5).batches(8))[0]
    chosen = [adapted.select(b) for b in budgets]
    with torch.no_grad():
        return [None if c is None else (str(c), adapted.module(c)(x)) for c in chosen]


def equal(a, b):
    return all((p is q is None) or (p[0] == q[0] and torch.equal(p[1], q[1])) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["ea_vit", "slice_untrained"])
def test_conformance(name, tmp_path):
    """Members only, never over budget, deployable, equal seeds equal answers, everything spent is counted."""
    method = getattr(methods, name)(**OPTIONS[name])
    assert method.name == name
    runs = [task(tmp_path / str(i), name) for i in (0, 1)]
    for run in runs:
        run.workdir.mkdir()
    first, second = (method.adapt(run) for run in runs)
    budgets = runs[0].budgets
    assert equal(answers(first, budgets), answers(second, budgets))
    full = cost.macs(BACKBONE, BACKBONE.full)
    for budget in budgets:
        choice = first.select(budget)
        if choice is None:
            continue
        assert cost.macs(BACKBONE, choice) <= budget * full
        module = first.module(choice)
        assert not module.training and sum(p.numel() for p in module.parameters()) > 0
    assert first.select(1.0) is not None
    assert runs[0].ledger.forward_macs > 0 and runs[0].ledger == runs[1].ledger


@pytest.mark.parametrize(
    ("name", "stop"),
    [
        ("ea_vit", ("stage1", 10)),
        ("ea_vit", ("search", 1)),
        ("ea_vit", ("joint", 12)),
        ("fixed_uniform", ("train-2-of-3", 9)),
    ],
)
def test_a_killed_adaptation_goes_on_and_answers_the_same(name, stop, tmp_path):
    method = getattr(methods, name)(**OPTIONS[name])
    for part in ("straight", "killed"):
        (tmp_path / part).mkdir()
    straight = task(tmp_path / "straight")
    wanted = answers(method.adapt(straight), straight.budgets)
    with pytest.raises(KeyboardInterrupt):
        method.adapt(task(tmp_path / "killed", stop_at=stop))
    again = task(tmp_path / "killed")
    assert equal(answers(method.adapt(again), again.budgets), wanted)
    assert again.ledger == straight.ledger


def test_every_trained_method_learns_and_slicing_alone_does_not_train(tmp_path):
    x, y = next(Blobs(60, 9).batches(60))

    def right(name, folder):
        folder.mkdir()
        schedule = SCHEDULE | {"epochs": 16.0, "lr": 1e-2}
        adapted = getattr(methods, name)(**OPTIONS[name]).adapt(task(folder, name, schedule=schedule))
        with torch.no_grad():
            return (adapted.module(adapted.select(1.0))(x).argmax(-1) == y).float().mean().item()

    for name in ("ea_vit", "fixed_same_shape"):
        assert right(name, tmp_path / name) > 0.9, name
    account = task(tmp_path)
    methods.slice_untrained(**SMALL_SEARCH).adapt(account)
    assert account.ledger.steps == 0 and account.ledger.images > 0


def test_matformer_is_unreachable_below_its_floor_and_mixes_non_decreasing(tmp_path):
    adapted = methods.matformer().adapt(task(tmp_path))
    assert adapted.select(0.4) is None
    for budget in (0.8, 0.85, 0.9, 0.95, 1.0):
        choice = adapted.select(budget)
        assert choice.embed == 12 and choice.heads == (4, 4, 4)
        assert list(choice.mlp) == sorted(choice.mlp) and set(choice.mlp) <= {3, 6, 12, 24}


def test_prepare_keeps_the_features_probes_the_head_and_charges_it(tmp_path):
    run = task(tmp_path)
    vit = prepare(run)
    assert run.ledger.images == len(run.fit) and run.ledger.backward_macs > 0
    x, y = next(Blobs(60, 9).batches(60))
    with torch.no_grad():
        probed = (vit(x).argmax(-1) == y).float().mean()
        base = NestedViT.from_timm(run.backbone())
        plain_accuracy = (base(x).argmax(-1) == y).float().mean()
    assert probed > plain_accuracy
    assert sorted(vit.pos_embed.flatten().tolist()) == pytest.approx(sorted(base.pos_embed.flatten().tolist()))


def test_two_classes_are_probed_too(tmp_path):
    class Two(Blobs):
        def _all(self):
            images, labels = super()._all()
            return images, labels.clamp_max(1)

    run = task(tmp_path, fit=Two())
    run.backbone = lambda: plain(num_classes=2)
    vit = prepare(run)
    x, y = next(Two(60, 9).batches(60))
    with torch.no_grad():
        assert (vit(x).argmax(-1) == y).float().mean() > 0.8


def test_router_and_search_are_compared_on_fold_b_but_never_charged(tmp_path):
    run = task(tmp_path)
    report = methods.ea_vit(**SMALL_SEARCH).adapt(run).report()
    assert set(report["on_fold_b"]) == {str(b) for b in run.budgets}
    assert report["evaluations"] > 12 and -1 <= report["optimism"] <= 1
    json.dumps(report)


def test_search_as_selector_spends_all_steps_on_stage_one(tmp_path):
    run = task(tmp_path)
    adapted = methods.ea_vit(selector="search", **SMALL_SEARCH).adapt(run)
    assert run.ledger.steps == 48 and adapted.select(1.0) is not None


def test_bad_options_and_missing_choices_are_named(tmp_path):
    for name in OPTIONS:
        with pytest.raises(ValueError, match="importance='tailor'.*nearest: taylor"):
            getattr(methods, name)(importance="tailor")
    with pytest.raises(ValueError, match="tying='stratifed'.*shared, per_layer, stratified; nearest: stratified"):
        methods.ea_vit(tying="stratifed")
    with pytest.raises(ValueError, match="selector='routr'.*nearest: router"):
        methods.ea_vit(selector="routr")
    with pytest.raises(ValueError, match=r"route=1\.5"):
        methods.ea_vit(route=1.5)
    with pytest.raises(ValueError, match="after exactly one method"):
        methods.fixed_same_shape().adapt(TinyTask(tmp_path))


def test_a_loss_that_is_not_finite_is_reported(tmp_path):
    with pytest.raises((FloatingPointError, ValueError), match="(?i)nan|finite"):
        methods.matformer().adapt(task(tmp_path, fit=Blobs(poison=3)))


def test_fixed_models_equal_the_submodel_of_their_supernet(tmp_path):
    """Extracted == sliced: what is deployed is what was trained."""
    adapted = methods.matformer().adapt(task(tmp_path))
    choice = adapted.select(0.9)
    x = next(Blobs(8, 5).batches(8))[0]
    with torch.no_grad():
        assert torch.allclose(adapted.module(choice)(x), adapted.vit(x, choice), atol=1e-5)
        assert torch.allclose(extract(adapted.vit, choice)(x), adapted.vit(x, choice), atol=1e-5)


@dataclass
class Paid(TinyTask):
    """A task of the regime equal MACs."""

    train_macs: float | None = None


FULL = cost.macs(BACKBONE, BACKBONE.full)
FEW = {"population": 6, "generations": 1}
SHORT = SCHEDULE | {"epochs": 3.0}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"selector": "search", "nesting": "nested"},
        {"start": "none", "select": "random", "evaluations": 12},
        {"start": "uniform", "elastic": ["mlp", "heads"], "nesting": "nested"},
        {"warmup": "silent", "fitness": "train_batch", "epoch_batches": 2},
    ],
)
def test_equal_macs_are_kept_whatever_the_options(options, tmp_path):
    macs = (6000.0 if "selector" in options else 2500.0) * FULL  # no fit after a search can make up for its estimate
    run = Paid(tmp_path, train_macs=macs)
    adapted = methods.ea_vit(**FEW, **options).adapt(run)
    assert 0.95 * macs < run.ledger.forward_macs + run.ledger.backward_macs <= 1.02 * macs
    assert adapted.select(1.0) is not None


def test_of_equal_macs_the_stages_keep_their_proportion_of_steps(tmp_path):
    steps = {}

    class Watched(Paid):
        def progress(self, phase, done, total):
            steps[phase] = total

    methods.ea_vit(**FEW).adapt(Watched(tmp_path, train_macs=4000.0 * FULL))
    routed = steps["warm"] + steps["joint"]
    assert routed / (routed + steps["stage1"]) == pytest.approx(0.4, abs=0.05)
    assert steps["warm"] / routed == pytest.approx(0.1, abs=0.02)


def test_each_dimension_alone_is_a_space_of_its_own():
    whole = ProductSpace.eavit(BACKBONE, 0.5)
    assert space_of(BACKBONE, 0.5) == whole
    one = space_of(BACKBONE, 0.5, ["mlp"])
    assert one.mlps == whole.mlps and one.smallest == Submodel(12, (4,) * 3, (3,) * 3)
    assert space_of(BACKBONE, 0.5, ["heads"]).smallest == Submodel(12, (2,) * 3, (24,) * 3)
    assert space_of(BACKBONE, 0.5, ["embed"]).smallest == Submodel(6, (4,) * 3, (24,) * 3)
    assert space_of(BACKBONE, 0.5, ["depth"]).smallest == Submodel(12, (4, 4, 0), (24, 24, 0))
    assert space_of(BACKBONE, 0.5, ["depth", "embed", "heads", "mlp"]).largest == whole.largest


def test_what_is_not_elastic_stays_full(tmp_path):
    adapted = methods.ea_vit(elastic=["mlp", "depth"], **FEW).adapt(task(tmp_path, schedule=SHORT))
    for budget in (0.4, 0.7, 1.0):
        choice = adapted.select(budget)
        assert choice is None or (choice.embed == 12 and set(choice.heads) <= {0, 4})


def test_each_curriculum_is_another_sampler_and_the_default_is_the_papers():
    space = ProductSpace.eavit(BACKBONE, 0.5)
    first = {name: sampler_of(space, "stratified", name, 0.05, 100)(0.0, _rng()) for name in CURRICULA}
    assert first["growing"] == first["triggered"] == first["stages"] == (space.largest,)
    assert first["reversed"] == (space.smallest,)
    assert first["none"] == (stratified(space, _rng(), 0.05),)
    late = {name: sampler_of(space, "shared", name, 0.05, 100)(0.9, _rng()) for name in ("growing", "none")}
    assert late["growing"] == late["none"] == (shared(space, _rng()),)
    assert sampler_of(space, "shared", "triggered", 0.05, 400).patience == 20


def _rng():
    return __import__("numpy").random.default_rng(3)


def test_old_spellings_of_the_curriculum_mean_the_same(tmp_path):
    found = []
    for place, curriculum in enumerate((True, "growing", False, "none")):
        (tmp_path / str(place)).mkdir()
        run = task(tmp_path / str(place), schedule=SHORT)
        found.append(methods.ea_vit(curriculum=curriculum, selector="search", **FEW).adapt(run).report()["weights"])
    assert found[0] == found[1] != found[2] == found[3]


@pytest.mark.parametrize("start", ["none", "uniform"])
def test_a_router_without_a_search_measures_nothing(start, tmp_path):
    run = task(tmp_path)
    adapted = methods.ea_vit(start=start, **FEW).adapt(run)
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
    monkeypatch.setattr(
        "eavit.methods.recipe.Saving", lambda path: __import__("eavit.training.train").train.Saving(path, seconds=0)
    )
    states = []
    restore = Triggered.restore
    monkeypatch.setattr(Triggered, "restore", lambda s, state: (states.append(dict(state)), restore(s, state)))
    method = methods.ea_vit(curriculum="triggered", **FEW)
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
    with pytest.raises(ValueError, match="curriculum='triggered'.*beforehand.*equal_steps"):
        methods.ea_vit(curriculum="triggered").adapt(Paid(tmp_path, train_macs=1e9))


def test_the_loss_moves_the_stages():
    """A loss that falls keeps the stage, one that stalls raises it."""
    sampler = sampler_of(ProductSpace.eavit(BACKBONE, 0.5), "stratified", "triggered", 0.05, 100)
    for step in range(20):
        sampler.observe(2.0 * 0.9**step)
    assert sampler.memory["stage"] == 0
    for _ in range(60):
        sampler.observe(0.2)
    assert sampler.memory["stage"] >= 1


def test_coverage_counts_the_steps_of_each_quarter(tmp_path):
    run = task(tmp_path)
    report = methods.ea_vit(selector="search", **FEW).adapt(run).report()
    assert [sum(quarter) for quarter in report["coverage"]] == [12] * 4
    assert report["coverage"][0][9] > report["coverage"][3][9]  # the curriculum begins with the full model
    assert len(json.dumps(report)) < 4000


def test_new_options_are_checked_by_name():
    for options, match in (
        ({"curriculum": "growin"}, "curriculum='growin'.*nearest: growing"),
        ({"elastic": ["mpl"]}, "elastic='mpl'.*nearest: mlp"),
        ({"elastic": []}, "at least one dimension"),
        ({"elastic": ["mlp", "mlp"]}, "each once"),
        ({"start": "nsga"}, "start='nsga'.*nearest: nsga2"),
        ({"select": "randm"}, "select='randm'.*nearest: random"),
        ({"nesting": "nestd"}, "nearest: nested"),
        ({"selector": "search", "start": "none"}, "selector='search' has no router"),
        ({"router_warmup": 1.0}, "router_warmup=1.0"),
        ({"population": 1}, "population=1"),
    ):
        with pytest.raises(ValueError, match=match):
            methods.ea_vit(**options)


@pytest.mark.parametrize("options", [{"nesting": "nested"}, {"select": "uniform"}, {"select": "greedy"}])
def test_slices_may_be_chosen_by_any_selector(options, tmp_path):
    run = task(tmp_path)
    adapted = methods.slice_untrained(**FEW, **options).adapt(run)
    chosen = [s for b in (0.05, 0.4, 0.7, 1.0) if (s := adapted.select(b)) is not None]
    assert len(chosen) == 3 and run.ledger.steps == 0
    if options.get("nesting") == "nested" or options.get("select") == "greedy":
        assert all(a <= b for a, b in pairwise(chosen))


def test_the_router_starts_from_all_that_was_found_and_is_held_to_what_budgets_ask_for(tmp_path, monkeypatch):
    seen = {}
    room = import_module("eavit.methods.ea_vit")  # the package has a function of that name
    monkeypatch.setattr(room, "imitate", lambda router, points: seen.update(start=points))
    monkeypatch.setattr(room, "route", lambda v, r, points, *fits: seen.update(held=points))
    methods.ea_vit(**SMALL_SEARCH).adapt(task(tmp_path, budgets=(0.5, 1.0), schedule=SHORT))
    below = [p for p in seen["start"] if p.share <= 0.5]
    assert len(below) > 1 and seen["held"] == tuple(seen["start"][len(below) - 1 :])
