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
from eavit.deploy.forms import ONNX, REDUCED
from eavit.deploy.members import image_digest
from eavit.deploy.timm_entry import ENTRY
from eavit.extras import needed

TIMEOUT = 600  # seconds of one form
BATCH = 32
ROUNDING = 0.01
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
SESSION = (
    'import onnxruntime; session = onnxruntime.InferenceSession(folder + "/{file}", '
    'providers=["CPUExecutionProvider"])\n'
    'run = lambda batch: torch.from_numpy(session.run(None, {{"images": batch.numpy()}})[0])'
)
LOADERS = {  # of each form: what makes ``run``, images to logits
    "safetensors": TIMM,
    "torch": "sys.path.insert(0, folder); import model; run = model.load_model()",
    **{form: SESSION.format(file=file) for form, file in ONNX.items()},
    "pt2": 'run = torch.export.load(folder + "/model.pt2").module()',
}


class VerifyError(ValueError):
    """An export that is damaged or incomplete."""


@dataclass(frozen=True, slots=True)
class FormCheck:
    """Result of one form: images whose class agrees with the reference, the largest difference of logits, accuracy.

    A form of float32 passes if all classes agree and, on the images of the record, so many are right. One of reduced
    precision may differ from float32: it passes on the images of its own record if so many are right within rounding
    (:data:`ROUNDING` of them, as processors round differently), on others if it runs.
    """

    form: str
    agree: int
    n: int
    difference: float
    correct: int | None = None
    expected: int | None = None  # correct images that were recorded for these very images
    error: str = ""

    @property
    def passed(self) -> bool:
        if self.form in REDUCED:
            near = self.expected is None or abs((self.correct or 0) - self.expected) <= ROUNDING * self.n
            return not self.error and near
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


def verify_export(folder: str | Path, images: Iterable[tuple[Tensor, Tensor]]) -> list[FormCheck]:
    """Run every form of an export on (images, labels) batches and compare with the weights as this library builds them.

    Where the images are those that the family was measured on, the accuracy of float32 forms must be the recorded one
    to the image. Forms that must run without this library run where it cannot be imported.
    """
    folder = Path(folder).resolve()
    record = read_export(folder)
    pairs = list(images)
    if not pairs:
        raise VerifyError("no image to compare predictions on")
    pictures, labels = (torch.cat(side) for side in zip(*pairs, strict=True))
    reference = _reference(folder, record, pictures)
    sha256 = image_digest(pairs)
    checks = []
    with tempfile.TemporaryDirectory() as scratch:
        save_file({"images": pictures.contiguous()}, Path(scratch) / "images.safetensors")
        for form in record["formats"]:
            logits = _run(form, folder, Path(scratch))
            checks.append(_compared(form, logits, reference, labels, recorded_correct(record, form, sha256)))
    return checks


def recorded_correct(record: Mapping[str, Any], form: str, sha256: str) -> int | None:
    """Correct images that an export's record has of a form, if it has them of these very images."""
    if form in REDUCED:
        forms = record.get("precisions")
        return forms["rows"][form]["correct"] if forms is not None and forms["sha256"] == sha256 else None
    result = record["result"]
    return result["correct"] if result is not None and record["validation"]["sha256"] == sha256 else None


@torch.no_grad()
def _reference(folder: Path, record: Mapping[str, Any], pictures: Tensor) -> Tensor:
    vit = build_submodel(record["backbone"], record["submodel"])
    vit.load_state_dict(load_file(folder / WEIGHTS_FILE))
    return torch.cat([vit(batch) for batch in pictures.split(BATCH)])


def _run(form: str, folder: Path, scratch: Path) -> Tensor | str:
    """Logits of a form in a fresh process, or why there are none."""
    if form in ONNX:
        needed("onnxruntime", "export", f"format {form}")
    ours = form == "safetensors" and not _is_plain(folder)
    code = ("import sys\nimport eavit\n" if ours else ALONE) + BODY.format(load=LOADERS[form])
    target = scratch / f"{form}.safetensors"
    size = BATCH if form not in ONNX else BATCH - 1  # another batch size than the one that was traced, and than others
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
    return f'"architecture": "{ENTRY}"' not in (folder / "config.json").read_text(encoding="utf-8")


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
