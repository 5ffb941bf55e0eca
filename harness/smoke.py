"""A suite made small, to try all that it names in a minute: drawn images in the files of its data sets, a tiny ViT, one
epoch, few cells. Its numbers mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import plan
from harness.data import locations
from harness.plan import Cell
from harness.suite import BackboneSpec, DataSet, Suite
from harness.tasks import SEGMENTATION

PUBLISHED = "harness.data.published:"
WRITTEN = ("fashion_mnist", "folder")  # sources whose files are written, too; the others have theirs or draw them
SIZE, RESIZE = 32, 36
TINY: Mapping[str, Any] = {
    "tag": "vit_tiny_patch16_224", "pretrained": False, "img_size": SIZE, "patch_size": 8,
    "embed_dim": 32, "depth": 2, "num_heads": 4,
}  # fmt: skip
BATCH, EPOCHS, GRID = 16, 1.0, 3
FACTOR = 8.0  # of equal MACs at least: one epoch pays for no search
EACH = 12  # images of a class in each official split
FEW = {"fit": 64, "select": 80, "test": 40}  # enough for the 37 classes of letters, two folds and all
MINUTES, LATENCY = 10.0, 0.05
# Options of methods that count what they do, and how much of it is enough here.
EFFORT = {"population": 8, "generations": 1, "evaluations": 8, "warmup_steps": 4, "images": 32}
SEARCHERS = {"eavit.methods:snapvit": {"images": 32, "search": {"evaluations": 16}}}  # too long by their defaults


def smoke_suite(suite: Suite, data: Path) -> Suite:
    """The suite made small. ``data``: folder for the files of its data sets, which :func:`write_samples` writes."""
    channels = suite.input.channels
    methods = (
        method.model_copy(update={"options": {**SEARCHERS.get(method.use, {}), **_reduced(method.options)}})
        for method in suite.methods
    )
    schedule = {"epochs": EPOCHS, "batch": BATCH}
    dense = {"global_pool": ""} if suite.task == SEGMENTATION else {}
    changes = {
        "name": f"{suite.name}_smoke",
        "title": f"Smoke of {suite.name}: no result",
        "macs_factor": max(suite.macs_factor, FACTOR) if suite.regime == "equal_macs" else suite.macs_factor,
        "budgets": _three(suite.budgets),
        "grid": min(suite.grid, GRID),
        "seeds": suite.seeds[:1],
        "threads": 1,
        "latency_seconds": LATENCY,
        "timeout_minutes": MINUTES,
        "backbone": BackboneSpec(use="eavit.weights:timm_vit", options={**TINY, "in_chans": channels, **dense}),
        "input": suite.input.model_copy(update={"size": SIZE, "resize": suite.input.resize and RESIZE}),
        "schedule": suite.schedule.model_copy(update=schedule),
        "datasets": tuple(_small_set(entry, data / entry.name) for entry in suite.datasets),
        "methods": tuple(methods),
    }
    return suite.model_copy(update=changes)


def few_cells(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Every method once, on the first data set, and every data set once, with the first method."""
    first = cells[:1]
    wanted = {cell.id for cell in cells for one in first if one.dataset == cell.dataset or one.method == cell.method}
    return plan.with_needs(tuple(cells), wanted)


def write_samples(datasets: Iterable[DataSet]) -> None:
    """Write the files of the data sets of a small suite. Each set has another number of images: no two are the same."""
    from harness.data import samples  # late: images are drawn with numpy

    for index, entry in enumerate(datasets):
        name = _sample_of(entry)
        if name is not None and entry.path is not None:
            samples.write_sample(name, Path(entry.path), each=EACH + index, size=2 * SIZE, options=entry.options)


def _sample_of(entry: DataSet) -> str | None:
    """Name of the sample that stands for a data set."""
    if entry.use is not None:
        return entry.use.removeprefix(PUBLISHED) if entry.use.startswith(PUBLISHED) else None
    return entry.source if entry.source in WRITTEN else None


def _small_set(entry: DataSet, folder: Path) -> DataSet:
    changes: dict[str, Any] = {"workers": 0}
    if _sample_of(entry) is not None:
        changes |= {"path": str(folder), "fit": None, "select": None, "test": None}
    elif entry.source == "listing":  # somebody's own: its files, from the data root
        changes |= {"path": str(locations.data_root(entry.path).absolute())}
    elif entry.use is None:
        changes |= FEW
    return entry.model_copy(update=changes)


def _three(budgets: Sequence[float]) -> tuple[float, ...]:
    """The smallest, a middle and the largest budget."""
    return tuple(dict.fromkeys((budgets[0], budgets[len(budgets) // 2], budgets[-1])))


def _reduced(options: Any) -> Any:
    """Options with less effort: the numbers that :data:`EFFORT` names, wherever they stand."""
    if not isinstance(options, Mapping):
        return options
    return {
        key: min(value, EFFORT[key]) if key in EFFORT and isinstance(value, int | float) else _reduced(value)
        for key, value in options.items()
    }
