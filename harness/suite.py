"""A suite: what is compared with what, as frozen values read from one TOML file. All faults are reported together."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from harness import toml
from harness.messages import choices, nearest
from harness.suite_checks import cross_faults
from harness.tasks import CLASSIFICATION, SCORES_OF, ScoreName, TaskName
from harness.toml import TomlError, key_path, shown, unsupported_values

STRICT = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$", max_length=100)]
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=300)]
IMPORT_STRING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
ImportString = Annotated[str, StringConstraints(pattern=f"^{IMPORT_STRING.pattern}$")]
Count = Annotated[int, Field(ge=1)]
Parallel = Annotated[int, Field(ge=1, le=1024)]  # torch crashes on far larger numbers of threads
Source = Literal["digits", "mnist5k", "fashion_mnist", "glyphs", "shapes", "textures", "letters", "folder", "listing"]
Augment = Literal["none", "shift", "crop", "crop_flip", "imagenet_crop", "imagenet_crop_flip", "segmentation"]
SOURCES: tuple[str, ...] = get_args(Source)


class SuiteError(ValueError):
    """All faults of one suite; ``faults`` holds one line each, with file, key path, value and what is allowed."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class BackboneSpec(BaseModel):
    """``use`` names a callable ``(num_classes=..., **options)`` that gives a pretrained timm VisionTransformer."""

    model_config = STRICT
    use: ImportString
    options: dict[str, JsonValue] = Field(default_factory=dict)


class Input(BaseModel):
    """Format of every image: square, ``channels`` planes, normalised by ``mean`` and ``std`` of each plane.

    ``resize``: pixels to which the shorter side is brought before the centre is cut out; None: to ``size`` itself.
    """

    model_config = STRICT
    size: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    mean: tuple[float, ...] = Field(default_factory=lambda data: (0.5,) * data["channels"])
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(default_factory=lambda data: (0.5,) * data["channels"])
    resize: Annotated[int, Field(ge=1, le=8192)] | None = None


class Schedule(BaseModel):
    """Handed to every method as a plain mapping with all keys. ``warmup`` is a fraction of all steps; ``clip`` is the
    largest gradient norm, 0 for no clipping. ``micro_batch``: images that run at once, 0 for all of a batch;
    ``checkpointing``: blocks are run again in the backward pass.
    """

    model_config = STRICT
    epochs: Annotated[float, Field(gt=0)] = 6.0
    batch: Count = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    min_lr: Annotated[float, Field(ge=0)] = 1e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    micro_batch: Annotated[int, Field(ge=0)] = 0
    checkpointing: bool = False

    def per_epoch(self, images: int) -> int:
        """Steps: short last batches are dropped, as :mod:`harness.protocol` says of ``batches``."""
        return max(1, images // self.batch)

    def steps(self, images: int) -> int:
        return max(1, round(self.epochs * self.per_epoch(images)))


class DataSet(BaseModel):
    """``fit``, ``select`` and ``test`` are numbers of images kept (None: all); select counts both folds together.

    ``use`` names a callable that makes the pictures of its ``options`` (:mod:`harness.picture_plugins`), and the images
    are then read from the folder in which they were written; or one that lists images (:mod:`harness.data.listings`),
    and ``path`` is the data root. ``reading``: decode all images once, or each whenever it is needed by ``workers``
    processes.
    """

    model_config = STRICT
    name: Label
    use: ImportString | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    source: Source = Field(default_factory=lambda data: "folder" if data.get("use") else data["name"])
    fit: Count | None = None
    select: Annotated[int, Field(ge=2)] | None = None
    test: Count | None = None
    path: str | None = None
    augment: Augment = "none"
    reading: Literal["memory", "disk"] = "memory"
    workers: Annotated[int, Field(ge=0, le=256)] = 2


class MethodSpec(BaseModel):
    """Entry of a method. ``after`` names methods whose choices, on the same data set and seed, this one is given."""

    model_config = STRICT
    use: ImportString
    name: Slug = Field(default_factory=lambda data: data["use"].partition(":")[2])
    options: dict[str, JsonValue] = Field(default_factory=dict)
    after: tuple[str, ...] = ()


class MetricSpec(BaseModel):
    """Entry of a metric: a function of a choice's outputs on the test images (:mod:`harness.metrics`)."""

    model_config = STRICT
    use: ImportString
    name: Slug = Field(default_factory=lambda data: data["use"].partition(":")[2])
    options: dict[str, JsonValue] = Field(default_factory=dict)


class Suite(BaseModel):
    """``macs_factor``: of the training MACs that regime "equal_macs" gives to each method, 1 being those of the largest
    schedule. ``grid``: budgets that methods are asked at for the area, 0 for none. ``processes``: that train one cell
    together. ``memory_gib``, ``disk_gib``: what one cell may take at most. ``latency_seconds``: about so long the
    choices of a cell are timed. ``task``: what the labels of all data sets are; ``score``: the one of its scores that
    methods search by and that tables show.
    """

    model_config = STRICT
    name: Slug
    title: str = ""
    task: TaskName = CLASSIFICATION
    score: ScoreName = Field(default_factory=lambda data: SCORES_OF[data.get("task", CLASSIFICATION)][0])
    regime: Literal["equal_steps", "equal_macs"] = "equal_steps"
    macs_factor: Annotated[float, Field(gt=0)] = 1.0
    budgets: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
    grid: Annotated[int, Field(ge=0, le=1000)] = 33
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)]
    threads: Parallel = 1
    processes: Parallel = 1
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    disk_gib: Annotated[float, Field(gt=0)] = 10.0
    timeout_minutes: Annotated[float, Field(gt=0)] = 60.0
    test_batch: Count = 256
    latency_seconds: Annotated[float, Field(gt=0, le=600)] = 1.0
    backbone: BackboneSpec
    input: Input
    schedule: Schedule = Field(default_factory=Schedule)
    datasets: Annotated[tuple[DataSet, ...], Field(min_length=1)]
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    metrics: tuple[MetricSpec, ...] = ()

    @property
    def grid_budgets(self) -> tuple[float, ...]:
        """Budgets of the area: ``grid`` of them, from the smallest to the largest budget in equal ratios."""
        low, high, gaps = min(self.budgets), max(self.budgets), self.grid - 1
        if gaps < 1 or low == high:
            return ()
        return (low, *(low * (high / low) ** (step / gaps) for step in range(1, gaps)), high)

    def dataset(self, name: str) -> DataSet:
        return next(entry for entry in self.datasets if entry.name == name)

    def method(self, name: str) -> MethodSpec:
        return next(entry for entry in self.methods if entry.name == name)


_TABLES: dict[tuple[str, ...], type[BaseModel]] = {
    (): Suite,
    ("backbone",): BackboneSpec,
    ("input",): Input,
    ("schedule",): Schedule,
    ("datasets",): DataSet,
    ("methods",): MethodSpec,
    ("metrics",): MetricSpec,
}


def load(path: Path | str) -> Suite:
    """Read and check a suite file; SuiteError names every fault in it."""
    file = Path(path)
    try:
        raw = toml.read(file)
    except OSError as error:
        raise SuiteError((_unreadable(file, error),)) from None
    except TomlError as error:
        raise SuiteError((str(error),)) from None
    return parse(raw, str(file), file.absolute().parent)


def anchored(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``raw`` with its relative paths made absolute, because a cell works in a scratch folder of its own.

    An option is a path when it has a dot or a slash in it and names a file below ``folder``, that of the suite. A data
    set's ``path`` is looked for there too, then in the working folder.
    """
    tables = {key: value for key, value in raw.items() if key in ("backbone", "methods", "metrics", "datasets")}
    return {**raw, **{key: _each(value, key == "datasets", folder) for key, value in tables.items()}}


def _each(tables: Any, data: bool, folder: Path) -> Any:
    if isinstance(tables, list):
        return [_each(table, data, folder) for table in tables]
    if data and isinstance(tables, Mapping) and isinstance(path := tables.get("path"), str):
        near = folder / Path(path).expanduser()
        return {**tables, "path": str(near if near.exists() else Path(path).expanduser().absolute())}
    if not data and isinstance(tables, Mapping) and "options" in tables:
        return {**tables, "options": _with_files(tables["options"], folder)}
    return tables


def _with_files(options: Any, folder: Path) -> Any:
    if isinstance(options, Mapping):
        return {key: _with_files(value, folder) for key, value in options.items()}
    if isinstance(options, list):
        return [_with_files(value, folder) for value in options]
    if isinstance(options, str) and {".", "/"} & set(options):
        path = str(folder / Path(options).expanduser())
        return path if names_a_file(path) else options
    return options


def names_a_file(value: object) -> bool:
    """Return whether an option is the absolute path of a file: then the file's content counts and not its path."""
    try:
        return isinstance(value, str) and Path(value).is_absolute() and Path(value).is_file()
    except OSError:  # too long for a path
        return False


def parse(raw: Mapping[str, Any], where: str, folder: Path | None = None) -> Suite:
    """Check a suite given as plain values; ``where``: the file that messages name, ``folder``: that of its paths."""
    faults, suite = list(unsupported_values(raw)), None
    if faults:
        raise SuiteError(tuple(f"{where}: {fault}" for fault in faults))
    raw = raw if folder is None else anchored(raw, folder)
    try:
        # JSON, not Python, mode: strict and yet a TOML array may become a tuple.
        suite = Suite.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        details = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
        faulty = {detail["loc"][:-1] for detail in details}  # their valid entries may be too few: no fault of its own
        faults += [_fault(detail) for detail in details if detail["type"] != "too_short" or detail["loc"] not in faulty]
    faults += cross_faults(raw)
    if faults or suite is None:
        raise SuiteError(tuple(f"{where}: {fault}" for fault in faults))
    return suite


def _fault(detail: ErrorDetails) -> str:
    place, last = key_path(detail["loc"]), str(detail["loc"][-1]) if detail["loc"] else ""
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        parent = tuple(part for part in detail["loc"][:-1] if isinstance(part, str))
        fields = _TABLES[parent].model_fields if parent in _TABLES else {}
        return f"{place}: unknown key; {choices(last, fields)}"
    if kind == "missing":
        return f"{place}: missing key; it has no default"
    if kind == "literal_error":
        allowed = re.findall(r"[^', ]+(?=')|\d+", detail["ctx"]["expected"])
        return f"{place}: {shown(value)} is not known; {choices(str(value), allowed)}"
    return f"{place}: {shown(value)}: {_plain(kind, detail)}"


def _plain(kind: str, detail: ErrorDetails) -> str:
    pattern = detail.get("ctx", {}).get("pattern", "")
    if kind == "string_pattern_mismatch" and ":" in pattern:
        return "must be written module:attribute, such as eavit.methods:ea_vit"
    if kind == "string_pattern_mismatch" and "a-z0-9" in pattern:
        return "allowed are lower-case letters, digits, - and _"
    if kind == "too_short":
        return "needs at least one entry"
    return detail["msg"][0].lower() + detail["msg"][1:]


def _unreadable(file: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return f"{file}: cannot be read: {error.strerror}"
    folder = file.parent
    names = sorted(file.name for file in folder.glob("*.toml") if not file.name.endswith(".claims.toml"))
    near = nearest(file.name, names)
    there = f"{folder} holds: {', '.join(names) or 'no suite'}" if folder.is_dir() else f"{folder} is no folder"
    return f"{file}: no such suite; {there}" + (f"; nearest: {folder / near}" if near else "")
