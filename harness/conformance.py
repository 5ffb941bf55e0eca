"""Kind of a plug-in, and whether it makes the same each time: entry points of a child process, never of a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from harness import picture_writer, plugins
from harness.data.listings import Listing
from harness.plugins import PluginError

Kind = Literal["method", "backbone", "data set", "listing"]
CLASSES = (3, 3, 5)  # of the backbones that are made


def kind_of(use: str) -> Kind:
    """Kind of plug-in that a callable says it is, without calling it; PluginError where it says nothing."""
    factory = plugins.resolve(use)
    if picture_writer.makes_pictures(factory):
        return "data set"
    made = plugins.declared_classes(factory)
    if made == (Listing,):
        return "listing"
    if all(callable(getattr(each, "adapt", None)) for each in made):
        return "method"
    if all(issubclass(each, nn.Module) for each in made):
        return "backbone"
    raise PluginError(
        f"use = {use!r}: does not say what it makes: annotate its return with a class that has `adapt` (a method), a "
        "torch.nn.Module (a backbone), Iterator[tuple[str, str, PIL.Image.Image]] (a data set that is made), or "
        "harness.data.listings.Listing (a data set that is listed)"
    )


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
