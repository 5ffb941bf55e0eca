"""Inputs of a nested ViT: the batches that it is given, and statistics of what each of its linear layers reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eavit.model.arguments import check_images, described
from eavit.model.attributes import fault_of_statistics
from eavit.model.vit import NestedViT, extract

Batches = Iterable[tuple[Tensor, Tensor]]
NORM_OF = {"attn.qkv": "norm1", "mlp.fc1": "norm2"}  # of each layer of a block that reads the stream
WRITERS = ("attn.proj", "mlp.fc2")


def pieces_of(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch in pieces of at most ``size`` images; 0: as it is."""
    each = size or len(images)
    return zip(images.split(each), labels.split(each), strict=True)


def images_and_labels(vit: NestedViT, batches: Batches, micro_batch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches on the model's device, in pieces of at most ``micro_batch`` images; ValueError if there is none."""
    if not isinstance(batches, Iterable) or isinstance(batches, (Tensor, str)):
        raise TypeError(f"batches is {described(batches)}; must yield pairs (images, labels), as a DataLoader does")
    weight, count = vit.patch_embed.proj.weight, 0
    for batch in batches:
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(x, Tensor) for x in batch)):
            raise TypeError(f"batches[{count}] is {described(batch)}; must be a pair (images, labels) of tensors")
        images, labels = (x.to(weight.device) for x in batch)
        check_images(images, vit.patch_embed.proj.in_channels, weight, f"batches[{count}]: images")
        yield from pieces_of(images, labels, micro_batch)
        count += 1
    if not count:
        raise ValueError(
            "batches: there is no batch; the loader is empty (less than one batch and drop_last?) or was used up before"
        )


@dataclass(slots=True)
class Inputs:
    """Statistics of the inputs (n, units) of a linear layer, in float64."""

    count: int = 0
    total: Tensor | float = 0.0  # (units,)
    squares: Tensor | float = 0.0  # (units,), or (units, units) of products

    def add(self, x: Tensor, *, products: bool = False) -> None:
        """Add inputs (..., units); ``products``: sums of products of all pairs of units, not of squares alone."""
        rows = x.detach().flatten(0, -2).double()
        self.count += len(rows)
        self.total = self.total + rows.sum(0)
        self.squares = self.squares + (rows.T @ rows if products else rows.square().sum(0))

    @property
    def mean(self) -> Tensor:
        """Means (units,)."""
        return torch.as_tensor(self.total) / self.count

    @property
    def power(self) -> Tensor:
        """Mean squares, or mean products."""
        return torch.as_tensor(self.squares) / self.count

    @property
    def variance(self) -> Tensor:
        """Variances, or the covariance."""
        mean = self.mean
        return self.power - (mean.square() if self.power.ndim == 1 else torch.outer(mean, mean))


def readers(vit: Any) -> dict[str, nn.Linear]:
    """The linear layers that read the channels of the stream, by name: qkv and fc1 of each block, and the head.
    ValueError for other backbones than plain ViTs.
    """
    if fault := fault_of_statistics(vit):
        raise ValueError(f"{fault}; importance='taylor' is for every backbone")
    layers = {f"blocks.{i}.{name}": block.get_submodule(name) for i, block in enumerate(vit.blocks) for name in NORM_OF}
    return layers | ({"head": vit.head} if isinstance(vit.head, nn.Linear) else {})


def writers(vit: Any) -> dict[str, nn.Linear]:
    """The linear layers that write to the stream, by name: attn.proj and fc2 of each block."""
    return {f"blocks.{i}.{name}": block.get_submodule(name) for i, block in enumerate(vit.blocks) for name in WRITERS}


def last_norm(vit: Any) -> str:
    """Name of the last norm over the stream: behind the pooling of tokens where there is one, else before it."""
    return "norm" if isinstance(vit.fc_norm, nn.Identity) else "fc_norm"


def norms_of_readers(vit: Any) -> Iterator[tuple[str, str]]:
    """Names of each layer that reads the stream (:func:`readers`) and of the norm before it; no pair where there is no
    norm.
    """
    for i in range(len(vit.blocks)):
        yield from ((f"blocks.{i}.{reader}", f"blocks.{i}.{norm}") for reader, norm in NORM_OF.items())
    if isinstance(vit.get_submodule(last_norm(vit)), nn.LayerNorm):
        yield "head", last_norm(vit)


def watch_inputs(
    vit: NestedViT, batches: Batches, layers: Iterable[str], *, products: bool = False, micro_batch: int = 0
) -> dict[str, Inputs]:
    """Statistics of the inputs of these linear layers in the full model, over all tokens of all images. ValueError for
    other backbones than plain ViTs.
    """
    if fault := fault_of_statistics(vit):
        raise ValueError(f"{fault}; importance='taylor' is for every backbone")
    model, seen = extract(vit, vit.backbone.full).eval(), {name: Inputs() for name in layers}

    def watch(into: Inputs) -> Any:
        return lambda _module, args: into.add(args[0], products=products)

    for name, into in seen.items():
        model.get_submodule(name).register_forward_pre_hook(watch(into))
    with torch.no_grad():
        for images, _ in images_and_labels(vit, batches, micro_batch):
            model(images)
    return seen
