"""Check of one part of a suite by building what it names: the entry point of a child process, never of a command.

What is known to fail in a cell before it runs is found here: options, the backbone against input size and channels, the
precision against the device, data sets that cannot be read or take too much memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from harness import metrics, plugins
from harness.data.loading import check_dataset, load_dataset
from harness.data.locations import DataError
from harness.evaluation.execute import fitting
from harness.evaluation.failures import BackboneError, failure_status
from harness.evaluation.measure import count_macs
from harness.jobs.call import describe_exception
from harness.plugins import PluginError, PluginImportError, PluginVersionError
from harness.suite import Suite

CLASSES = 7  # of the backbone that is tried
Found = dict[str, Any]


def check_part(request: Mapping[str, Any]) -> Found:
    """``faults``, ``warnings`` and ``notes`` of one part of a suite, and the ``card`` of a method; as plain values.

    ``request``: ``suite``, as JSON text, and ``part``: ``["schedule"]``, ``["backbone"]``, ``["methods", index]``,
    ``["metrics", index]`` or ``["datasets", index]``. ``fatal``: no cell can be right, or the suite was written
    wrongly.
    """
    kind, *index = request["part"]
    try:
        answer: Found = _CHECKS[kind](request["suite"], *index)
        return {"faults": [], "fatal": False, "warnings": [], "notes": [], "card": {}, **answer}
    except (PluginError, DataError, BackboneError) as error:
        fatal = not isinstance(error, PluginImportError | PluginVersionError | DataError)
        return _faulty(str(error), fatal or kind == "backbone")
    except (
        Exception
    ) as error:  # a plug-in may raise anything; weights that are missing cost no more than a skipped cell
        return _faulty(describe_exception(error), kind == "backbone" and not getattr(error, "skips", False))


def _faulty(text: str, fatal: bool) -> Found:
    return {"faults": [" ".join(text.split())], "fatal": fatal, "warnings": [], "notes": [], "card": {}}


def _schedule(text: str) -> Found:
    if Suite.model_validate_json(text).schedule.precision == "fp16" and not torch.cuda.is_available():
        return _faulty("precision: 'fp16': needs a GPU, and this machine has none; allowed here: no, bf16", fatal=True)
    return {}


def _method(text: str, index: int) -> Found:
    suite = Suite.model_validate_json(text)
    method = plugins.build(suite.methods[index].use, suite.methods[index].options)
    card = plugins.plain_card(method)
    try:
        backbone = _backbone(text)
    except Exception:  # the fault of another part
        return {"card": card}
    check = getattr(method, "check", None)
    arguments = (backbone, suite.budgets, suite.methods[index].after, suite.regime, suite.schedule.batch)
    warnings = [] if check is None else check(*arguments)
    return {"card": card, "warnings": [str(line) for line in warnings]}


def _dataset(text: str, index: int) -> Found:
    suite = Suite.model_validate_json(text)
    spec = suite.datasets[index]
    check_dataset(spec, suite.input)  # what can be said before any image is decoded
    try:
        loaded = load_dataset(spec, suite.input)
    except Exception as error:
        status, reason = failure_status(error)
        if status != "oom":
            raise
        bound = "this machine has" if suite.memory_gib is None else f"memory_gib = {suite.memory_gib:g} allows"
        raise DataError(f"{spec.name}: reading it takes more memory than {bound}: {reason}") from error
    loaded.check_task(spec.name, suite.task)
    sizes = ", ".join(f"{name} {size}" for name, size in loaded.sizes.items())
    return {"notes": [f"{spec.name}: {loaded.num_classes} classes; {sizes}"], "warnings": list(loaded.notes)}


def _metric(text: str, index: int) -> Found:
    spec = Suite.model_validate_json(text).metrics[index]
    metrics.load_metric(spec.use, spec.options)
    return {}


def _backbone(text: str) -> nn.Module:
    """The suite's backbone on the meta device, where shapes are checked without computing; else on CPU."""
    built = _built_backbone(text)
    if isinstance(built, Exception):
        raise built
    return built


@cache
def _built_backbone(text: str) -> nn.Module | Exception:
    """The backbone, or why there is none: looking for its weights on a hub in vain takes a minute."""
    suite = Suite.model_validate_json(text)
    try:
        make = plugins.backbone(suite.backbone.use, suite.backbone.options)
        try:
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # that weights are not copied to meta
                return fitting(make(num_classes=CLASSES, **suite.backbone.options), suite.input, CLASSES, suite.task)
        except Exception as error:  # also of code that reads values, which a meta tensor has not
            if getattr(error, "skips", False):  # files that are missing are missing on CPU, too
                raise
            return fitting(make(num_classes=CLASSES, **suite.backbone.options), suite.input, CLASSES, suite.task)
    except Exception as error:
        return error


def _backbone_fits(text: str) -> Found:
    images = Suite.model_validate_json(text).input
    count_macs(_backbone(text), (images.channels, images.size, images.size))
    return {}


_CHECKS: dict[str, Any] = {
    "schedule": _schedule, "backbone": _backbone_fits, "methods": _method, "metrics": _metric, "datasets": _dataset
}  # fmt: skip
