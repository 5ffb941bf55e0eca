"""Suites: every fault at once, each with file, key path, what is allowed and the nearest match."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import suite
from harness.suite import Schedule, SuiteError
from tests.harness import small

TOML = """
name = "quick"
title = "A title"
budgets = [0.2, 1]
seeds = [0, 1]
[backbone]
use = "eavit.weights:pico_letters"
[input]
size = 28
channels = 3
[schedule]
epochs = 2
[[datasets]]
name = "digits"
fit = 100
[[datasets]]
name = "my photos / ø"
source = "folder"
path = "photos"
[[methods]]
use = "eavit.methods:ea_vit"
[[methods]]
name = "alone"
use = "eavit.methods:fixed_same_shape"
options = { like = "ea_vit", deep = { list = [1, 2.5, "x"] } }
after = ["ea_vit"]
"""


def faults(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(SuiteError) as caught:
        small.suite(**changes)
    return caught.value.faults


def written(folder: Path, text: str, name: str = "quick.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_right_suite_is_read_with_its_defaults(tmp_path: Path) -> None:
    read = suite.load(written(tmp_path, TOML))
    assert read.budgets == (0.2, 1.0)
    assert read.input.mean == read.input.std == (0.5, 0.5, 0.5)
    assert read.schedule.model_dump() == {
        "epochs": 2.0, "batch": 64, "lr": 1e-3, "min_lr": 1e-5, "warmup": 0.05, "weight_decay": 0.05,
        "smoothing": 0.1, "drop_path": 0.0, "clip": 1.0, "precision": "no", "micro_batch": 0, "checkpointing": False,
    }  # fmt: skip
    assert (read.datasets[0].source, read.datasets[0].select, read.datasets[0].augment) == ("digits", None, "none")
    assert [method.name for method in read.methods] == ["ea_vit", "alone"]
    assert read.method("alone").options["deep"] == {"list": [1, 2.5, "x"]}
    assert read.dataset("my photos / ø").path == str(Path.cwd() / "photos")
    assert (read.processes, read.memory_gib, read.macs_factor) == (1, None, 1.0)


def test_relative_paths_are_those_of_the_suite_then_of_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "w.bin").write_bytes(b"x")
    (tmp_path / "ea_vit").write_text("not meant: a word without a dot is no path")
    options = 'options = { like = "ea_vit", file = "w.bin", gone = "no.bin", deep = { list = [1, 2.5, "./w.bin"] } }'
    read = suite.load(
        written(tmp_path, TOML.replace(TOML[TOML.index("options") : TOML.index("after")], options + "\n"))
    )
    assert read.dataset("my photos / ø").path == str(tmp_path / "photos")
    assert read.method("alone").options == {
        "like": "ea_vit",
        "file": str(tmp_path / "w.bin"),
        "gone": "no.bin",
        "deep": {"list": [1, 2.5, str(tmp_path / "w.bin")]},
    }


def test_a_suite_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        small.suite().name = "other"


def test_all_faults_are_reported_at_once_with_file_and_key_path(tmp_path: Path) -> None:
    text = TOML.replace("epochs", "epocs").replace("[0.2, 1]", "[0.5, 1.5]").replace("options =", "optoins =")
    path = written(tmp_path, text.replace('after = ["ea_vit"]', 'after = ["ea_vt"]'))
    with pytest.raises(SuiteError) as caught:
        suite.load(path)
    found = caught.value.faults
    assert len(found) == 4
    assert all(line.startswith(f"{path}: ") for line in found)
    text = str(caught.value)
    assert "schedule.epocs: unknown key; allowed: epochs, batch," in text
    assert "; nearest: epochs" in text
    assert "methods[1].optoins: unknown key; allowed: use, name, options, after; nearest: options" in text
    assert "budgets[1]: 1.5: input should be less than or equal to 1" in text
    assert "methods[1].after[0]: 'ea_vt': no such method; allowed: ea_vit, alone; nearest: ea_vit" in text


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"budgets": []}, "budgets: []: needs at least one entry"),
        ({"budgets": [0.0, 1.0]}, "budgets[0]: 0.0: input should be greater than 0"),
        ({"budgets": [0.5, 0.5]}, "budgets[1]: 0.5: budgets must grow"),
        ({"budgets": [0.5, 0.2]}, "budgets[1]: 0.2: budgets must grow"),
        ({"budgets": ["0.5"]}, "budgets[0]: '0.5': input should be a valid number"),
        ({"budgets": [float("nan")]}, "budgets[0]: nan: only finite numbers"),
        ({"seeds": [0, 1, 0]}, "seeds[2]: 0: named twice, first as seeds[0]"),
        ({"seeds": [-1]}, "seeds[0]: -1: input should be greater than or equal to 0"),
        ({"seeds": [1.5]}, "seeds[0]: 1.5: input should be a valid integer"),
        ({"seeds": [True]}, "seeds[0]: True: input should be a valid integer"),
        ({"name": "Quick One"}, "name: 'Quick One': allowed are lower-case letters"),
        ({"regime": "equal_stps"}, "'equal_stps' is not known; allowed: equal_steps, equal_macs; nearest: equal_steps"),
        ({"macs_factor": 2.0}, 'macs_factor: 2.0: is only for regime = "equal_macs"'),
        ({"regime": "equal_macs", "macs_factor": 0.0}, "macs_factor: 0.0: input should be greater than 0"),
        ({"processes": 0}, "processes: 0: input should be greater than or equal to 1"),
        ({"memory_gib": -1.0}, "memory_gib: -1.0: input should be greater than 0"),
        ({"disk_gib": 0}, "disk_gib: 0"),
        ({"procesess": 2}, "procesess: unknown key; allowed: name, "),
        ({"threads": 0}, "threads: 0: input should be greater than or equal to 1"),
        ({"backbone": {"use": "eavit.weights"}}, "backbone.use: 'eavit.weights': must be written module:attribute"),
        ({"backbone": {}}, "backbone.use: missing key"),
        ({"input": {"size": 8, "channels": 2}}, "input.channels: 2 is not known; allowed: 1, 3"),
        ({"input": {"size": 8, "channels": 3, "mean": [0.5]}}, "input.mean: [0.5]: 1 values for 3 channels"),
        ({"input": {"size": 8, "channels": 1, "std": [0.0]}}, "input.std[0]: 0.0: input should be greater than 0"),
        (
            {"schedule": {"precision": "bf61"}},
            "schedule.precision: 'bf61' is not known; allowed: no, bf16, fp16; nearest",
        ),
        ({"datasets": []}, "datasets: []: needs at least one entry"),
        ({"datasets": [{"use": 3}]}, "datasets[0].use: 3"),
        ({"datasets": [{"name": "digit"}]}, "datasets[0].source: 'digit' is not known"),
        ({"datasets": [{"name": "x", "source": "folder"}]}, "datasets[0].path: missing key"),
        (
            {"datasets": [{"name": "x", "source": "listing"}]},
            'datasets[0].use: missing key; source "listing" needs a callable',
        ),
        (
            {"datasets": [{"name": "x", "use": "a:b", "reading": "disk", "augment": "segmentation"}]},
            'datasets[0].augment: "segmentation": only for task = "segmentation": it cuts by masks',
        ),
        (
            {"datasets": [{"name": "x", "use": "a:b", "augment": "imagenet_crop"}]},
            "datasets[0].augment: 'imagenet_crop': crops the original image, which memory does not keep",
        ),
        (
            {"datasets": [{"name": "digits", "reading": "disk"}]},
            'datasets[0].reading: "disk": only for image folders and for data sets that `use` lists, not for the',
        ),
        ({"datasets": [{"name": "x", "use": "a:b", "workers": 4}]}, "datasets[0].workers: 4: only with reading = "),
        ({"input": {"size": 8, "channels": 1, "resize": 7}}, "input.resize: 7: must be at least the size 8"),
        ({"datasets": [{"name": "x", "use": "a:b", "source": "digits"}]}, "datasets[0].source: 'digits': leave it out"),
        ({"datasets": [{"name": "x", "use": "a.b"}]}, "datasets[0].use: 'a.b': must be written module:attribute"),
        ({"datasets": [{"name": "digits", "options": {"k": 1}}]}, "datasets[0].options: only for data sets that `use`"),
        ({"datasets": [{"name": "digits"}, {"name": "digits", "fit": 9}]}, "datasets[1].name: 'digits': duplicate of"),
        ({"datasets": [{"name": "digits"}, {"name": "b", "source": "digits"}]}, "datasets[1]: duplicate: the same as"),
        ({"datasets": [{"name": "digits", "fit": 0}]}, "datasets[0].fit: 0"),
        (
            {"datasets": [{"name": "digits", "augment": "shfit"}]},
            "allowed: none, shift, crop, crop_flip, imagenet_crop, imagenet_crop_flip, segmentation; nearest: shift",
        ),
        ({"methods": [{"use": "a:b"}, {"use": "c:b"}]}, "methods[1].name: 'b': duplicate of methods[0].name"),
        ({"methods": [{"use": "a:b"}, {"use": "a:b", "name": "c"}]}, "methods[1]: duplicate: the same as methods[0]"),
        ({"methods": [{"use": "a:b", "after": ["b"]}]}, "methods[0].after[0]: 'b': a method cannot come after itself"),
        ({"methods": [{"use": "a:Big"}]}, "methods[0].name: 'Big': allowed are lower-case"),
        ({"metrics": [{"use": "a:b"}, {"use": "c:b"}]}, "metrics[1].name: 'b': duplicate of metrics[0].name"),
        ({"metrics": [{"use": "a"}]}, "metrics[0].use: 'a': must be written module:attribute"),
        ({"metrics": [{"use": "a:b", "optoins": {}}]}, "metrics[0].optoins: unknown key; allowed: use, name, options"),
        ({"methods": 3}, "methods: 3: input should be a valid array"),
        ({"methods": [3]}, "methods[0]: 3: "),
    ],
)
def test_each_fault_names_key_value_and_what_is_allowed(changes: dict[str, Any], fault: str) -> None:
    found = faults(**changes)
    assert any(line.removeprefix("small.toml: ").startswith(fault) or fault in line for line in found), found


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"budgets": [20]}, "small.toml: budgets[0]: 20: input should be less than or equal to 1"),
        ({"seeds": [-1]}, "small.toml: seeds[0]: -1: input should be greater than or equal to 0"),
        ({"seeds": [2**64]}, "small.toml: seeds[0]: 18446744073709551616: only integers of 64 bits are allowed"),
        ({"methods": [3]}, "small.toml: methods[0]: 3: input should be an object"),
        ({"title": "a\x1bb" * 50, "budgets": "x\n" * 90}, "small.toml: budgets: 'x\\nx\\nx"),
    ],
)
def test_one_fault_is_one_message(changes: dict[str, Any], fault: str) -> None:
    (line,) = faults(**changes)
    assert line.startswith(fault) and line.isprintable() and len(line) < 200


def test_methods_that_wait_for_one_another_are_named() -> None:
    methods = [{"use": "a:b", "after": ["d"]}, {"use": "a:c", "after": ["b"]}, {"use": "a:d", "after": ["c"]}]
    (line,) = faults(methods=methods)
    assert "a circle, none of these can start: b -> d -> c -> b" in line


def test_an_unknown_table_is_a_fault_with_the_nearest_name() -> None:
    (line,) = faults(shedule={})
    assert line.startswith("small.toml: shedule: unknown key; allowed: name, ")
    assert line.endswith("; nearest: schedule")


def test_dates_are_refused_where_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path, TOML.replace("deep = {", "day = 2020-01-01, deep = {"))
    with pytest.raises(SuiteError, match=r"methods\[1\]\.options\.day: 2020-01-01: dates and times are not allowed"):
        suite.load(path)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, TOML)
    with pytest.raises(SuiteError, match=r"quik\.toml: no such suite; .* nearest: .*quick\.toml"):
        suite.load(tmp_path / "quik.toml")
    with pytest.raises(SuiteError, match="is no folder"):
        suite.load(tmp_path / "nowhere" / "x.toml")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(suite.Suite.model_fields)), junk)
def test_any_value_anywhere_is_a_suite_or_a_suite_error(key: str, value: Any) -> None:
    try:
        told = isinstance(small.suite(**{key: value}), suite.Suite)
    except SuiteError as error:
        told = bool(error.faults) and all(line.startswith("small.toml: ") for line in error.faults)
    assert told


def test_planning_starts_without_torch() -> None:
    heavy = "('torch', 'pandas', 'matplotlib')"
    code = f"import sys, harness.commands.plan; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_schedule_counts_whole_batches_and_at_least_one_step() -> None:
    counted = {
        (epochs, images): Schedule(epochs=epochs, batch=64).steps(images)
        for epochs in (0.01, 1.5, 6.0)
        for images in (10, 127, 640)
    }
    assert counted == {
        (0.01, 10): 1, (0.01, 127): 1, (0.01, 640): 1,
        (1.5, 10): 2, (1.5, 127): 2, (1.5, 640): 15,
        (6.0, 10): 6, (6.0, 127): 6, (6.0, 640): 60,
    }  # fmt: skip


def test_clipping_can_be_switched_off(tmp_path: Path) -> None:
    read = suite.load(written(tmp_path, TOML.replace("epochs = 2", "epochs = 2\nclip = 0")))
    assert read.schedule.clip == 0
    assert "schedule.clip: -1.0: input should be greater than or equal to 0" in str(faults(schedule={"clip": -1.0}))


def test_a_task_has_a_score_and_refuses_those_of_others() -> None:
    assert (small.suite().task, small.suite().score) == ("classification", "accuracy")
    assert small.suite(task="multi_label").score == "mean_average_precision"
    assert small.suite(task="multi_label", score="auroc").score == "auroc"
    with pytest.raises(SuiteError, match="score: 'auroc': is none of task = 'classification'; allowed: accuracy"):
        small.suite(score="auroc")
    with pytest.raises(SuiteError, match="metrics: only for task = 'classification'"):
        small.suite(task="multi_label", metrics=[{"use": "a.b:c"}])
    with pytest.raises(SuiteError, match=r"task: 'multilabel' is not known; .*nearest: multi_label"):
        small.suite(task="multilabel")
