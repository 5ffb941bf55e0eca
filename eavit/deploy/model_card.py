"""Model card of an export: what it is, how to load each form, its accuracy among the other members of the family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eavit.deploy.elastic import ElasticModel
from eavit.model.submodel import Submodel

USES = {
    "safetensors": 'timm.create_model("local-dir:FOLDER", pretrained=True)  # after `import eavit` if layers differ',
    "torch": "python model.py PICTURES  # or, in Python: model.load_model(), model.preprocessing()",
    "onnx": 'onnxruntime.InferenceSession("model.onnx").run(None, {"images": batch})',
    "pt2": 'torch.export.load("model.pt2").module()(batch)',
}


def model_card(
    elastic: ElasticModel, submodel: Submodel, formats: Sequence[str], preprocessing: Mapping[str, Any]
) -> str:
    """Text of a ``README.md`` in the form that model hubs read: a front matter, then the card."""
    record = elastic.table
    source = record.source.get("architecture", "a ViT")
    head = ["---", "library_name: timm", "tags: [image-classification, timm, eavit]"]
    head += [f"license: {record.source['license']}"] if record.source.get("license") else []
    lines = [*head, "---", "", f"# {submodel}", ""]
    lines += [
        f"A submodel of `{source}`, adapted with `{record.method.get('method', 'eavit')}` and cut to these widths.",
        f"Accuracy was measured on {record.validation.images} validation images, which also served the choice of the "
        "members: on new images expect slightly less.",
        "",
        "| submodel | part of full MACs | parameters | accuracy | 95 % interval |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in elastic.rows():
        name = f"**{row['submodel']}**" if row["submodel"] == str(submodel) else row["submodel"]
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        lines.append(f"| {name} | {row['budget']:.2f} | {int(row['params']):,} | {row['accuracy']:.1%} | {interval} |")
    lines += ["", "## Use", ""]
    lines += [f"- `{name}`: `{USES[name]}`" for name in formats]
    lines += ["", "## Preprocessing", ""]
    lines += [f"- {name}: {value}" for name, value in preprocessing.items() if name != "classes"]
    if record.classes:
        lines += ["", f"Classes: {', '.join(record.classes)}"]
    if not record.source.get("license"):
        lines += ["", "The licence of the pretrained weights is not recorded: look it up before you share this model."]
    return "\n".join(lines) + "\n"
