"""The five commands, one after another on a folder of pictures, and what they refuse."""

import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from eavit import cli, weights
from eavit.commands import deploy_commands, program
from eavit.deploy.artifact import load_family
from eavit.deploy.elastic import Validation
from eavit.deploy.files import read_json, write_json
from eavit.deploy.timing import Timing
from tests.eavit.families import family
from tests.eavit.small import plain

QUICK = ["--backbone", "pico", "--epochs", "1", "--method", "hydravit", "--budgets", "0.3,0.6,1"]


def run(*arguments):
    """Run the program as the console script does: exit code, and everything that was printed."""
    result = CliRunner().invoke(program.app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Stripes one way or the other, with noise."""
    folder, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for name, axis in (("across", 0), ("down", 1)):
        (folder / name).mkdir(parents=True)
        for i in range(40):
            stripes = np.indices((24, 24))[axis] // 4 % 2 * 150 + rng.integers(0, 100, (24, 24))
            Image.fromarray(stripes.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def adapted(photos):
    out = photos.parent / "stripes.elastic"
    code, printed = run("adapt", photos, "--out", out, *QUICK)
    assert code == 0, printed
    return out, printed


@pytest.fixture
def simulated(monkeypatch):
    """A device whose latency is a submodel's channels and branches, measured at once."""

    def measure(elastic, submodels, setting, seconds=5.0):
        return {s: Timing(s.embed + sum(s.heads) + sum(s.mlp) / 96, 0.01, 9, 0.0) for s in submodels}

    from eavit.deploy import profiling

    monkeypatch.setattr(profiling, "measure_submodels", measure)
    monkeypatch.setattr(deploy_commands, "measure_submodels", measure)


def test_adapting_prints_what_it_assumed_and_the_family(adapted):
    out, printed = adapted
    for assumed in (
        "learning rate: 0.001",
        "no flips",
        "by the hash of the files",
        "method: hydravit",
        "seed: 0",
        "threads: ",
    ):
        assert assumed in printed
    assert len(re.findall(r"^  e\d+-h\S+ .*%", printed, re.MULTILINE)) >= 2
    record = read_json(out / "manifest.json", "")["method"]["pictures"]
    assert (record["train_pictures"], record["val_pictures"]) == (64, 16)
    assert record["train_sha256"] != record["val_sha256"] and "by the hash of the files" in record["split"]
    assert f"eavit profile {out}" in printed


def test_profile_choose_export_and_verify_follow(adapted, photos, simulated):
    out, _ = adapted
    code, printed = run("profile", out, "--seconds", "1")
    assert code == 0
    assert "median error" in printed
    assert (out / "profile-torch-t1-b1.json").exists()
    code, printed = run("choose", out, "--latency-ms", "90", "--mib", "20")
    assert code == 0, printed
    assert "<- choice" in printed
    assert "measured now" in printed
    command = re.search(r"eavit export (.*)", printed)[1].split()
    target = photos.parent / "stripes.export"
    command[command.index("onnx")] = "torch"
    code, printed = run("export", *command)
    assert code == 0, printed
    assert "model.py" in printed
    code, printed = run("verify", target, "--data", photos)
    assert code == 0, printed
    assert "16 of 16" in printed
    assert "the pictures are those of the recorded accuracy" in printed


def test_from_a_profile_to_a_family_within_milliseconds(photos, tmp_path, simulated, monkeypatch, capsys):
    path, out = tmp_path / "p.json", tmp_path / "fast.elastic"
    code, printed = run("profile", "pico", "--data", photos, "--seconds", "1", "--out", path)
    assert (code, path.exists(), "median error" in printed) == (0, True, True)
    little = ["--epochs", "1", "--options", '{"shapes": {"population": 4}}', "--backbone", "pico", "--profile", path]
    code, printed = run(
        *("adapt", photos, "--out", out, *little, "--latency-ms", "90", "--within", "latency_ms=110,mib=2")
    )
    assert code == 0, printed
    assert "members within: latency_ms=90; mib=2, latency_ms=110" in printed
    assert "milliseconds of: torch-t1-b1 on " in printed
    rows = re.findall(r"^within (.*): (e\S+) takes (?:mib=\S+, )?latency_ms=(\S+), accuracy", printed, re.MULTILINE)
    assert [row[0] for row in rows] == ["latency_ms=90", "mib=2, latency_ms=110"]
    assert float(rows[0][2]) <= 90 and float(rows[1][2]) <= 110
    code, printed = run("choose", out, "--latency-ms", "90")  # the profile is in the folder
    assert code == 0, printed
    code, printed = said(monkeypatch, capsys, "adapt", photos, "--out", tmp_path / "x", *little, "--latency-ms", "1")
    assert (code, "the smallest takes" in printed) == (2, True)


def test_shapes_between_the_members_are_chosen_where_they_are_better(adapted, photos, tmp_path):
    shutil.copytree(adapted[0], folder := tmp_path / "copy")
    before = load_family(folder)
    code, printed = run("choose", folder, "--activation-mib", "0.045", "--budget", "0.9", "--data", photos)
    assert code == 0, printed
    after = load_family(folder)
    grown = len(after.members) - len(before.members)
    assert ("has it as a member now" in printed) == (grown == 1)
    assert ("no shape between the members is more accurate" in printed) == (grown == 0)
    limits = {"activation_mib": 0.045, "budget": 0.9}
    assert after.member(**limits).accuracy >= before.member(**limits).accuracy
    assert f"{after.choose(**limits)} <- choice" in printed


def test_of_several_seeds_the_best_is_taken_with_its_probability(tmp_path, monkeypatch, capsys):
    first, second, other = family(), family(seed=1), family(seed=2)
    worse = tuple(replace(m, correct=m.correct - 9) for m in second.members)
    second.table = replace(second.table, members=worse)
    other.table = replace(other.table, validation=Validation(96, "1" * 64))
    folders = [elastic.save(tmp_path / f"s{i}") for i, elastic in enumerate((second, first, other))]
    code, printed = run("choose", *folders[:2], "--budget", "1")
    assert code == 0, printed
    row = re.search(rf"^  {folders[1]} <- best .* (\d+)%$", printed, re.MULTILINE)
    assert 90 < int(row[1]) <= 100
    assert "between families: mean 89.1%, standard deviation 6.6%" in printed
    assert f"eavit export {folders[1]} --budget 1" in printed
    code, printed = said(monkeypatch, capsys, "choose", *folders, "--budget", "1")
    assert (code, "measured on different images" in printed) == (2, True)


def test_precisions_are_measured_where_pictures_are_given(adapted, photos, tmp_path):
    pytest.importorskip("onnxruntime")
    forms = ["--format", "onnx", "--format", "onnx_int8"]
    code, printed = run("export", adapted[0], "--budget", "1", *forms, "--out", tmp_path / "x", "--data", photos)
    assert code == 0, printed
    assert re.search(r"^  onnx_int8 +\d\.\d\d +\d+\.\d% \(\d+ of 16\)", printed, re.MULTILINE)


def test_verify_fails_with_exit_code_1_where_the_record_does_not_hold(adapted, photos):
    target = photos.parent / "wrong.export"
    assert run("export", adapted[0], "--budget", "1", "--format", "torch", "--out", target)[0] == 0
    record = read_json(target / "export.json", "")
    record["result"]["correct"] -= 1
    write_json(target / "export.json", record)
    code, printed = run("verify", target, "--data", photos)
    assert code == 1
    assert "FAILED" in printed


def said(monkeypatch, capsys, *arguments):
    """The message of a refused command, and its exit code."""
    monkeypatch.setattr(sys, "argv", ["eavit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["adapt", "{photos}", "--out", "x", "--budgets", "much"], "--budgets 'much'"),
        (["adapt", "{photos}", "--out", "x", "--backbone", "pico", "--size", "64"], "takes 24 pixels only"),
        (["adapt", "{photos}", "--out", "x", "--backbone", "vit_smal"], "timm has no such model"),
        (["adapt", "{photos}/none", "--out", "x"], "is no folder"),
        (["adapt", "{photos}", "--out", "x", "--within", "fast"], "--within fast: must be kinds and limits"),
        (["adapt", "{photos}", "--out", "x", "--options", "importance"], "--options 'importance': no JSON"),
        (["adapt", "{photos}", "--out", "x", "--options", "1"], "--options '1': must be a JSON object"),
        (["adapt", "{photos}", "--out", "x", "--latency-ms", "5"], "eavit profile vit_small_patch14_dinov2.lvd142m"),
        (["profile", "pico"], "give the pictures too: --data"),
        (["choose", "{family}"], "no limit is given"),
        (["choose", "{family}", "--budget", "0.01"], "the smallest takes"),
        (["choose", "{photos}", "--budget", "0.5"], "has no manifest.json"),
        (["choose", "{family}", "--latency-ms", "5", "--profile", "{photos}/none.json"], "no such file"),
        (["export", "{family}", "--budget", "0.5", "--format", "tflite", "--out", "{photos}/x"], "format='tflite'"),
        (["verify", "{photos}", "--data", "{photos}"], "has no export.json"),
    ],
)
def test_faults_are_one_paragraph_with_exit_code_2(monkeypatch, capsys, adapted, photos, arguments, wanted):
    filled = [text.format(photos=photos, family=adapted[0]) for text in arguments]
    code, printed = said(monkeypatch, capsys, *filled)
    assert (code, "Traceback" in printed) == (2, False)
    assert wanted in printed


def test_latency_without_a_profile_names_the_command_that_makes_one(tmp_path, monkeypatch, capsys):
    folder = family().save(tmp_path / "f")
    code, printed = said(monkeypatch, capsys, "choose", folder, "--latency-ms", "5")
    assert (code, f"eavit profile {folder}" in printed) == (2, True)


def test_a_profile_of_another_machine_must_be_named(tmp_path, simulated, monkeypatch, capsys):
    folder = family().save(tmp_path / "f")
    assert run("profile", folder, "--seconds", "1")[0] == 0
    path = folder / "profile-torch-t1-b1.json"
    values = read_json(path, "")
    write_json(path, values | {"machine": values["machine"] | {"processor": "another"}})
    code, printed = said(monkeypatch, capsys, "choose", folder, "--latency-ms", "50")
    assert (code, "another machine" in printed) == (2, True)
    code, printed = run("choose", folder, "--latency-ms", "50", "--profile", path)
    assert code == 0
    assert "another machine" in printed


def test_a_profile_of_another_family_is_refused(adapted, tmp_path, simulated, monkeypatch, capsys):
    folder = family().save(tmp_path / "f")
    assert run("profile", folder, "--seconds", "1")[0] == 0
    code, printed = said(
        monkeypatch, capsys, "choose", adapted[0], "--latency-ms", "5", "--profile", folder / "profile-torch-t1-b1.json"
    )
    assert (code, "another backbone" in printed) == (2, True)


def test_data_of_other_classes_is_refused(adapted, tmp_path, photos, monkeypatch, capsys):
    target = tmp_path / "x"
    run("export", adapted[0], "--budget", "1", "--format", "torch", "--out", target)
    for name in "abc":
        (tmp_path / "three" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (9, 9), 50 * i).save(tmp_path / "three" / name / f"{i}.png")
    code, printed = said(monkeypatch, capsys, "verify", target, "--data", tmp_path / "three")
    assert (code, "has 3 classes, the exported model 2" in printed) == (2, True)


def test_what_cannot_be_saved_is_refused_before_any_training(photos, tmp_path, monkeypatch, capsys):
    from eavit.commands import adapt_command

    monkeypatch.setattr(adapt_command, "adapt", lambda *_, **__: pytest.fail("training began"))
    (tmp_path / "file").write_text("mine")
    code, printed = said(monkeypatch, capsys, "adapt", photos, "--out", tmp_path / "file", *QUICK)
    assert (code, "file" in printed) == (2, True)


def test_other_backbones_are_timms(monkeypatch):
    from eavit.commands.arguments import pretrained_backbone

    asked = []
    monkeypatch.setattr(weights, "timm_vit", lambda *a, **k: asked.append((a, k)) or plain())
    pretrained_backbone("vit_small_patch14_dinov2.lvd142m", 7, 98)
    pretrained_backbone("vit_tiny_patch16_224", 3, None)
    assert asked == [((7, "vit_small_patch14_dinov2.lvd142m"), {"img_size": 98}), ((3, "vit_tiny_patch16_224"), {})]


def test_an_interrupt_is_counted_as_shells_do(monkeypatch, capsys):
    monkeypatch.setattr(program, "main", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    code, printed = said(monkeypatch, capsys, "adapt")
    assert (code, "--workdir" in printed) == (130, True)
