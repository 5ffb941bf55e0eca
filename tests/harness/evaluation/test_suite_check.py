"""What is knowably wrong before a cell runs: options, backbone against input, precision against device, memory."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from harness.evaluation import suite_check
from harness.evaluation.suite_check import check_part
from tests.harness import small
from tests.harness.small import FAKES

ONES = """
import torch
from torch import nn
from harness.protocol import Method
class Reads(nn.Linear):
    def __init__(self, num_classes, size=64): super().__init__(size, num_classes); self.x = float(self.weight[0, 0])
    def forward(self, images): return super().forward(images.flatten(1))
class Missing(FileNotFoundError):
    skips = True
def missing(num_classes: int, log: str = "") -> nn.Module:
    if log:
        open(log, "a").write("tried;")
    raise Missing("no weights here")
class Picky:
    name = "picky"
    def adapt(self, task): ...
    def check(self, backbone, budgets, after, regime, batch):
        if next(backbone.parameters()).numel() != 64 * 32: raise ValueError("only of 64 pixels and 32 features")
        return [f"budget {b} cannot be reached" for b in budgets if b < 0.5]
"""


@pytest.fixture(autouse=True)
def ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ones_plugin.py").write_text(ONES)
    monkeypatch.syspath_prepend(tmp_path)


def checked(*part: str | int, **changes: Any) -> dict[str, Any]:
    return check_part({"suite": small.suite(**changes).model_dump_json(), "part": list(part)})


def fault(*part: str | int, **changes: Any) -> tuple[str, bool]:
    found = checked(*part, **changes)
    (text,) = found["faults"]
    return text, found["fatal"]


@pytest.mark.parametrize("part", [("schedule",), ("backbone",), ("methods", 0), ("datasets", 0)])
def test_a_right_suite_has_no_fault(part: tuple[str | int, ...]) -> None:
    found = checked(*part)
    assert (found["faults"], found["fatal"], found["warnings"]) == ([], False, [])


def test_fp16_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text, fatal = fault("schedule", schedule={"precision": "fp16"})
    assert text.startswith("precision: 'fp16': needs a GPU") and fatal
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not checked("schedule", schedule={"precision": "fp16"})["faults"]


@pytest.mark.parametrize(
    ("backbone", "image", "said"),
    [
        ({"use": f"{FAKES}:backbone"}, {"size": 9, "channels": 1}, r"does not take images \(1, 9, 9\) of \[input\]"),
        ({"use": f"{FAKES}:backbone"}, {"size": 8, "channels": 3}, r"does not take images \(3, 8, 8\)"),
        (
            {"use": f"{FAKES}:backbone", "options": {"wdth": 3}},
            {"size": 8, "channels": 1},
            "unknown option.*nearest: width",
        ),
        ({"use": f"{FAKES}:backbone", "options": {"width": "3"}}, {"size": 8, "channels": 1}, "width"),
        ({"use": "ones_plugin:Reads", "options": {"size": 65}}, {"size": 8, "channels": 1}, "does not take images"),
        ({"use": f"{FAKES}:steady"}, {"size": 8, "channels": 1}, "does not say that it makes a backbone"),
    ],
)
def test_a_backbone_that_does_not_fit_is_fatal(backbone: Any, image: Any, said: str) -> None:
    text, fatal = fault("backbone", backbone=backbone, input=image)
    assert re.search(said, text) and fatal


def test_a_backbone_that_cannot_be_on_meta_is_tried_on_the_cpu() -> None:
    assert checked("backbone", backbone={"use": "ones_plugin:Reads"})["faults"] == []


def test_weights_that_are_missing_cost_no_more_than_skipped_cells() -> None:
    text, fatal = fault("backbone", backbone={"use": "ones_plugin:missing"})
    assert "no weights here" in text and not fatal


def test_weights_are_looked_for_once_for_all_parts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    backbone = {"use": "ones_plugin:missing", "options": {"log": str(log)}}
    for part in (("backbone",), ("methods", 0), ("methods", 0), ("backbone",)):
        checked(*part, backbone=backbone)
    assert log.read_text() == "tried;"


def test_a_method_says_itself_what_it_cannot_do() -> None:
    found = checked("methods", 0, methods=[{"use": "ones_plugin:Picky", "name": "p"}], budgets=[0.2, 1.0])
    assert found["warnings"] == ["budget 0.2 cannot be reached"]
    narrow = {"use": f"{FAKES}:backbone", "options": {"width": 16}}
    text, fatal = fault("methods", 0, methods=[{"use": "ones_plugin:Picky", "name": "p"}], backbone=narrow)
    assert text == "ValueError: only of 64 pixels and 32 features" and not fatal


def test_data_sets_are_read_and_memory_that_runs_out_names_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked("datasets", 0)["notes"] == ["digits: 10 classes; fit 200, select_a 30, select_b 30, test 100"]

    def exhausted(*_: Any) -> None:
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(suite_check, "load_dataset", exhausted)
    text, fatal = fault("datasets", 0, memory_gib=0.5)
    assert (
        text.startswith("digits: reading it takes more memory than memory_gib = 0.5 allows: MemoryError") and not fatal
    )


def test_a_set_that_takes_too_much_memory_is_refused_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_check, "load_dataset", None)
    sets, image = [{"name": "glyphs"}], {"size": 4096, "channels": 3}
    text, _ = fault("datasets", 0, datasets=sets, input=image)
    assert "GiB of memory, more than the 2 GiB that a data set may take" in text


def test_what_the_owner_of_a_data_set_should_know_is_a_warning(tmp_path: Path) -> None:
    draw = random.Random(0)
    for name in ("cats", "dogs"):
        (tmp_path / "x/train" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (8, 8), draw.randrange(256)).save(tmp_path / "x/train" / name / f"{number}.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "x/train/cats/same.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "x/train/dogs/same.png")
    found = checked("datasets", 0, datasets=[{"name": "x", "source": "folder", "path": str(tmp_path / "x")}])
    assert not found["faults"] and any("same.png" in line for line in found["warnings"])


def test_a_listing_without_its_files_says_what_goes_where(tmp_path: Path) -> None:
    entry = {"name": "cars", "use": "harness.data.published:stanford_cars", "source": "listing", "path": str(tmp_path)}
    found = check_part({"suite": small.suite(datasets=[entry]).model_dump_json(), "part": ["datasets", 0]})
    assert not found["fatal"]
    assert f"missing in {tmp_path}/stanford_cars: devkit/cars_meta.mat, " in found["faults"][0]


def test_folds_that_are_too_small_are_a_fault() -> None:
    text, _ = fault("datasets", 0, datasets=[{"name": "digits", "fit": 200, "select": 10, "test": 100}])
    assert "select = 10 is too few: 10 classes need at least 20 images" in text
