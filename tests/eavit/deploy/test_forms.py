"""Every precision is measured on the same images, in the record, the card and the table; bad input is refused."""

import sys

import pytest
from torch.utils.data import DataLoader, IterableDataset

from eavit.deploy import forms
from eavit.deploy.export import export
from eavit.deploy.forms import REDUCED, table_of_forms
from eavit.deploy.members import image_digest
from eavit.deploy.verify import read_export, verify_export
from eavit.extras import MissingExtraError
from tests.eavit.families import KEYS, family, loader


@pytest.fixture
def measured(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(forms, "SECONDS", 0.2)
    return export(family(), tmp_path / "x", KEYS[1], formats=["onnx", *REDUCED], val=loader(60, 25))


def test_batches_of_unknown_number_are_measured_on(tmp_path, monkeypatch):
    class Stream(IterableDataset):
        def __iter__(self):
            return zip(*loader(60, 25).dataset.tensors, strict=True)

    monkeypatch.setattr(forms, "SECONDS", 0.1)
    folder = export(family(), tmp_path / "x", KEYS[1], formats=["torch"], val=DataLoader(Stream(), 25))
    assert read_export(folder)["precisions"]["n"] == 60


def test_precisions_share_one_table(measured):
    record = read_export(measured)
    table, (images, labels) = record["precisions"], loader(60, 60).dataset.tensors
    rows = table["rows"]
    assert list(rows) == ["torch", "onnx", *REDUCED]
    assert (table["n"], table["sha256"]) == (60, image_digest([(images, labels)]))
    right = int((family().extract(KEYS[1])(images).argmax(1) == labels).sum())
    assert rows["torch"]["correct"] == rows["onnx"]["correct"] == right
    assert all(abs(rows[form]["correct"] - right) <= 6 and rows[form]["latency_ms"] > 0 for form in REDUCED)
    card = (measured / "README.md").read_text()
    assert all(f"| {' | '.join(row)} |" in card for row in table_of_forms(table))
    checks = {check.form: check for check in verify_export(measured, loader(60, 60))}
    assert all(checks[form].expected == rows[form]["correct"] and checks[form].passed for form in REDUCED)


def test_without_the_runtime_reduced_precision_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for form in REDUCED:
        with pytest.raises(MissingExtraError, match=rf"format {form} needs the package onnxruntime"):
            export(family(), tmp_path / "x", KEYS[0], formats=[form])
    assert list(tmp_path.iterdir()) == []
