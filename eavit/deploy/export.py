"""Export of one submodel: files that run without this library, with their preprocessing, sizes and checksums."""

from __future__ import annotations

import inspect
import json
import logging
import pprint
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from eavit.deploy import standalone
from eavit.deploy.architecture import EPS, CannotRebuildError, arguments_of, rebuilt
from eavit.deploy.artifact import commit, plain_values
from eavit.deploy.elastic import ElasticModel, MeasuredMember, Timed
from eavit.deploy.files import sha256_of, write_json, write_text
from eavit.deploy.forms import ONNX, REDUCED, measure_forms, write_reduced
from eavit.deploy.limits import Limits
from eavit.deploy.model_card import model_card
from eavit.deploy.plots import save_family_plot
from eavit.deploy.timm_entry import architecture_of
from eavit.extras import needed
from eavit.model.submodel import Submodel
from eavit.options import allowed

FORMAT, FORMAT_VERSION = "eavit export", 1
EXPORT_FILE = "export.json"
WEIGHTS_FILE = "model.safetensors"
PREPROCESSING_FILE = "preprocessing.json"
CARD_FILE = "README.md"
PLOT_FILE = "family.png"
RARE = frozenset({"class", "mlp_layer", "scale_attn_norm", "scale_mlp_norm"})  # arguments that few backbones have
EXAMPLES = 2  # images of the batch that is traced
OPSET = 20


@dataclass(frozen=True, slots=True)
class Exported:
    """Model to be exported, and everything that its files say of it."""

    model: VisionTransformer
    submodel: Submodel
    arguments: Mapping[str, Any]  # of the backbone
    member: MeasuredMember | None
    elastic: ElasticModel

    @property
    def images(self) -> Tensor:
        """A batch of zeros of the model's size."""
        return torch.zeros(EXAMPLES, self.arguments["in_chans"], *self.arguments["img_size"])

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Preprocessing by timm's names, and the classes."""
        record = self.elastic.table
        return {**plain_values(record.data), "classes": list(record.classes)}

    @property
    def spec(self) -> dict[str, Any]:
        """Specification of :mod:`.standalone`."""
        own = {k: v for k, v in self.arguments.items() if k not in ("depth", "num_heads", "norm_eps", "mlp_ratio")}
        b, record = self.elastic.backbone, self.elastic.table
        return {
            "submodel": str(self.submodel),
            "arguments": own | {"embed_dim": self.submodel.embed},
            "heads": list(self.submodel.heads),
            "mlp": list(self.submodel.mlp),
            "head_dim": b.head_dim,
            "norm_eps": self.arguments["norm_eps"],
            "data": {k: tuple(v) if isinstance(v, list) else v for k, v in record.data.items()},
            "classes": list(record.classes),
        }


def plain_arguments(exported: Exported) -> dict[str, Any] | None:
    """Arguments by which plain timm builds the submodel; None where it cannot."""
    s, head_dim = exported.submodel, exported.elastic.backbone.head_dim
    if RARE & exported.arguments.keys():
        return None
    uniform = len(set(s.heads)) == len(set(s.mlp)) == 1 and s.heads[0] and s.mlp[0]
    if not uniform or s.heads[0] * head_dim != s.embed or exported.arguments["norm_eps"] != EPS:
        return None
    own = arguments_of(exported.model)
    del own["norm_eps"], own["num_classes"]
    return own


def _write_weights(exported: Exported, folder: Path) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in exported.model.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE, {"format": "pt", "submodel": str(exported.submodel)})


def write_safetensors(exported: Exported, folder: Path) -> list[str]:
    """Weights and the ``config.json`` from which ``timm.create_model("local-dir:...", pretrained=True)`` loads them."""
    record = exported.elastic.table
    entry = architecture_of(dict(exported.arguments), str(exported.submodel), plain_arguments(exported))
    kept = ("license", "origin_url", "paper_name", "paper_ids", "architecture", "tag")
    source = {key: record.source[key] for key in kept if record.source.get(key)}
    classes = exported.arguments["num_classes"]
    layout = {"first_conv": "patch_embed.proj", "classifier": "head", "fixed_input_size": True, "num_classes": classes}
    config: dict[str, Any] = {
        **entry,
        "num_classes": classes,
        "num_features": exported.submodel.embed,
        "global_pool": exported.arguments["global_pool"],
        "pretrained_cfg": {**plain_values(record.data), **layout, **source},
    }
    if record.classes:
        config["label_names"] = list(record.classes)
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return [WEIGHTS_FILE, "config.json"]


def write_torch(exported: Exported, folder: Path) -> list[str]:
    """Weights and a ``model.py`` that needs torch, timm and safetensors alone: ``model.load_model()``."""
    if rare := {name: exported.arguments[name] for name in sorted(RARE & exported.arguments.keys())}:
        raise CannotRebuildError(
            f"format 'torch': model.py builds a VisionTransformer with plain MLPs alone, not one with {rare}; export "
            "it in another format"
        )
    title = f'"""A ViT of {exported.submodel}: load_model() and preprocessing(), or: python model.py PICTURES."""\n'
    source = inspect.getsource(standalone)
    body = source.split('"""\n', 1)[1]
    spec = pprint.pformat(exported.spec, width=110, sort_dicts=False)
    write_text(folder / "model.py", title + body.replace("= {}\n", f"= {spec}\n", 1))
    return [WEIGHTS_FILE, "model.py"]


def write_onnx(exported: Exported, folder: Path) -> list[str]:
    """An ONNX file for any batch size: ``images`` to ``logits``; preprocessing and classes in its metadata."""
    onnx = needed("onnx", "export", "format onnx")
    proto = onnx_program(exported.model, exported.images, any_batch=True)
    notes = {"submodel": str(exported.submodel), "preprocessing": json.dumps(exported.preprocessing)}
    onnx.helper.set_model_props(proto, notes)
    onnx.save(proto, folder / ONNX["onnx"])
    return [ONNX["onnx"]]


def onnx_program(model: VisionTransformer, images: Tensor, *, any_batch: bool = False) -> Any:
    """A model as an ONNX protocol buffer, for the batch size of the images or for any."""
    needed("onnx", "export", "format onnx")
    needed("onnxscript", "export", "format onnx")
    with _quiet():
        program: Any = torch.onnx.export(
            model,
            (images,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},) if any_batch else None,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return program.model_proto


def write_pt2(exported: Exported, folder: Path) -> list[str]:
    """A program of ``torch.export`` for any batch size: ``torch.export.load("model.pt2").module()(images)``."""
    with _quiet():
        program = torch.export.export(
            exported.model, (exported.images,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(
            program, folder / "model.pt2", extra_files={PREPROCESSING_FILE: json.dumps(exported.preprocessing)}
        )
    return ["model.pt2"]


def write_fp16(exported: Exported, folder: Path) -> list[str]:
    """An ONNX file with float16 weights, which converts images and logits itself."""
    return _write_reduced(exported, folder, "onnx_fp16")


def write_int8(exported: Exported, folder: Path) -> list[str]:
    """An ONNX file with int8 weights, quantised by onnxruntime; activations are quantised as they come."""
    return _write_reduced(exported, folder, "onnx_int8")


def _write_reduced(exported: Exported, folder: Path, form: str) -> list[str]:
    needed("onnxruntime", "export", f"format {form}")
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        source = folder / ONNX["onnx"]
        if not source.is_file():
            source = Path(scratch) / write_onnx(exported, Path(scratch))[0]
        write_reduced(source, form, folder / REDUCED[form])
    return [REDUCED[form]]


Writer = Callable[[Exported, Path], list[str]]
FORMATS: dict[str, Writer] = {
    "safetensors": write_safetensors,
    "torch": write_torch,
    "onnx": write_onnx,
    "onnx_fp16": write_fp16,
    "onnx_int8": write_int8,
    "pt2": write_pt2,
}


def export(
    elastic: ElasticModel,
    folder: str | Path,
    submodel: Submodel | str | None = None,
    *,
    formats: Sequence[str] = ("safetensors", "torch"),
    profile: Timed | None = None,
    val: Iterable[tuple[Tensor, Tensor]] | None = None,
    **limits: float,
) -> Path:
    """Write one submodel to a folder: a given one, or the choice under limits (as :meth:`ElasticModel.choose`).

    ``formats``: safetensors (with a config for timm), torch (a ``model.py`` of its own), onnx, onnx_fp16, onnx_int8,
    pt2. All come with the weights, ``preprocessing.json`` and ``export.json``: accuracy, sizes, checksums. ``val``:
    batches of images and labels, on which accuracy and latency of each precision are measured and recorded. An older
    export in the folder is replaced once the new one is whole; a folder with anything else in it is refused.
    """
    folder, formats = Path(folder), list(dict.fromkeys(formats))
    for name in formats:
        allowed("format", name, FORMATS)
    formats.sort(key=list(FORMATS).index)  # the float32 ONNX file serves those of reduced precision
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / EXPORT_FILE).exists())):
        raise FileExistsError(f"{folder} is there and is no earlier export; give a new folder")
    exported = _chosen(elastic, submodel, profile, limits)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as draft:
        whole = Path(draft) / "export"
        whole.mkdir()
        batches = [] if val is None else list(val)
        _write_all(exported, whole, formats, Limits.of(limits) if limits else None, profile, batches)
        if folder.exists():
            folder.rename(Path(draft) / "older")
        whole.rename(folder)
    return folder


def _chosen(
    elastic: ElasticModel, submodel: Submodel | str | None, profile: Timed | None, limits: Mapping[str, float]
) -> Exported:
    if submodel is not None and limits:
        raise ValueError(f"export takes a submodel or limits, not both: {submodel} and {Limits.of(limits)}")
    key = elastic.choose(profile=profile, **limits) if submodel is None else elastic.backbone.check(submodel)
    member = next((m for m in elastic.members if m.submodel == key), None)
    return Exported(elastic.extract(key).cpu(), key, rebuilt(elastic.vit), member, elastic)


def _write_all(
    exported: Exported,
    folder: Path,
    formats: Sequence[str],
    limits: Limits | None,
    profile: Timed | None,
    val: Sequence[tuple[Tensor, Tensor]],
) -> None:
    write_text(folder / PREPROCESSING_FILE, json.dumps(exported.preprocessing, indent=1) + "\n")
    _write_weights(exported, folder)
    files = {name: FORMATS[name](exported, folder) for name in formats}
    forms = measure_forms(folder, formats, exported.model, val) if val else None
    plot = save_family_plot(exported.elastic, exported.submodel, folder / PLOT_FILE)
    card = model_card(
        *(exported.elastic, exported.submodel, list(files), exported.preprocessing, forms), plot.name if plot else None
    )
    write_text(folder / CARD_FILE, card)
    others = {CARD_FILE, PREPROCESSING_FILE, WEIGHTS_FILE, *([PLOT_FILE] if plot else [])}
    names = sorted(others.union(*files.values()))
    record, member = exported.elastic.table, exported.member
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "commit": commit(),
        "submodel": str(exported.submodel),
        "limits": {} if limits is None else limits.asked,
        "sizes": exported.elastic.sizes(exported.submodel, profile),
        "result": None if member is None else {"correct": member.correct, "n": member.n},
        "validation": {"images": record.validation.images, "sha256": record.validation.sha256},
        "backbone": dict(exported.arguments),
        "preprocessing": exported.preprocessing,
        "licence": record.source.get("license"),
        "formats": files,
        "precisions": forms,
        "files": {name: _entry(folder / name) for name in names},
    }
    write_json(folder / EXPORT_FILE, values)


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence about what exporters do by the way."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
