"""Statistics of the inputs of linear layers: dropped units count with their means, and units are scored by variance.

A unit whose output hardly varies can be replaced by its mean: a bias. So a calibrated nested ViT adds to the bias of
each linear layer what the means of its dropped inputs give, and scales each norm over fewer channels so that these keep
the mean square that they have at full width. Both follow from the width alone: any submodel has them, and at full width
nothing changes. :func:`eavit.extract` folds them into biases and norm weights. A bias for the mean of what was pruned
is FLAP's (AAAI 2024, arXiv 2312.11983); one rule for all widths of a nested model is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from eavit.model import nested
from eavit.model.arguments import described
from eavit.model.inputs import NORM_OF, Batches, readers, watch_inputs, writers
from eavit.model.timm_layout import copy_with
from eavit.model.vit import NestedViT


def calibrate(vit: NestedViT, batches: Batches) -> NestedViT:
    """A copy of ``vit`` with the same full model, whose submodels replace dropped units by their means.

    ``batches`` yields ``(images, labels)`` from the fit split; a few hundred images do. Layers without a bias and norms
    with a shift keep what they are.
    """
    if not isinstance(vit, NestedViT):
        raise TypeError(f"vit is {described(vit)}; must be a nested ViT, as NestedViT.from_timm(model) makes it")
    layers = {name: layer for name, layer in (readers(vit) | writers(vit)).items() if layer.bias is not None}
    inputs = watch_inputs(vit, batches, layers)
    new: Any = copy_with(vit, dict(vit.named_parameters()))
    for name in layers:
        layer = new.get_submodule(name)
        layer.register_buffer(nested.INPUT_MEAN, inputs[name].mean.to(layer.weight))
    for name, norm in _norms_before(new):
        if name in inputs and not norm.bias.any() and norm.weight.all():
            power = inputs[name].power / norm.weight.detach().double().square()
            norm.register_buffer(nested.POWER, power.to(norm.weight))
    calibrated: NestedViT = new
    return calibrated


def _norms_before(vit: Any) -> Iterator[tuple[str, nn.LayerNorm]]:
    """Each norm over channels that a linear layer reads, with the name of that layer."""
    for i, block in enumerate(vit.blocks):
        for reader, norm in NORM_OF.items():
            yield f"blocks.{i}.{reader}", getattr(block, norm)
    last = vit.norm if isinstance(vit.fc_norm, nn.Identity) else vit.fc_norm
    if isinstance(last, nn.LayerNorm):
        yield "head", last
