"""Check of an export: checksums, and every form run in a fresh process on real images, compared to the last image."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from eavit.deploy.architecture import build_submodel
from eavit.deploy.export import EXPORT_FILE, FORMAT, FORMAT_VERSION, WEIGHTS_FILE
from eavit.deploy.files import check_version, read_json, sha256_of
from eavit.extras import needed

TIMEOUT = 600  # seconds of one form
BATCH = 32
ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("eavit", "harness"):
            raise ImportError(name + " must not be needed here")
sys.meta_path.insert(0, Absent())
"""
BODY = """
import torch
from safetensors.torch import load_file, save_file
folder, source, target, size = sys.argv[1:5]
{load}
batches = load_file(source)["images"].split(int(size))
with torch.no_grad():
    save_file(dict(logits=torch.cat([run(batch) for batch in batches]).contiguous()), target)
"""
TIMM = 'import timm; run = timm.create_model("local-dir:" + folder, pretrained=True).eval()'
LOADERS = {  # of each form: what makes ``run``, images to logits
    "safetensors": TIMM,
    "torch": "sys.path.insert(0, folder); import model; run = model.load_model()",
    "onnx": (
        'import onnxruntime; session = onnxruntime.InferenceSession(folder + "/model.onnx", '
        'providers=["CPUExecutionProvider"])\n'
        'run = lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])'
    ),
    "pt2": 'run = torch.export.load(folder + "/model.pt2").module()',
}


class VerifyError(ValueError):
    """An export that is damaged or incomplete."""


@dataclass(frozen=True, slots=True)
class FormCheck:
    """Result of one form: images whose class agrees with the reference, the largest difference of logits, accuracy."""

    form: str
    agree: int
    n: int
    difference: float
    correct: int | None = None
    expected: int | None = None  # correct images that were recorded for these very images
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and self.agree == self.n and self.expected in (None, self.correct)


def read_export(folder: str | Path) -> dict[str, Any]:
    """The record of an export, after its files were compared with it; VerifyError names a file that differs."""
    folder = Path(folder)
    try:
        record = read_json(folder / EXPORT_FILE, FORMAT)
        check_version(folder / EXPORT_FILE, record, FORMAT, FORMAT_VERSION)
    except FileNotFoundError as error:
        raise VerifyError(f"{folder} has no {EXPORT_FILE}; give a folder that eavit.export wrote") from error
    except ValueError as error:
        raise VerifyError(str(error)) from error
    for name, entry in record["files"].items():
        path = folder / name
        if not path.is_file():
            raise VerifyError(f"{path}: missing; export again")
        if path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            raise VerifyError(f"{path}: changed or damaged: its size or SHA-256 does not match; export again")
    return record


def verify_export(
    folder: str | Path, images: Iterable[tuple[Tensor, Tensor]], sha256: str | None = None
) -> list[FormCheck]:
    """Run every form of an export on (images, labels) batches and compare with the weights as this library builds them.

    ``sha256`` of the images: where they are those that the family was measured on, the accuracy must be the recorded
    one to the image. Forms that must run without this library run where it cannot be imported.
    """
    folder = Path(folder).resolve()
    record = read_export(folder)
    pairs = list(images)
    if not pairs:
        raise VerifyError("no image to compare predictions on")
    pictures, labels = (torch.cat(side) for side in zip(*pairs, strict=True))
    reference = _reference(folder, record, pictures)
    recorded = record["result"]
    same = recorded is not None and sha256 == record["validation"]["sha256"]
    expected = recorded["correct"] if same else None
    checks = []
    with tempfile.TemporaryDirectory() as scratch:
        save_file({"images": pictures.contiguous()}, Path(scratch) / "images.safetensors")
        for form in record["formats"]:
            logits = _run(form, folder, Path(scratch))
            checks.append(_compared(form, logits, reference, labels, expected))
    return checks


@torch.no_grad()
def _reference(folder: Path, record: Mapping[str, Any], pictures: Tensor) -> Tensor:
    vit = build_submodel(record["backbone"], record["submodel"])
    vit.load_state_dict(load_file(folder / WEIGHTS_FILE))
    return torch.cat([vit(batch) for batch in pictures.split(BATCH)])


def _run(form: str, folder: Path, scratch: Path) -> Tensor | str:
    """Logits of a form in a fresh process, or why there are none."""
    if form == "onnx":
        needed("onnxruntime", "export", "format onnx")
    ours = form == "safetensors" and not _is_plain(folder)
    code = ("import sys\nimport eavit\n" if ours else ALONE) + BODY.format(load=LOADERS[form])
    target = scratch / f"{form}.safetensors"
    size = BATCH if form != "onnx" else BATCH - 1  # another batch size than the one that was traced, and than others
    command = [sys.executable, "-c", code, str(folder), str(scratch / "images.safetensors"), str(target), str(size)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"took longer than {TIMEOUT} s"
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    return load_file(target)["logits"]


def _is_plain(folder: Path) -> bool:
    """Return whether timm loads the export without this library."""
    return '"architecture": "eavit_submodel"' not in (folder / "config.json").read_text(encoding="utf-8")


def _compared(form: str, logits: Tensor | str, reference: Tensor, labels: Tensor, expected: int | None) -> FormCheck:
    if isinstance(logits, str):
        return FormCheck(form, 0, len(labels), float("inf"), None, expected, logits)
    classes = logits.argmax(1)
    return FormCheck(
        form,
        int((classes == reference.argmax(1)).sum()),
        len(labels),
        float((logits - reference).abs().max()),
        int((classes == labels).sum()),
        expected,
    )
