"""Statistics of the inputs of linear layers: dropped units count with their means, and units are scored by variance.

A unit whose output hardly varies can be replaced by its mean: a bias. So a calibrated nested ViT adds to the bias of
each linear layer what the means of its dropped inputs give, and scales each norm over fewer channels so that these keep
the mean square that they have at full width. Both follow from the width alone: any submodel has them, and at full width
nothing changes. :func:`eavit.extract` folds them into biases and norm weights. A bias for the mean of what was pruned
is FLAP's (AAAI 2024, arXiv 2312.11983); one rule for all widths of a nested model is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from eavit.model import nested
from eavit.model.arguments import described
from eavit.model.inputs import Batches, norms_of_readers, readers, watch_inputs, writers
from eavit.model.timm_layout import copy_with
from eavit.model.vit import NestedViT

STATISTICS = (f".{nested.INPUT_MEAN}", f".{nested.POWER}")  # ends of the names of buffers


def calibrate(vit: NestedViT, batches: Batches) -> NestedViT:
    """A copy of ``vit`` with the same full model, whose submodels replace dropped units by their means.

    ``batches`` yields ``(images, labels)`` from the fit split; a few hundred images do. Layers without a bias and norms
    with a shift keep what they are.
    """
    if not isinstance(vit, NestedViT):
        raise TypeError(f"vit is {described(vit)}; must be a nested ViT, as NestedViT.from_timm(model) makes it")
    layers = {name: layer for name, layer in (readers(vit) | writers(vit)).items() if layer.bias is not None}
    inputs = watch_inputs(vit, batches, layers)
    statistics = {f"{name}.{nested.INPUT_MEAN}": inputs[name].mean for name in layers}
    for name, norm in norms_of_readers(vit):
        scale, shift = (vit.get_parameter(f"{norm}.{leaf}").detach() for leaf in ("weight", "bias"))
        if name in inputs and not shift.any() and scale.all():
            statistics[f"{norm}.{nested.POWER}"] = inputs[name].power / scale.double().square()
    new = copy_with(vit, dict(vit.named_parameters()))
    attach_statistics(new, statistics)
    return new


def statistics_of(vit: NestedViT) -> dict[str, Tensor]:
    """The statistics of a calibrated ViT by name; none without a calibration."""
    return {name: value for name, value in vit.named_buffers() if name.endswith(STATISTICS)}


def attach_statistics(vit: NestedViT, statistics: Mapping[str, Tensor]) -> None:
    """Calibrate a ViT, in place, by statistics that :func:`statistics_of` gave of one with these widths."""
    weight = vit.patch_embed.proj.weight
    for name, value in statistics.items():
        part, _, leaf = name.rpartition(".")
        vit.get_submodule(part).register_buffer(leaf, value.to(weight))
