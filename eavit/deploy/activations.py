"""Peak activation memory: bytes of all tensors that a forward pass holds at once, weights apart."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract


class _Live(TorchDispatchMode):
    """Bytes of storages that live after each operation, but for those known before; ``peak`` is the most of them."""

    peak: int

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no type for it
        self.known, self.peak = known, 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self.known:
                    self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


@torch.no_grad()
def peak_activation_bytes(module: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Most bytes of tensors alive at once while a module on the CPU runs on one image, by a real forward pass.

    The image counts, weights do not; a tensor counts from the operation that makes it until nothing refers to it.
    Memory that a kernel takes and gives back inside one operation does not count: it differs between machines.
    """
    weights = [*module.parameters(), *module.buffers()]
    with _Live({weight.untyped_storage()._cdata for weight in weights}) as live:
        module(torch.zeros(1, *image_shape, dtype=weights[0].dtype))
    return int(live.peak)


class LayerPeaks:
    """Peak MiB of submodels, the same as by :func:`peak_activation_bytes`, from their layers, each measured once."""

    def __init__(self, vit: NestedViT, image_shape: tuple[int, int, int]) -> None:
        self.image_shape, self.depth = image_shape, min(2, vit.backbone.depth)
        b, closed = vit.backbone, (0,) * (vit.backbone.depth - self.depth)
        first = Submodel(b.embed, (b.heads,) * self.depth + closed, (b.mlp,) * self.depth + closed)
        self._blocks = NestedViT.from_timm(extract(vit, first).eval().cpu())
        self._known = cache(self._measured)

    def __call__(self, submodel: Submodel) -> float:
        layers = [widths for widths in zip(submodel.heads, submodel.mlp, strict=True) if any(widths)] or [(0, 0)]
        # While a later block runs, the input of the first one is alive too: a second copy of the block shows its peak.
        later = (self._known(submodel.embed, *widths, 2) for widths in {*layers[1:]})
        return max([self._known(submodel.embed, *layers[0], 1), *later])

    def _measured(self, embed: int, heads: int, hidden: int, copies: int) -> float:
        rest = (0,) * (self.depth - copies)
        layers = Submodel(embed, (heads,) * copies + rest, (hidden,) * copies + rest)
        return peak_activation_bytes(extract(self._blocks, layers).eval(), self.image_shape) / 2**20
