"""Accuracy and latency of the exported forms of one submodel on the same images: float32, float16, int8 in one table.

Reduced precision is onnxruntime's: float16 weights, and arithmetic where its kernels have it; dynamic int8, that is
weights quantised once and activations for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eavit.deploy.members import image_digest
from eavit.deploy.timing import time_calls
from eavit.extras import needed
from eavit.model.inputs import pieces_of

REDUCED = {"onnx_fp16": "model-fp16.onnx", "onnx_int8": "model-int8.onnx"}  # forms whose predictions may differ
ONNX = {"onnx": "model.onnx", **REDUCED}
BATCH = 32
SECONDS = 3.0  # of timing, all forms together

Runner = Callable[[Tensor], Tensor]


def onnx_session(model: str | bytes, threads: int) -> Any:
    """A session of onnxruntime on the CPU with so many threads; ``model``: path of an ONNX file, or its content."""
    runtime = needed("onnxruntime", "export", "running an ONNX file")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = threads
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _onnx_runner(path: Path, threads: int) -> Runner:
    session = onnx_session(str(path), threads)
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def write_reduced(source: Path, form: str, target: Path) -> None:
    """Convert a float32 ONNX file; inputs and outputs stay float32."""
    onnx = needed("onnx", "export", f"format {form}")
    if form == "onnx_fp16":
        half = needed("onnxruntime.transformers.float16", "export", f"format {form}")
        onnx.save(half.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    else:
        whole = needed("onnxruntime.quantization", "export", f"format {form}")
        whole.quantize_dynamic(source, target, weight_type=whole.QuantType.QInt8)


@torch.inference_mode()
def measure_forms(
    folder: Path, forms: Sequence[str], model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """Correct images, milliseconds of one image and bytes of each form, with the images' count and SHA-256.

    Forms that run the model itself (safetensors, torch) share one row, ``torch``; all are timed in turn with torch's
    threads.
    """
    threads = torch.get_num_threads()
    runners: dict[str, Runner] = {"torch": model}
    runners |= {form: _onnx_runner(folder / ONNX[form], threads) for form in forms if form in ONNX}
    image = torch.zeros_like(batches[0][0][:1])
    timings = time_calls({form: partial(run, image) for form, run in runners.items()}, SECONDS, threads=threads)
    sizes = {"torch": sum(p.numel() * p.element_size() for p in model.parameters())}
    rows = {
        form: {
            "correct": sum(
                int((run(images).argmax(1) == labels).sum())
                for batch in batches
                for images, labels in pieces_of(*batch, BATCH)
            ),
            "latency_ms": round(timings[form].median_ms, 4),
            "spread": round(timings[form].spread, 3),
            "busy": timings[form].busy,
            "bytes": sizes.get(form) or (folder / ONNX[form]).stat().st_size,
        }
        for form, run in runners.items()
    }
    return {"n": sum(len(y) for _, y in batches), "sha256": image_digest(batches), "threads": threads, "rows": rows}


def table_of_forms(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of text: form, MiB, accuracy, milliseconds with their spread."""
    n = measured["n"]
    return [
        (
            form,
            f"{row['bytes'] / 2**20:.2f}",
            f"{row['correct'] / n:.1%} ({row['correct']} of {n})",
            f"{row['latency_ms']:.3g} ± {row['spread'] / 2:.0%}{' (busy machine)' if row['busy'] else ''}",
        )
        for form, row in measured["rows"].items()
    ]
