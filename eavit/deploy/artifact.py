"""Folder of an adapted family: the full nested weights once as safetensors, everything else in one JSON manifest.

The manifest names its file of weights by content and is replaced last, as a whole: whatever fails before, the older
family stays readable. No pickle.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from eavit.deploy.architecture import CannotRebuildError, build_vit, rebuilt
from eavit.deploy.elastic import ElasticModel, FamilyRecord, MeasuredMember, Validation
from eavit.deploy.files import check_version, read_json, sha256_of, write_json
from eavit.model import cost
from eavit.model.calibration import STATISTICS, attach_statistics, statistics_of
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract
from eavit.training.checkpoint import CheckpointError, load_tensors, save_tensors

FORMAT, FORMAT_VERSION = "eavit family", 1
MANIFEST = "manifest.json"
# Names of tensors: shared.<name>, by_size/<submodel>/<name>, and of calibrated families folded/<submodel>/<name>: the
# biases and norms of a member as it is extracted, which depend on weights that it does not have.
SHARED, BY_SIZE, FOLDED = "shared.", "by_size/", "folded/"
PACKAGES = ("eavit-bench", "torch", "timm", "safetensors")


class ArtifactError(ValueError):
    """A folder that is no family this library can load: damaged, changed, incomplete or too new."""


def save_family(elastic: ElasticModel, folder: str | Path) -> Path:
    """Write a family to a folder, in place of an older one; an older one stays if anything fails."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder to save the family in")
    arguments = rebuilt(elastic.vit)
    folder.mkdir(parents=True, exist_ok=True)
    weights = _save_weights(elastic, folder)
    write_json(folder / MANIFEST, _manifest(elastic, arguments, weights))
    for old in folder.glob("weights-*.safetensors"):
        if old != weights:
            old.unlink()
    return folder


def _save_weights(elastic: ElasticModel, folder: Path) -> Path:
    tensors = {SHARED + name: value for name, value in elastic.vit.state_dict().items()}
    for submodel, own in elastic.by_size.items():
        tensors |= {f"{BY_SIZE}{submodel}/{name}": value for name, value in own.items()}
    for member in elastic.members if statistics_of(elastic.vit) else ():
        plain = extract(elastic.vit, member.submodel).state_dict()
        tensors |= {f"{FOLDED}{member.submodel}/{name}": value for name, value in plain.items() if value.ndim == 1}
    draft = folder / "weights.safetensors.new"
    try:
        save_tensors(draft, tensors, {"format": FORMAT})
        return draft.rename(folder / f"weights-{sha256_of(draft)[:16]}.safetensors")
    finally:
        draft.unlink(missing_ok=True)


def _manifest(elastic: ElasticModel, arguments: Mapping[str, Any], weights: Path) -> dict[str, Any]:
    table, b = elastic.table, elastic.backbone
    members = [
        {
            "submodel": str(m.submodel),
            "macs": cost.macs(b, m.submodel),
            "params": cost.params(b, m.submodel),
            "correct": m.correct,
            "n": m.n,
            "interval": [round(end, 6) for end in m.interval],
        }
        for m in table.members
    ]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: installed_version(name) for name in PACKAGES},
        "commit": commit(),
        "weights": {"file": weights.name, "sha256": sha256_of(weights), "bytes": weights.stat().st_size},
        "backbone": {"arguments": dict(arguments), "source": plain_values(table.source)},
        "licence": table.source.get("license"),
        "method": plain_values(table.method),
        "order": "channels, heads and neurons sorted by importance; a submodel keeps the first ones",
        "space": table.space,
        "router": table.router,
        "policy": members,
        "budgets": [[budget, key] for budget, key in table.budgets.items()],
        "by_size": {str(submodel): sorted(own) for submodel, own in elastic.by_size.items()},
        "validation": {
            "images": table.validation.images,
            "sha256": table.validation.sha256,
            "role": table.validation.role,
        },
        "data": plain_values(table.data),
        "classes": list(table.classes),
    }


def installed_version(name: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of this library's source, if it runs from a clone of its repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def plain_values(values: Any) -> Any:
    """The same values as JSON can hold them; what it cannot hold is left out."""
    if isinstance(values, Mapping):
        return {str(k): plain_values(v) for k, v in values.items() if _is_plain(v)}
    if isinstance(values, (list, tuple)):
        return [plain_values(v) for v in values if _is_plain(v)]
    return values


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, list, tuple, Mapping))


def load_family(folder: str | Path) -> ElasticModel:
    """The family that :func:`save_family` wrote: the same choices, logits and record. ArtifactError if a byte of it
    changed.
    """
    with artifact_errors(Path(folder)):
        manifest = read_manifest(Path(folder))
        return _family(manifest, _load_weights(Path(folder), manifest["weights"]))


@contextmanager
def artifact_errors(folder: Path) -> Iterator[None]:
    """Turn what a damaged or incomplete folder raises into ArtifactError."""
    try:
        yield
    except KeyError as error:
        raise ArtifactError(f"{folder / MANIFEST}: {error.args[0]}: missing") from error
    except (ArtifactError, CannotRebuildError):
        raise
    except ValueError as error:
        raise ArtifactError(str(error)) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Manifest of a family; ArtifactError if there is none, ValueError if it is damaged or too new."""
    if not (folder / MANIFEST).is_file():
        what = "has no manifest.json" if folder.is_dir() else "is no folder"
        raise ArtifactError(f"{folder} {what}; give a folder that eavit.adapt(...).save(folder) wrote")
    manifest = read_json(folder / MANIFEST, FORMAT)
    check_version(folder / MANIFEST, manifest, FORMAT, FORMAT_VERSION)
    return manifest


def weights_file(folder: Path, entry: Mapping[str, Any]) -> Path:
    """File of a manifest's weights; ArtifactError if it is missing or has another size."""
    path = folder / str(entry["file"])
    if not path.is_file():
        raise ArtifactError(f"{path}: missing; copy the whole folder again")
    if path.stat().st_size != entry["bytes"]:
        raise ArtifactError(f"{path}: changed or damaged: its size does not match; copy the folder again")
    return path


def _load_weights(folder: Path, entry: Mapping[str, Any]) -> dict[str, Tensor]:
    path = weights_file(folder, entry)
    if sha256_of(path) != entry["sha256"]:
        raise ArtifactError(f"{path}: changed or damaged: its SHA-256 does not match; copy the folder again")
    try:
        return load_tensors(path)[0]
    except CheckpointError as error:
        raise ArtifactError(f"{folder}: {error}") from error


def _family(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ElasticModel:
    plain: Any = build_vit(manifest["backbone"]["arguments"])
    plain.pretrained_cfg = dict(manifest["backbone"]["source"])
    shared = {name.removeprefix(SHARED): value for name, value in tensors.items() if name.startswith(SHARED)}
    statistics = {name: shared.pop(name) for name in list(shared) if name.endswith(STATISTICS)}
    plain.to(next(iter(shared.values())).dtype).load_state_dict(shared)
    vit = NestedViT.from_timm(plain)
    attach_statistics(vit, statistics)
    return ElasticModel(vit, family_record(manifest), _by_size(tensors))


def family_record(manifest: Mapping[str, Any]) -> FamilyRecord:
    """The record of a family beside its weights."""
    members = tuple(MeasuredMember(Submodel.parse(m["submodel"]), m["correct"], m["n"]) for m in manifest["policy"])
    return FamilyRecord(
        members=members,
        budgets={float(budget): key for budget, key in manifest["budgets"]},
        validation=Validation(**manifest["validation"]),
        data=manifest["data"],
        classes=tuple(manifest["classes"]),
        method=manifest["method"],
        source=manifest["backbone"]["source"],
        space=manifest["space"],
        router=manifest["router"],
    )


def _by_size(tensors: Mapping[str, Tensor]) -> dict[Submodel, dict[str, Tensor]]:
    own: dict[Submodel, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(BY_SIZE):
            key, _, parameter = name.removeprefix(BY_SIZE).partition("/")
            own.setdefault(Submodel.parse(key), {})[parameter] = value
    return own
