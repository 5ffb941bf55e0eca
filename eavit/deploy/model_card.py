"""Model card of an export: what it is, how to load each form, its accuracy among the other members of the family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eavit.deploy.elastic import ElasticModel
from eavit.deploy.forms import table_of_forms
from eavit.deploy.limits import Limits
from eavit.model.submodel import Submodel

USES = {
    "safetensors": 'timm.create_model("local-dir:FOLDER", pretrained=True)  # after import eavit, if layers differ',
    "torch": "python model.py PICTURES  # or, in Python: model.load_model(), model.preprocessing()",
    "onnx": 'onnxruntime.InferenceSession("model.onnx").run(None, {"images": batch})',
    "onnx_fp16": "as onnx, with model-fp16.onnx; images and logits stay float32",
    "onnx_int8": "as onnx, with model-int8.onnx; images and logits stay float32",
    "pt2": 'torch.export.load("model.pt2").module()(batch)',
}


def model_card(
    elastic: ElasticModel,
    submodel: Submodel,
    formats: Sequence[str],
    preprocessing: Mapping[str, Any],
    forms: Mapping[str, Any] | None = None,
    plot: str | None = None,
) -> str:
    """Text of a ``README.md`` in the form that model hubs read: a front matter, then the card. ``forms``: as
    :func:`eavit.deploy.forms.measure_forms` measured them. ``plot``: file of accuracy over MACs beside the card.
    """
    record = elastic.table
    source = record.source.get("architecture", "a ViT")
    head = ["---", "library_name: timm", "tags: [image-classification, timm, eavit]"]
    head += [f"license: {record.source['license']}"] if record.source.get("license") else []
    lines = [*head, "---", "", f"# {submodel}", ""]
    lines += [
        f"A submodel of `{source}`, adapted with `{record.method.get('method', 'eavit')}` and cut to these widths.",
        f"Accuracy was measured on {record.validation.images} validation images, which also served the choice of the "
        "members: on new images expect slightly less.",
        *_limits_of(record.method),
        "",
        *([f"![accuracy of the family's members over their MACs]({plot})", ""] if plot else []),
        "| submodel | part of full MACs | parameters | accuracy | 95 % interval |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in elastic.rows():
        name = f"**{row['submodel']}**" if row["submodel"] == str(submodel) else row["submodel"]
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        lines.append(f"| {name} | {row['budget']:.2f} | {int(row['params']):,} | {row['accuracy']:.1%} | {interval} |")
    if forms is not None:
        lines += ["", f"On {forms['n']} images, one at a time with {forms['threads']} threads for the latency:", ""]
        lines += ["| form | MiB | accuracy | ms |", "|---|---:|---:|---:|"]
        lines += [f"| {' | '.join(row)} |" for row in table_of_forms(forms)]
    lines += ["", "## Use", ""]
    lines += [f"- `{name}`: `{USES[name]}`" for name in formats]
    lines += ["", "## Preprocessing", ""]
    lines += [f"- {name}: {value}" for name, value in preprocessing.items() if name != "classes"]
    if record.classes:
        lines += ["", f"Classes: {', '.join(record.classes)}"]
    if not record.source.get("license"):
        lines += ["", "The licence of the pretrained weights is not recorded: look it up before you share this model."]
    return "\n".join(lines) + "\n"


def _limits_of(method: Mapping[str, Any]) -> list[str]:
    """Lines on the limits that members were made for."""
    made = [f"`{Limits.of(row['limits'])}`" for row in method.get("within", ())]
    device = method.get("profile", {}).get("machine", {}).get("processor")
    return [f"Members were made for {', '.join(made)}{f' on {device}' if device else ''}."] if made else []
