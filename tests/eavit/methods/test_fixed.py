"""References: each model trained alone; from random weights; sizes with a pretraining of their own."""

from dataclasses import dataclass, field

import pytest
import timm
import torch
from safetensors.torch import save_file

from eavit import weights
from eavit.methods import fixed
from eavit.methods.fixed import fixed_random_start, fixed_same_shape, fixed_uniform, own_pretraining
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.training.allocation import steps_of
from eavit.weights import MissingWeightsError, random_start, timm_vit
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, plain, tiny

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
SHAPES = {0.4: "e6-h2.2.2-m12x3", 0.7: "e9-h3x3-m18x3", 1.0: "e12-h4x3-m24x3"}
SHORT = SCHEDULE | {"epochs": 1.0}
SIZES = {  # timm names, built tiny: what matters is that they differ
    "vit_tiny_patch16_224": 4,
    "vit_small_patch16_224": 8,
    "vit_base_patch16_224": 16,
}
BUILD = {"patch_size": 2, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}


@dataclass
class Told(TinyTask):
    told: dict = field(default_factory=dict)

    def progress(self, phase, done, total):
        self.told[phase] = total
        super().progress(phase, done, total)


def task_in(folder, **changes):
    folder.mkdir(exist_ok=True)
    return Told(folder, **({"given": {"other": SHAPES}, "schedule": SHORT} | changes))


# --- shared MACs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [fixed_same_shape, fixed_uniform, fixed_random_start])
def test_with_equal_macs_the_models_share_them_evenly(method, tmp_path):
    task = task_in(tmp_path, train_macs=3000.0 * FULL)
    adapted = method().adapt(task)
    shapes = list(dict.fromkeys(s for b in task.budgets if (s := adapted.select(b)) is not None))
    assert len(shapes) >= 3
    spent = [
        3 * 16 * cost.macs(BACKBONE, s) * task.told[f"train-{n}-of-{len(shapes)}"] for n, s in enumerate(shapes, 1)
    ]
    assert max(spent) < 1.15 * min(spent)
    assert 0.95 * task.train_macs < task.ledger.forward_macs + task.ledger.backward_macs <= task.train_macs


@pytest.mark.parametrize("method", [fixed_same_shape, fixed_uniform, fixed_random_start])
def test_with_equal_steps_each_model_gets_the_whole_schedule(method, tmp_path):
    task = task_in(tmp_path)
    adapted = method().adapt(task)
    distinct = {adapted.select(b) for b in task.budgets} - {None}
    assert task.ledger.steps == len(distinct) * steps_of(task)


@pytest.mark.parametrize("method", [fixed_same_shape, fixed_random_start])
def test_the_shape_comes_from_exactly_one_method(method, tmp_path):
    for given in ({}, {"a": SHAPES, "b": SHAPES}):
        with pytest.raises(ValueError, match=f"{method.__name__} comes after exactly one method"):
            method().adapt(task_in(tmp_path, given=given))
    adapted = method().adapt(task_in(tmp_path, given={"a": {1.0: SHAPES[1.0]}}))
    assert [adapted.select(b) for b in (0.05, 0.4, 0.7)] == [None] * 3  # what the other left out is left out


# --- random start ---------------------------------------------------------------------------------------------------


def test_a_random_start_is_random_everywhere_named_by_its_seed_and_touches_no_generator():
    before = torch.get_rng_state()
    one, two, other = (random_start(plain(init_values=0.5), seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    given = plain(init_values=0.5, seed=7).state_dict()
    for key, value in one.items():
        assert torch.equal(value, two[key])
        if value.ndim > 1:
            assert not torch.equal(value, other[key]) and not torch.equal(value, given[key]), key
    assert one["head.weight"].std() > 0.01 and torch.equal(one["blocks.1.ls1.gamma"], given["blocks.1.ls1.gamma"])


def test_a_slice_of_a_random_start_is_as_random_as_a_start_of_its_shape():
    wide, narrow = (random_start(plain(embed_dim=e, num_heads=4), 0).state_dict() for e in (96, 48))
    for key in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc2.weight", "pos_embed"):
        rows = narrow[key].shape[0]
        assert wide[key][:rows].std().item() == pytest.approx(narrow[key].std().item(), rel=0.15), key


def test_no_probe_and_no_order_are_paid_for_a_random_start(tmp_path):
    task = task_in(tmp_path)
    adapted = fixed_random_start().adapt(task)
    spent = sum(cost.macs(BACKBONE, Submodel.parse(s)) for s in SHAPES.values()) * 16 * steps_of(task)
    assert (task.ledger.forward_macs, task.ledger.backward_macs) == (spent, 2 * spent)
    assert task.ledger.images == 3 * 16 * steps_of(task)
    assert str(adapted.select(0.7)) == SHAPES[0.7]


def test_a_random_start_learns_less_than_pretrained_weights(tmp_path):
    x, y = next(Blobs(60, 9).batches(60))

    def right(method):
        task = task_in(tmp_path / method.__name__, schedule=SHORT | {"lr": 1e-4})
        adapted = method().adapt(task)
        with torch.no_grad():
            return (adapted.module(adapted.select(1.0))(x).argmax(-1) == y).float().mean()

    assert right(fixed_random_start) < right(fixed_same_shape)


# --- own pretraining ------------------------------------------------------------------------------------------------


@pytest.fixture
def family(tmp_path):
    """Options of own_pretraining with three sizes of local weights."""
    files = {}
    for tag, embed in SIZES.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(embed)
            made = timm.create_model(tag, img_size=4, in_chans=1, num_classes=0, **BUILD)
        files[tag] = str(tmp_path / f"{tag}.safetensors")
        save_file(made.state_dict(), files[tag])
    return {"models": list(SIZES), "files": files, "build": BUILD}


@pytest.fixture(autouse=True)
def sized(monkeypatch):
    """The three timm models at widths of a test."""
    create = timm.create_model

    def built(name, **options):
        return create(name, **({"embed_dim": SIZES[name]} if name in SIZES else {}), **options)

    monkeypatch.setattr(timm, "create_model", built)


def test_a_budget_gets_the_largest_that_fits_and_no_other_is_trained(family, tmp_path):
    share = {tag: macs_of(family, tag) / FULL for tag in SIZES}
    assert share["vit_tiny_patch16_224"] < 0.2 < share["vit_small_patch16_224"] < 0.4 < 1.0
    task = task_in(tmp_path / "w", budgets=(0.001, 0.2, 0.4, 0.41))
    adapted = own_pretraining(**family).adapt(task)
    keys = [adapted.select(b) and str(adapted.select(b)) for b in task.budgets]
    small = "vit_small_patch16_224-e8-h2x2-m16x2"
    assert keys == [None, "vit_tiny_patch16_224-e4-h2x2-m8x2", small, small]
    assert task.ledger.steps == 2 * steps_of(task)
    assert adapted.report()["trained"] == list(SIZES)[:2]


def macs_of(family, tag):
    vit = NestedViT.from_timm(timm_vit(3, tag, family["files"][tag], img_size=4, in_chans=1, **BUILD))
    return cost.macs(vit.backbone, vit.backbone.full)


def test_it_starts_from_the_file_s_weights_with_a_probed_head(family, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(fixed, "train_alone", lambda allocation, models: seen.update(models=list(models)) or {})
    own_pretraining(**family).adapt(task_in(tmp_path / "w", budgets=(0.2,)))
    ((_, vit, _),) = seen["models"]
    kept = timm_vit(3, "vit_tiny_patch16_224", family["files"]["vit_tiny_patch16_224"], img_size=4, in_chans=1, **BUILD)
    assert torch.equal(vit.state_dict()["blocks.1.mlp.fc1.weight"], kept.state_dict()["blocks.1.mlp.fc1.weight"])
    assert vit.head.weight.any()


def test_weights_that_cannot_be_had_say_so_and_ask_to_be_skipped(family, tmp_path):
    files = family["files"] | {"vit_small_patch16_224": str(tmp_path / "nowhere.safetensors")}
    with pytest.raises(MissingWeightsError, match=r"vit_small_patch16_224.*no file .*nowhere") as told:
        own_pretraining(**(family | {"files": files})).adapt(task_in(tmp_path / "w"))
    assert told.value.skips is True


def test_no_network_is_missing_weights_too(tmp_path, monkeypatch):
    def offline(*given, pretrained, **options):
        raise ConnectionError("no route to the hub\nand a second line")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(MissingWeightsError, match=r"'vit_tiny_patch16_224'.*no route to the hub\); fetch them once"):
        timm_vit(3, "vit_tiny_patch16_224")
    with pytest.raises(MissingWeightsError, match="augreg_in21k"):
        own_pretraining().adapt(task_in(tmp_path))


def test_wrong_models_and_files_are_named():
    with pytest.raises(ValueError, match="option models 'vit_bse_patch16_224'.*nearest: vit_base_patch16_224"):
        own_pretraining(models=["vit_bse_patch16_224"])
    with pytest.raises(ValueError, match=r"option models=\[\]: must be one or more different timm tags"):
        own_pretraining(models=[])
    with pytest.raises(
        ValueError, match="option files='vit_tiny_patch16_22' is unknown.*nearest: vit_tiny_patch16_224"
    ):
        own_pretraining(models=["vit_tiny_patch16_224"], files={"vit_tiny_patch16_22": "x"})


def test_the_default_family_is_one_recipe_in_three_sizes():
    tags = fixed.AUGREG
    assert [tag.split(".")[1] for tag in tags] == ["augreg_in21k"] * 3
    for tag in tags:
        assert weights.known_tag(tag, "x") == tag
    assert "augreg_in21k" in str(own_pretraining().card)
