"""Every method on a tiny set, by the same conformance rules; and what sets each one apart."""

import json

import pytest
import torch

from eavit import cost, methods
from eavit.prepare import prepare
from eavit.submodel import Submodel
from eavit.vit import NestedViT, extract
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


@pytest.mark.parametrize("name", methods.__all__)
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

    for name in ("ea_vit", "matformer", "fixed_uniform", "fixed_same_shape"):
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
    for name in methods.__all__:
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
