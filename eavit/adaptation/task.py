"""Task of the library's methods from data loaders, and the record in a work folder of which run it belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from eavit.adaptation.loaders import (
    CheckedLoader,
    Expected,
    FitSplit,
    ValidationImages,
    count_images,
    read_validation,
)
from eavit.deploy.files import read_json, write_json
from eavit.model.inputs import Batches
from eavit.training.task import Ledger, Progress, Spent, Split, Target

RUN_FILE = "adapt.json"


@dataclass(frozen=True, slots=True)
class LoaderTask:
    """A task whose images come from loaders; the contract is ``eavit.training.task.Task``."""

    fit: Split
    select_a: Split
    select_b: Split
    backbone: Callable[[], nn.Module]
    budgets: tuple[float, ...]
    schedule: Mapping[str, Any]
    seed: int
    workdir: Path
    progress: Progress
    ledger: Ledger = field(default_factory=Spent)
    given: Mapping[str, Mapping[float, str]] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()


class WorkdirError(ValueError):
    """A work folder that holds another run."""


def expected_of(model: Any) -> Expected:
    """Read channels, image size and classes of a model; ValueError if it has no head for images."""
    if not isinstance(model.head, nn.Linear):
        raise ValueError("model has no head (num_classes=0); build it with the num_classes of your data")
    if not model.global_pool:
        raise ValueError("model pools no tokens (global_pool=''); adaptation needs 'token' or 'avg'")
    size = None if model.dynamic_img_size else tuple(model.patch_embed.img_size)
    return Expected(model.patch_embed.proj.in_channels, size, model.head.out_features)


def class_names(model: Any, loader: Batches, names: Any) -> tuple[str, ...]:
    """Names of the head's classes: as given, or those of the loader's data set; ValueError if their number differs."""
    found = names if names is not None else getattr(getattr(loader, "dataset", None), "classes", None)
    if found is None:
        return ()
    classes = tuple(map(str, found))
    outputs = model.head.out_features
    if len(classes) != outputs:
        raise ValueError(
            f"the data has {len(classes)} classes ({', '.join(classes[:3])}, ...), the model's head has {outputs}; "
            f"build the model with num_classes={len(classes)}"
        )
    return classes


def validation_of(model: Any, val: Batches) -> ValidationImages:
    """Read the validation images, once; LoaderError where the model does not take them."""
    return read_validation(CheckedLoader("val", val, expected_of(model)))


def fit_split(model: Any, train: Batches) -> tuple[FitSplit, int]:
    """Training images, and the size of the loader's batches."""
    expected = expected_of(model)
    loader = CheckedLoader("train", train, expected)
    count, batch = count_images(loader)
    return FitSplit(loader, count, expected.classes), batch


def claim(workdir: Path, run: Mapping[str, Any]) -> None:
    """Write down which run a work folder belongs to; WorkdirError if it holds another one."""
    workdir.mkdir(parents=True, exist_ok=True)
    path, run = workdir / RUN_FILE, json.loads(json.dumps(run))
    if not path.exists():
        write_json(path, run)
        return
    before = read_json(path, "a work folder of eavit.adapt")
    changed = [key for key, value in run.items() if before.get(key) != value]
    other = [f"{key} was {before.get(key)!r} and is {run[key]!r}" for key in changed]
    if other:
        raise WorkdirError(f"{workdir} holds another run: {'; '.join(other)}; delete it or give another workdir")
