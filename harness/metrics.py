"""Metrics of one's own, called on the outputs that cells keep: entry points of a child process, never of a command.

A metric is a function ``(logits, labels, **options)`` of arrays float32 (n, classes) and int64 (n,), annotated to
return ``float``, one number for all test images, or a numpy array (n,), one for each image, whose mean counts.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.plugins import PluginError, check_options, resolve
from harness.results.cell_files import StoreError, load_outcome, unpack_outputs

SUPPLIED = ("logits", "labels")
Metric = Callable[..., Any]


class MetricError(ValueError):
    """Raised for a value that is no metric: not one finite number, nor one for each image."""


def makes_numbers(factory: Metric) -> bool:
    """Return whether a function says by its parameters and annotation that it is a metric."""
    try:
        taken = inspect.signature(factory).parameters
        annotation = typing.get_type_hints(factory).get("return")
    except (NameError, TypeError, ValueError, AttributeError):
        return False
    number = annotation is float or np.ndarray in (annotation, typing.get_origin(annotation))
    return number and all(name in taken for name in SUPPLIED)


def load_metric(use: str, options: Mapping[str, Any]) -> Metric:
    """The function that ``module:name`` names, if it is a metric and takes the options."""
    metric = resolve(use)
    if not makes_numbers(metric):
        raise PluginError(
            f"use = {use!r}: does not say that it is a metric: it must take logits and labels, and be annotated to "
            "return float or numpy.ndarray"
        )
    check_options(use, metric, options, supplied=SUPPLIED)
    return metric


def metric_value(
    metric: Metric, options: Mapping[str, Any], logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> float:
    """The number that a metric gives for outputs, which it cannot change; MetricError where it gives none."""
    for array in (logits, labels):
        array.setflags(write=False)
    made = np.asarray(metric(logits=logits, labels=labels, **options))
    if made.dtype.kind not in "fiub" or made.shape not in ((), labels.shape):
        raise MetricError(
            f"gave {made.dtype} of shape {made.shape} for {len(labels)} images, not one number or one for each image"
        )
    value = float(made.astype(np.float64).mean())
    if not math.isfinite(value):
        raise MetricError(f"gave {value}")
    return value


def measure_cells(request: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Answers by cell and budget, as text: ``value`` of the metric, or the ``reason`` why there is none.

    ``request``: ``use`` and ``options`` of the metric, and ``cells``, id to folder.
    """
    metric = load_metric(request["use"], request["options"])
    return {cell: _of_cell(metric, request["options"], Path(folder)) for cell, folder in request["cells"].items()}


def _of_cell(metric: Metric, options: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    try:
        labels, outputs = unpack_outputs(load_outcome(folder).outputs)
    except StoreError:  # `verify` tells of damage; here the outputs of the cell are just not known
        return {}
    return {repr(budget): metric_answer(metric, options, logits, labels) for budget, logits in outputs.items()}


def metric_answer(
    metric: Metric, options: Mapping[str, Any], logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, Any]:
    """``value`` of a metric for outputs, or the ``reason`` why there is none."""
    try:
        return {"value": metric_value(metric, options, logits, labels)}
    except Exception as error:  # a plug-in may raise anything
        return {"reason": f"{type(error).__name__}: {error}"}
