"""Kind of a plug-in, and whether it makes the same each time: entry points of a child process, never of a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from harness import metrics, picture_writer, plugins
from harness.data.listings import Listing
from harness.plugins import PluginError

Kind = Literal["method", "backbone", "data set", "listing", "metric", "selector"]
SELECTION = ("eavit.selection.selectors", "Selection")  # module and name of what a selector gives
CLASSES = (3, 3, 5)  # of the backbones that are made
IMAGES = 60  # of the outputs that a metric is tried on


def kind_of(use: str) -> Kind:
    """Kind of plug-in that a callable says it is, without calling it; PluginError where it says nothing."""
    factory = plugins.resolve(use)
    if picture_writer.makes_pictures(factory):
        return "data set"
    if metrics.makes_numbers(factory):
        return "metric"
    made = plugins.declared_classes(factory)
    if made == (Listing,):
        return "listing"
    if (made[-1].__module__, made[-1].__name__) == SELECTION:
        return "selector"
    if all(callable(getattr(each, "adapt", None)) for each in made):
        return "method"
    if all(issubclass(each, nn.Module) for each in made):
        return "backbone"
    raise PluginError(
        f"use = {use!r}: does not say what it makes: annotate its return with a class that has `adapt` (a method), a "
        "torch.nn.Module (a backbone), Iterator[tuple[str, str, PIL.Image.Image]] (a data set that is made), "
        "harness.data.listings.Listing (a data set that is listed), eavit.selection.selectors.Selector (a selector), "
        "or, if it takes logits and labels, float or numpy.ndarray (a metric)"
    )


def metric_trials(request: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers of a metric for drawn outputs, twice, in another order, and where all or no images are right."""
    metric, rng = metrics.load_metric(request["use"], request["options"]), np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES[0]
    logits = rng.normal(0, 2, (IMAGES, CLASSES[0])).astype(np.float32)
    right, order = 50 * np.eye(CLASSES[0], dtype=np.float32)[labels], rng.permutation(IMAGES)
    tried = {"first": logits, "second": logits, "right": right, "wrong": -right}
    pairs = {name: (outputs, labels) for name, outputs in tried.items()} | {"order": (logits[order], labels[order])}
    return {name: metrics.metric_answer(metric, request["options"], *pair) for name, pair in pairs.items()}


def differing_weights(request: Mapping[str, Any]) -> list[str]:
    """Names of parameters, head aside, in which backbones of equal ``options`` differ: pretrained ones do not."""
    make = plugins.backbone(request["use"], request["options"])
    states = []
    for seed, classes in enumerate(CLASSES):
        torch.manual_seed(seed)
        states.append(make(num_classes=classes, **request["options"]).state_dict())
    first, second, other = states
    body = [name for name, value in first.items() if name in other and value.shape == other[name].shape]
    return [name for name in body if not torch.equal(first[name], second[name]) and not name.startswith("head")]
