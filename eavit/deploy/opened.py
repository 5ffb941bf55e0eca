"""A saved family of which only the members that run are read from its file, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from eavit.deploy.activations import peak_activation_bytes
from eavit.deploy.architecture import build_submodel, build_vit
from eavit.deploy.artifact import (
    BY_SIZE,
    FOLDED,
    SHARED,
    artifact_errors,
    family_record,
    load_family,
    read_manifest,
    weights_file,
)
from eavit.deploy.elastic import Choices, ElasticModel, Timed, image_shape_of
from eavit.deploy.slices import Axes, SlicedWeights
from eavit.model.calibration import STATISTICS
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract


def open_family(folder: str | Path, *, profile: Timed | None = None, **limits: float) -> ElasticModel:
    """The family in a folder. With limits (as :meth:`ElasticModel.choose`) only the weights of the choice are read: a
    family in which another size reads what it adds when it is first used.

    Without limits everything is read and compared with its SHA-256; ArtifactError if a byte changed. With limits the
    manifest is checked, and of the weights the size of their file alone. Backbones with buffers that no file has, such
    as rotary positions, are read whole.
    """
    if not limits:
        return load_family(folder)
    with artifact_errors(Path(folder)):
        manifest = read_manifest(Path(folder))
        with torch.device("meta"):  # shapes alone
            plain = build_vit(manifest["backbone"]["arguments"])
        if any(True for _ in plain.buffers()):
            family: ElasticModel = load_family(folder)
        else:
            family = OpenedFamily(Path(folder), manifest, NestedViT.from_timm(plain).eval())
    family.ready(family.choose(profile=profile, **limits))
    return family


class OpenedFamily(ElasticModel):
    """A family whose weights stay in their file until a submodel needs them. Whatever asks for ``vit`` reads all."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], shapes: NestedViT) -> None:
        self.folder, self.table, self._shapes = folder, family_record(manifest), shapes
        self.weights = SlicedWeights(weights_file(folder, manifest["weights"]))
        self._arguments = manifest["backbone"]["arguments"]
        self._folded = {Submodel.parse(name.split("/")[1]) for name in self.weights.names(FOLDED)}
        self._calibrated = any(name.endswith(STATISTICS) for name in self.weights.names(SHARED))
        self._own: dict[Submodel, VisionTransformer] = {}
        self._chosen: Choices = {}
        self._activations: dict[Submodel, float] = {}

    @cached_property
    def _whole(self) -> ElasticModel:
        return load_family(self.folder)

    @property
    def vit(self) -> NestedViT:
        """All weights, read and checked when this is first asked for."""
        vit: NestedViT = self._whole.vit
        return vit

    @property
    def by_size(self) -> dict[Submodel, Mapping[str, Tensor]]:  # type: ignore[override]
        return self._whole.by_size

    @property
    def backbone(self) -> Backbone:
        backbone: Backbone = self._shapes.backbone
        return backbone

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return image_shape_of(self._shapes)

    def _activation_mib(self, submodel: Submodel) -> float:
        if submodel not in self._activations:
            plain = build_submodel(self._arguments, submodel)
            self._activations[submodel] = peak_activation_bytes(plain, self.image_shape) / 2**20
        return self._activations[submodel]

    def _shares_weights(self, submodel: Submodel) -> bool:
        return False

    def _extracted(self, submodel: Submodel) -> VisionTransformer:
        plain = self._opened(submodel)
        copied = {name: value.detach().clone() for name, value in plain.state_dict().items()}
        plain.load_state_dict(copied, assign=True)
        return plain

    def to(self, device: torch.device | str) -> ElasticModel:
        """The same family: a submodel moves to the images that it is called on, what is not read stays in its file."""
        if "_whole" in self.__dict__:
            self._whole.to(device)
        self._own.clear()
        return self

    def _opened(self, submodel: Submodel) -> VisionTransformer:
        """A plain timm ViT whose weights are views of what was read, as those of other submodels are."""
        if self._calibrated and submodel not in self._folded and submodel != self.backbone.full:
            return self._whole.extract(submodel)  # its biases depend on weights that it does not have
        plain = extract(self._shapes, submodel)
        own = self._of_one(FOLDED, submodel) | self._of_one(BY_SIZE, submodel)
        places, sources = places_of(self._shapes, submodel), source_names(submodel)
        state = {
            name: value if (value := own.get(name)) is not None else self.weights.part(sources(name), axes)
            for name, axes in places.items()
        }
        plain.load_state_dict(state, assign=True)
        return plain.eval()

    def _of_one(self, start: str, submodel: Submodel) -> dict[str, Tensor]:
        """Tensors that a single member has."""
        start = f"{start}{submodel}/"
        return {name.removeprefix(start): self.weights.read(name) for name in self.weights.names(start)}


def source_names(submodel: Submodel) -> Callable[[str], str]:
    """Function from a name in an extracted submodel, which lacks empty blocks, to that of the tensor in the file."""
    kept = [layer for layer, widths in enumerate(zip(submodel.heads, submodel.mlp, strict=True)) if any(widths)]

    def source(name: str) -> str:
        first, *rest = name.split(".")
        if first == "blocks":
            rest[0] = str(kept[int(rest[0])])
        return SHARED + ".".join([first, *rest])

    return source


def places_of(vit: NestedViT, submodel: Submodel) -> dict[str, Axes]:
    """Places of the values of an extracted submodel's parameters, by their names there, along each axis of the nested
    ones: what is extracted of parameters whose values are these places.
    """
    axes: dict[str, Axes] = {}
    for axis in range(max(parameter.ndim for parameter in vit.parameters())):
        traced = deepcopy(vit)
        for part in traced.modules():
            part._parameters.update({name: _numbered(p, axis) for name, p in part._parameters.items() if p is not None})
        for name, values in extract(traced, submodel).named_parameters():
            if axis < values.ndim:
                row = values.detach().movedim(axis, 0).flatten(1)[:, 0] if values.ndim > 1 else values.detach()
                axes[name] = (*axes.get(name, ()), tuple(map(int, row.tolist())))
    return axes


def _numbered(parameter: Tensor, axis: int) -> nn.Parameter:
    """A parameter of this shape whose values count along one axis; it takes the memory of this axis alone."""
    if axis >= parameter.ndim:
        return nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False)
    shape = [-1 if at == axis else 1 for at in range(parameter.ndim)]
    count = torch.arange(parameter.shape[axis], dtype=torch.float32).view(shape)
    return nn.Parameter(count.expand(parameter.shape), requires_grad=False)
