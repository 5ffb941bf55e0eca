"""Verification runs what a user would run, and sees every damage."""

from dataclasses import replace

import pytest

from eavit.deploy import verify as module
from eavit.deploy.elastic import MeasuredMember, Validation
from eavit.deploy.export import FORMATS, export
from eavit.deploy.files import read_json, sha256_of, write_json
from eavit.deploy.forms import REDUCED
from eavit.deploy.members import image_digest
from eavit.deploy.verify import FormCheck, VerifyError, read_export, recorded_correct, verify_export
from tests.eavit.families import KEYS, family, loader


@pytest.fixture(scope="module")
def every_form(tmp_path_factory):
    return export(family(), tmp_path_factory.mktemp("exports") / "x", KEYS[1], formats=list(FORMATS))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "model.py", "preprocessing.json"])
def test_a_changed_or_missing_file_of_an_export_is_named(tmp_path, name):
    folder = export(family(), tmp_path / "x", KEYS[0])
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(VerifyError, match=rf"{name}: changed or damaged"):
        read_export(folder)
    (folder / name).unlink()
    with pytest.raises(VerifyError, match=rf"{name}: missing"):
        read_export(folder)


def test_all_forms_agree_on_every_image(every_form):
    pytest.importorskip("onnxruntime")
    checks = verify_export(every_form, loader(40, 16))
    assert [check.form for check in checks] == list(FORMATS)
    assert all(check.passed and check.n == 40 for check in checks), checks
    exact = [check for check in checks if check.form not in REDUCED]
    assert all(check.agree == 40 and check.difference < 1e-5 for check in exact)
    assert all(1e-5 < check.difference < 0.2 for check in checks if check.form in REDUCED)


def test_a_form_with_other_weights_is_seen(tmp_path):
    """A consistent export whose model.py was edited: the checksums fit, the predictions do not."""
    folder = export(family(), tmp_path / "x", KEYS[1])
    code = (folder / "model.py").read_text()
    (folder / "model.py").write_text(code.replace("return vit\n", "vit.head.bias.data[1] += 9\n    return vit\n", 1))
    record = read_json(folder / "export.json", "")
    path = folder / "model.py"
    record["files"]["model.py"] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    write_json(folder / "export.json", record)
    timm_form, torch_form = verify_export(folder, loader(20))
    assert timm_form.passed
    assert not torch_form.passed
    assert torch_form.agree < 20


def test_a_form_that_needs_this_library_where_it_must_not_fails(tmp_path):
    folder = export(family(), tmp_path / "x", KEYS[0], formats=["torch"])
    path = folder / "model.py"
    path.write_text("import eavit\n" + path.read_text().replace("from __future__ import annotations\n", ""))
    record = read_json(folder / "export.json", "")
    record["files"]["model.py"] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    write_json(folder / "export.json", record)
    (check,) = verify_export(folder, loader(20))
    assert not check.passed
    assert "must not be needed here" in check.error


def test_recorded_accuracy_must_hold_to_the_image_on_the_same_images(tmp_path):
    elastic = family()
    ((images, labels),) = loader(96, 96, seed=1)
    right = int((elastic.extract(KEYS[0])(images).argmax(1) == labels).sum())
    these = image_digest([(images, labels)])
    for recorded, sha256 in ((right, these), (right + 1, these), (right + 1, "1" * 64)):
        members = (MeasuredMember(elastic.backbone.check(KEYS[0]), recorded, 96),)
        elastic.table = replace(elastic.table, members=members, validation=Validation(96, sha256))
        folder = export(elastic, tmp_path / "x", KEYS[0], formats=["torch"])
        (check,) = verify_export(folder, loader(96, 32, seed=1))
        assert (check.correct, check.expected) == (right, recorded if sha256 == these else None)
        assert check.passed == (recorded == right or sha256 != these)


def test_reduced_precision_is_held_against_its_own_record_on_the_same_images_alone():
    record = {
        "result": {"correct": 80},
        "validation": {"sha256": "ab"},
        "precisions": {"sha256": "cd", "rows": {"onnx_int8": {"correct": 77}}},
    }
    assert recorded_correct(record, "onnx", "ab") == 80
    assert recorded_correct(record, "onnx_int8", "cd") == 77
    assert recorded_correct(record, "onnx", "cd") is None
    assert recorded_correct(record, "onnx_int8", "ab") is None
    for correct, passed in ((77, True), (78, True), (75, False)):
        assert FormCheck("onnx_int8", 90, 100, 0.1, correct, 77).passed == passed
        assert not FormCheck("onnx", 90, 100, 0.1, correct, 77).passed
    assert FormCheck("onnx_int8", 90, 100, 0.1, 60, None).passed
    assert not FormCheck("onnx_int8", 0, 100, 0.1, None, None, "no session").passed


def test_no_image_is_refused(every_form):
    with pytest.raises(VerifyError, match="no image"):
        verify_export(every_form, [])


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(VerifyError, match=r"has no export\.json"):
        read_export(tmp_path)


def test_a_newer_export_is_refused(tmp_path):
    folder = export(family(), tmp_path / "x", KEYS[0])
    write_json(folder / "export.json", read_json(folder / "export.json", "") | {"format_version": 9})
    with pytest.raises(VerifyError, match="format_version: 9 is newer than 1"):
        read_export(folder)


def test_a_form_that_hangs_is_given_up(tmp_path, monkeypatch):
    folder = export(family(), tmp_path / "x", KEYS[0], formats=["torch"])
    monkeypatch.setitem(module.LOADERS, "torch", "import time; time.sleep(60)")
    monkeypatch.setattr(module, "TIMEOUT", 1)
    (check,) = verify_export(folder, loader(20))
    assert check.error == "took longer than 1 s"
