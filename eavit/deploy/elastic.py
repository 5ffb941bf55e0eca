"""An adapted family: one set of weights, its members with their measured accuracy, and the choice under limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from scipy.stats import binomtest
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from eavit.deploy.activations import peak_activation_bytes
from eavit.deploy.limits import Count, Limits, sizes_of, unreachable
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract


@dataclass(frozen=True, slots=True)
class MeasuredMember:
    """A submodel of the family's policy with its result on the validation images."""

    submodel: Submodel
    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy on images like these."""
        low, high = binomtest(self.correct, self.n).proportion_ci(method="wilson")
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Validation:
    """The images that accuracies were measured on: how many, their SHA-256, and what they were used for."""

    images: int
    sha256: str
    role: str = "selection"


class Timed(Protocol):
    """A latency profile: milliseconds of a submodel on the profiled device."""

    def check(self, backbone: Backbone) -> None: ...
    def latency_ms(self, submodel: Submodel) -> float: ...


# Choices by limits and the id of their profile, which is kept with them: another one would get its id.
Choices = dict[tuple[Any, ...], tuple[Submodel, Timed | None]]


@dataclass(frozen=True, slots=True)
class FamilyRecord:
    """Record of a family beside its weights: members, validation, preprocessing, sources."""

    members: tuple[MeasuredMember, ...]  # by ascending MACs
    budgets: Mapping[float, str | None]  # the method's own choice for each budget that was asked; None: unreachable
    validation: Validation
    data: Mapping[str, Any] = field(default_factory=dict)  # preprocessing, by timm's names
    classes: tuple[str, ...] = ()
    method: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)  # of the pretrained weights: timm's pretrained_cfg
    space: Mapping[str, Any] | None = None
    router: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("a family has no member: every budget is unreachable; ask for a larger budget")


class ElasticModel:
    """One ViT in many sizes: what :func:`eavit.adapt` and :func:`eavit.load` return.

    ``elastic(images, budget=0.4)`` runs the submodel chosen for a budget, without loading or copying weights.
    ``by_size``: parameters that single members have instead of the shared ones, by member and name.
    """

    def __init__(
        self, vit: NestedViT, table: FamilyRecord, by_size: Mapping[Submodel, Mapping[str, Tensor]] | None = None
    ) -> None:
        self.vit, self.table = vit.eval(), table
        self.by_size = dict(by_size or {})
        self._own: dict[Submodel, VisionTransformer] = {}
        self._chosen: Choices = {}
        self._activations: dict[Submodel, float] = {}

    @property
    def backbone(self) -> Backbone:
        backbone: Backbone = self.vit.backbone
        return backbone

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return image_shape_of(self.vit)

    @property
    def members(self) -> tuple[MeasuredMember, ...]:
        """The members by ascending MACs."""
        return self.table.members

    @property
    def accuracy(self) -> dict[float, float | None]:
        """Accuracy on the validation images of the choice for each budget; None: unreachable."""
        return {b: self._accuracy(b) for b in self.table.budgets}

    def _accuracy(self, budget: float) -> float | None:
        if self.table.budgets[budget] is None:
            return None
        return self.member(budget=budget).accuracy

    def member(self, *, profile: Timed | None = None, **limits: float) -> MeasuredMember:
        """The most accurate member within all limits, the cheapest of equals; UnreachableError if there is none."""
        return self.fitting(Limits.of(limits), profile)[0]

    def fitting(self, limits: Limits, profile: Timed | None = None) -> list[MeasuredMember]:
        """The members within all limits, the best first; UnreachableError if there is none."""
        sizes = self.limited_sizes([m.submodel for m in self.members], limits, profile)
        kept = [m for m, size in zip(self.members, sizes, strict=True) if not [*limits.exceeded(size)]]
        if not kept:
            raise unreachable(limits, sizes)
        return sorted(kept, key=lambda m: (-m.accuracy, cost.macs(self.backbone, m.submodel)))

    def limited_sizes(
        self, submodels: Sequence[Submodel], limits: Limits, profile: Timed | None
    ) -> list[dict[str, float]]:
        """Sizes of submodels, of what is costly to know only what the limits ask for."""
        if limits.latency_ms is not None and profile is None:
            raise ValueError(
                "limit latency_ms needs a profile of the device: profile=eavit.Profile.load(file), or "
                "eavit.profile_latency(elastic)"
            )
        every = self._measures(profile)
        measures = {name: measure for name, measure in every.items() if name in limits.asked}
        return [sizes_of(self.backbone, submodel, measures) for submodel in submodels]

    def sizes(self, submodel: Submodel, profile: Timed | None = None) -> dict[str, float]:
        """All that limits can be set on, by their names; milliseconds where there is a profile."""
        return sizes_of(self.backbone, submodel, self._measures(profile))

    def _measures(self, profile: Timed | None) -> dict[str, Count]:
        measures: dict[str, Count] = {"activation_mib": self._activation_mib}
        if profile is not None:
            profile.check(self.backbone)
            measures["latency_ms"] = profile.latency_ms
        return measures

    def _activation_mib(self, submodel: Submodel) -> float:
        if submodel not in self._activations:
            plain = extract(self.vit, submodel).eval().cpu()
            self._activations[submodel] = peak_activation_bytes(plain, self.image_shape) / 2**20
        return self._activations[submodel]

    def choose(self, *, profile: Timed | None = None, **limits: float) -> Submodel:
        """The submodel within ``budget=``, ``macs=``, ``params=``, ``mib=``, ``activation_mib=``, ``latency_ms=``, one
        or several of them.
        """
        return self.member(profile=profile, **limits).submodel

    def extract(
        self, submodel: Submodel | str | None = None, *, profile: Timed | None = None, **limits: float
    ) -> VisionTransformer:
        """A plain timm ViT with its own weights, in eval mode: of a submodel, or of the choice under limits."""
        if submodel is None:
            submodel = self.choose(profile=profile, **limits)
        elif limits:
            raise ValueError(f"extract takes a submodel or limits, not both: {submodel} and {Limits.of(limits)}")
        return self._extracted(self.backbone.check(submodel))

    def _extracted(self, submodel: Submodel) -> VisionTransformer:
        plain = extract(self.vit, submodel).eval()
        own = self.by_size.get(submodel, {})
        if own:
            plain.load_state_dict({**plain.state_dict(), **own})
        return plain

    @torch.inference_mode()
    def __call__(
        self, images: Tensor, submodel: Submodel | str | None = None, *, profile: Timed | None = None, **limits: float
    ) -> Tensor:
        """Logits (b, classes) of a submodel, of the choice under limits, or of the full model."""
        if submodel is None and limits:
            key = (id(profile), *sorted(limits.items()))
            if key not in self._chosen:
                self._chosen[key] = self.choose(profile=profile, **limits), profile
            submodel, _ = self._chosen[key]
        chosen = self.backbone.full if submodel is None else self.backbone.check(submodel)
        if self._shares_weights(chosen):
            logits: Tensor = self.vit(images, chosen)
            return logits
        self.ready(chosen)
        own: Tensor = self._own[chosen].to(images.device)(images)
        return own

    def ready(self, submodel: Submodel) -> None:
        """Build a submodel that does not share its weights before it is first called."""
        if submodel not in self._own and not self._shares_weights(submodel):
            self._own[submodel] = self._opened(submodel)

    def _opened(self, submodel: Submodel) -> VisionTransformer:
        """A submodel to be run: one that does not share its weights."""
        return self._extracted(submodel)

    def _shares_weights(self, submodel: Submodel) -> bool:
        """Return whether a submodel is a slice of weights that are here."""
        return submodel not in self.by_size

    def to(self, device: torch.device | str) -> ElasticModel:
        """The same family with its weights moved to a device, in place."""
        self.vit.to(device)
        self._own.clear()
        return self

    def save(self, folder: str | Path) -> Path:
        """Write the family to a folder, for :func:`eavit.load`; an older family there stays if anything fails."""
        artifact: Any = import_module("eavit.deploy.artifact")
        saved: Path = artifact.save_family(self, folder)
        return saved

    def rows(self, profile: Timed | None = None) -> list[dict[str, Any]]:
        """One row for each member, by ascending MACs: key, sizes, accuracy with its interval."""
        rows = []
        for m in self.members:
            sizes = self.sizes(m.submodel, profile)
            low, high = m.interval
            result = {"accuracy": m.accuracy, "correct": m.correct, "n": m.n, "low": low, "high": high}
            rows.append({"submodel": str(m.submodel), **sizes, **result})
        return rows

    def __repr__(self) -> str:
        smallest, largest = self.members[0], self.members[-1]
        return (
            f"ElasticModel({len(self.members)} members from {smallest.submodel} ({smallest.accuracy:.1%}) to "
            f"{largest.submodel} ({largest.accuracy:.1%}) on {self.table.validation.images} images)"
        )


def image_shape_of(vit: NestedViT) -> tuple[int, int, int]:
    """Channels, height and width of the images that a ViT takes."""
    stem: Any = vit.patch_embed
    height, width = stem.img_size
    return stem.proj.in_channels, height, width


def ascending(backbone: Backbone, members: Sequence[MeasuredMember]) -> tuple[MeasuredMember, ...]:
    """Members by ascending MACs, each submodel once."""
    return tuple(sorted({m.submodel: m for m in members}.values(), key=lambda m: cost.macs(backbone, m.submodel)))
