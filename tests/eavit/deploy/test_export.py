"""Every form gives the predictions of the extract, in a process of its own; bad input is refused by name."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file
from strategies import build
from timm.layers import SwiGLU

import eavit
from eavit import NestedViT
from eavit.deploy.architecture import CannotRebuildError
from eavit.deploy.elastic import ElasticModel
from eavit.deploy.export import FORMATS, export
from eavit.deploy.limits import UnreachableError
from eavit.deploy.verify import read_export
from eavit.extras import MissingExtraError
from tests.eavit.families import KEYS, family
from tests.eavit.model.test_nested_eva import DEIT, EVA
from tests.eavit.model.vits import TINY

IMAGES = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """An export of each submodel, the expensive forms of the one with skipped branches alone."""
    folder, elastic = tmp_path_factory.mktemp("exports"), family()
    return {
        key: export(elastic, folder / key, key, formats=list(FORMATS) if key == KEYS[1] else ["safetensors", "torch"])
        for key in KEYS
    }


def fresh(code, folder):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("key", KEYS)
def test_timm_loads_the_folder(exports, key):
    model = timm.create_model(f"local-dir:{exports[key]}", pretrained=True).eval()
    assert torch.equal(model(IMAGES), family().extract(key)(IMAGES))
    assert model.pretrained_cfg["mean"] == [0.5]
    assert model.pretrained_cfg["license"] == "mit"
    assert model.pretrained_cfg["label_names"] == ["bright", "dark", "checked"]


@pytest.mark.parametrize("key", KEYS)
def test_another_number_of_classes_is_timms_matter(exports, key):
    model = timm.create_model(f"local-dir:{exports[key]}", pretrained=True, num_classes=7).eval()
    assert model(IMAGES).shape == (3, 7)


@pytest.mark.parametrize("key", [KEYS[0], KEYS[2]])
def test_a_uniform_shape_is_plain_timms(exports, key):
    assert json.loads((exports[key] / "config.json").read_text())["architecture"] == "vit_tiny_patch16_224"


def test_model_py_runs_without_this_library(exports):
    code = "import sys, model, timm; m = model.load_model(); print(sum(p.numel() for p in m.parameters()))"
    code += "\nassert not any(name.partition('.')[0] in ('eavit', 'harness') for name in sys.modules)"
    elastic = family()
    assert int(fresh(code, exports[KEYS[1]])) == eavit.params(elastic.backbone, KEYS[1])


def test_model_py_classifies_pictures(exports, tmp_path):
    from PIL import Image

    Image.new("RGB", (9, 9), "white").save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "model.py", str(tmp_path / "a.png")], capture_output=True, text=True, cwd=exports[KEYS[1]]
    )
    assert done.stdout.split(": ")[1].strip() in ("bright", "dark", "checked"), done.stderr


def test_preprocessing_goes_along_in_each_form(exports):
    onnx = pytest.importorskip("onnx")
    folder = exports[KEYS[1]]
    wanted = json.loads((folder / "preprocessing.json").read_text())
    assert wanted["mean"] == [0.5]
    props = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    assert json.loads(props["preprocessing"]) == wanted
    extra = {"preprocessing.json": ""}
    torch.export.load(folder / "model.pt2", extra_files=extra)
    assert json.loads(extra["preprocessing.json"]) == wanted
    assert "'mean': (0.5,)" in (folder / "model.py").read_text()


def test_the_record_says_what_was_exported(exports):
    record = read_export(exports[KEYS[1]])
    assert record["submodel"] == KEYS[1]
    assert record["result"] == {"correct": 80, "n": 96}
    assert list(record["formats"]) == list(FORMATS)
    assert record["sizes"]["params"] == eavit.params(family().backbone, KEYS[1])


def test_limits_choose_what_is_exported(tmp_path):
    elastic = family()
    record = read_export(export(elastic, tmp_path / "x", budget=0.5, formats=["safetensors"]))
    assert record["submodel"] == str(elastic.choose(budget=0.5))
    assert record["limits"] == {"budget": 0.5}
    with pytest.raises(UnreachableError):
        export(elastic, tmp_path / "y", budget=0.01)
    assert not (tmp_path / "y").exists()


def test_parameters_of_a_single_size_are_exported(tmp_path):
    elastic = family()
    key = elastic.backbone.check(KEYS[0])
    elastic.by_size[key] = {"norm.weight": torch.full((6,), 3.0)}
    folder = export(elastic, tmp_path / "x", key)
    assert torch.equal(load_file(folder / "model.safetensors")["norm.weight"], torch.full((6,), 3.0))


def test_an_earlier_export_is_replaced_and_anything_else_is_left_alone(tmp_path):
    elastic = family()
    folder = export(elastic, tmp_path / "x", KEYS[0])
    export(elastic, folder, KEYS[1], formats=["safetensors"])
    assert read_export(folder)["submodel"] == KEYS[1]
    assert not (folder / "model.py").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match="no earlier export"):
        export(elastic, tmp_path / "mine", KEYS[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "x"]


def test_a_failed_export_leaves_the_older_one(tmp_path, monkeypatch):
    elastic = family()
    folder = export(elastic, tmp_path / "x", KEYS[0])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "torch", full)
    with pytest.raises(OSError, match="No space"):
        export(elastic, folder, KEYS[1])
    assert read_export(folder)["submodel"] == KEYS[0]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"formats": ["tflite"]}, ValueError, "option format='tflite' is unknown; allowed: safetensors"),
        ({"submodel": "e6"}, ValueError, "not a submodel"),
        ({"submodel": "e99-h4x3-m24x3"}, ValueError, "not nested in the backbone"),
        ({"submodel": KEYS[0], "budget": 0.5}, ValueError, "a submodel or limits, not both"),
        ({}, ValueError, "no limit is given"),
        ({"colour": 3}, ValueError, "limit colour is unknown"),
    ],
)
def test_bad_arguments_of_an_export_are_refused(tmp_path, arguments, error, said):
    with pytest.raises(error, match=said):
        export(family(), tmp_path / "x", **arguments)
    assert not (tmp_path / "x").exists()


def test_a_missing_extra_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"format onnx needs the package onnx .*eavit-bench\[export\]"):
        export(family(), tmp_path / "x", KEYS[0], formats=["onnx"])
    assert list(tmp_path.iterdir()) == []


def of_other_backbone(recipe) -> ElasticModel:
    sizes = {"img_size": 4, "patch_size": 2, "in_chans": 1, "num_classes": 3, "embed_dim": 16, "num_heads": 4}
    vit = NestedViT.from_timm(build({**recipe, **sizes}).float())
    return ElasticModel(vit, family().table)


@pytest.mark.parametrize("recipe", [EVA, DEIT, {**TINY, "mlp_layer": SwiGLU}], ids=["eva", "distilled", "gated"])
def test_families_of_other_backbones_are_saved_and_exported(recipe, tmp_path):
    elastic = of_other_backbone(recipe)
    elastic.save(tmp_path / "family")
    again = eavit.load(tmp_path / "family")
    for key in KEYS:
        wanted = elastic.extract(key)(IMAGES)
        assert torch.equal(again.extract(key)(IMAGES), wanted)
        folder = export(again, tmp_path / key, key, formats=["safetensors"])
        assert torch.equal(timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(IMAGES), wanted)
    with pytest.raises(CannotRebuildError, match="format 'torch': model.py builds a VisionTransformer with plain MLPs"):
        export(elastic, tmp_path / "torch", KEYS[0], formats=["torch"])
    assert not (tmp_path / "torch").exists()
