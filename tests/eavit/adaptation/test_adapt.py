"""Adapting on loaders: every family method, resume to the bit, saved and loaded, and bad input."""

import signal
import subprocess
import sys

import pytest
import torch

import eavit
from eavit import methods
from eavit.adaptation import adapt as module
from eavit.adaptation.adapt import adapt, family_of
from eavit.adaptation.loaders import LoaderError
from eavit.adaptation.task import WorkdirError
from eavit.methods.recipe import Recipe
from eavit.model.timm_layout import CannotNestError
from tests.eavit.families import loader
from tests.eavit.small import plain, tiny

SMALL = {
    "ea_vit": {"search": {"population": 6, "generations": 1}},
    "ea_vit_plus": {"shapes": {"population": 4}},
    "autoformer": {"evaluations": 12},
}
BUDGETS = (0.3, 0.6, 1.0)


def adapted(method="hydravit", budgets=BUDGETS, **changes):
    options = SMALL.get(method, {}) if isinstance(method, str) else {}
    arguments = {"epochs": 4, "schedule": {"lr": 3e-3}, "options": options, "progress": False} | changes
    return adapt(plain(), loader(shuffle=True), loader(48, 48, seed=1), budgets, method=method, **arguments)


@pytest.mark.parametrize(
    "method", ["ea_vit_plus", "ea_vit", "hydravit", "matformer", "sortednet", "scala", "autoformer"]
)
def test_a_family_is_adapted_and_keeps_its_budgets(method, tmp_path):
    elastic = adapted(method)
    assert list(elastic.accuracy) == list(BUDGETS)
    assert elastic.accuracy[1.0] > 0.6
    for budget, key in elastic.table.budgets.items():
        if key is not None:
            assert eavit.macs(elastic.backbone, key) <= budget * eavit.macs(elastic.backbone, elastic.backbone.full)
            assert eavit.macs(elastic.backbone, elastic.choose(budget=budget)) <= budget * eavit.macs(
                elastic.backbone, elastic.backbone.full
            )
    again = eavit.load(elastic.save(tmp_path / "family"))
    images = torch.randn(4, 1, 4, 4)
    for member in elastic.members:
        assert torch.equal(again(images, member.submodel), elastic(images, member.submodel))
    assert again.accuracy == elastic.accuracy


def test_recorded_accuracy_is_that_of_the_extract():
    elastic = adapted()
    ((images, labels),) = loader(48, 48, seed=1)
    for member in elastic.members:
        with torch.no_grad():
            right = elastic.extract(member.submodel)(images).argmax(1) == labels
        assert (member.correct, member.n) == (int(right.sum()), 48)


def test_the_same_seed_gives_the_same_family():
    first, second, other = adapted(), adapted(), adapted(seed=1)
    images = torch.randn(4, 1, 4, 4)
    assert torch.equal(first(images), second(images))
    assert not torch.equal(first(images), other(images))


KILLED = """
import os, signal, sys
from tests.eavit.adaptation.test_adapt import adapted

def progress(phase, done, total):
    if (phase, done) == (sys.argv[2], int(sys.argv[3])):
        os.kill(os.getpid(), signal.SIGKILL)

adapted("ea_vit", workdir=sys.argv[1], progress=progress)
"""


@pytest.mark.parametrize(("phase", "step"), [("stage1", 5), ("search", 1), ("joint", 3)])
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, monkeypatch, phase, step):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "work"), phase, str(step)]
    assert subprocess.run(command, timeout=200, check=False).returncode == -signal.SIGKILL
    elastic, whole = adapted("ea_vit", workdir=tmp_path / "work"), adapted("ea_vit")
    assert elastic.table.budgets == whole.table.budgets
    assert elastic.members == whole.members


def test_a_workdir_of_another_run_is_refused(tmp_path):
    adapted(workdir=tmp_path)
    with pytest.raises(WorkdirError, match=r"holds another run: seed was 0 and is 1; delete it"):
        adapted(workdir=tmp_path, seed=1)


def test_a_method_that_trains_separate_models_is_refused():
    with pytest.raises(ValueError, match="fixed_uniform trains a separate model for each budget"):
        adapted("fixed_uniform")


def test_budgets_below_the_smallest_submodel_are_unreachable():
    elastic = adapted(budgets=(0.01, 1.0))
    assert elastic.accuracy[0.01] is None
    with pytest.raises(eavit.deploy.limits.UnreachableError, match="smallest takes"):
        elastic.choose(budget=0.01)
    with pytest.raises(ValueError, match="no submodel keeps to any of the budgets"):
        adapted("matformer", budgets=(0.01,))


BAD = {
    "budget of zero": ({"budgets": (0,)}, "budgets: 0 must be a fraction"),
    "budget above one": ({"budgets": (1.5,)}, r"budgets: 1\.5 must be a fraction"),
    "no budget": ({"budgets": ()}, "at least one"),
    "the same budget twice": ({"budgets": (0.5, 0.5)}, "each once"),
    "unknown method": ({"method": "eavit"}, "option method='eavit' is unknown; allowed: .*nearest: ea_vit"),
    "unknown option": (
        {"options": {"importanse": "none"}},
        "option importanse is unknown; allowed: importance, select, nesting, evaluations; nearest: importance",
    ),
    "unknown schedule": ({"schedule": {"rate": 1}}, "schedule rate is unknown; allowed: epochs"),
    "impossible schedule": ({"schedule": {"lr": -1}}, "lr=-1"),
    "unknown data": ({"data": {"means": 1}}, "data means is unknown; .*nearest: mean"),
    "wrong classes": ({"classes": ["a", "b"]}, "the data has 2 classes .*num_classes=2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused_by_name(case):
    arguments, said = BAD[case]
    with pytest.raises(ValueError, match=said):
        adapted(**({"method": "hydravit"} | arguments))


def test_classes_of_the_data_set_that_differ_from_the_head_are_refused():
    train = loader()
    train.dataset.classes = ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="the data has 4 classes .*the model's head has 3"):
        adapt(plain(), train, loader(), progress=False)


def test_bad_loaders_and_models_are_refused_before_any_training(monkeypatch):
    monkeypatch.setattr(Recipe, "adapt", lambda *_: pytest.fail("training began"))
    with pytest.raises(LoaderError, match="val gave no batch"):
        adapt(plain(), loader(), [], progress=False)
    with pytest.raises(LoaderError, match="train gave no batch"):
        adapt(plain(), [], loader(), progress=False)
    with pytest.raises(LoaderError, match="out of range: the model's head has 2 classes"):
        adapt(plain(2), loader(), loader(), progress=False)
    with pytest.raises(ValueError, match="model has no head"):
        adapt(plain(0), loader(), loader(), progress=False)
    with pytest.raises(ValueError, match=r"model pools no tokens \(global_pool=''\)"):
        adapt(plain(global_pool=""), loader(), loader(), progress=False)
    with pytest.raises(CannotNestError, match="is not timm's VisionTransformer"):
        adapt(torch.nn.Linear(1, 1), loader(), loader(), progress=False)


def test_a_recipe_has_its_options_already():
    elastic = adapted(methods.hydravit(importance="none"), options={})
    assert elastic.table.method["method"] == "hydravit"
    with pytest.raises(ValueError, match="a Recipe has its own"):
        adapted(methods.hydravit(), options={"importance": "none"})


def test_progress_reports_every_phase():
    phases = {}
    adapted(progress=lambda phase, done, total: phases.update({phase: (done, total)}))
    assert {"prepare", "train", "measure"} <= set(phases)
    assert all(done == total for done, total in phases.values())


def test_bars_are_closed(capsys):
    adapted(progress=True)
    assert "train: 100%" in capsys.readouterr().err


def test_a_family_of_ones_own_training_loop():
    vit = tiny()
    elastic = family_of(vit, loader(48, 48, seed=1), BUDGETS, evaluations=12, progress=False)
    assert elastic.table.method["evaluations"] <= 12
    assert elastic.accuracy[1.0] is not None
    with pytest.raises(TypeError, match="must be a nested ViT"):
        family_of(plain(), loader())


def test_a_family_is_chosen_by_a_selector_of_ones_own():
    mine = "tests.eavit.selection.made_selectors:smallest"
    elastic = family_of(tiny(), loader(48, 48, seed=1), BUDGETS, selector=mine, progress=False)
    assert len(elastic.table.members) == 1 and elastic.table.method["selector"] == mine
    for name in ("native", "nsga3"):
        with pytest.raises(ValueError, match=f"option selector='{name}' is unknown"):
            family_of(tiny(), loader(), selector=name)


def test_threads_are_set_for_the_training_alone(monkeypatch):
    def stopped(*_):
        raise RuntimeError(f"with {torch.get_num_threads()}")

    before = torch.get_num_threads()
    monkeypatch.setattr(Recipe, "adapt", stopped)
    with pytest.raises(RuntimeError, match=f"with {before + 1}"):
        adapted(threads=before + 1)
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads"):
        adapted(threads=0)


def test_the_default_method_is_named_once():
    assert module.DEFAULT_METHOD in methods.__all__
