"""Limits that members are made for: absolute ones of any kind, in the place of fractions of the MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
from torch import nn

from eavit import methods
from eavit.deploy.activations import LayerPeaks
from eavit.deploy.elastic import ElasticModel, Timed, image_shape_of
from eavit.deploy.latency import Profile
from eavit.deploy.limits import Count, Limits, sizes_of, target_of, unreachable
from eavit.methods.recipe import Recipe
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.space.space import Space
from eavit.training.task import Target

Within = Mapping[str, float] | Sequence[Mapping[str, float]]

DIGESTED = 64  # submodels whose milliseconds name a profile


@dataclass(frozen=True, slots=True)
class Wanted:
    """Limits of an adaptation, each with the target that its member fills; none: budgets hold."""

    limits: tuple[Limits, ...] = ()
    targets: tuple[Target, ...] = ()
    profile: Timed | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)  # what the files of a run depend on


def wanted_of(within: Within | None, recipe: Recipe, model: nn.Module, profile: Timed | None) -> Wanted:
    """Checked limits. ValueError on an unknown kind, a method that cannot make members for them, or limits that the
    full model keeps; UnreachableError where the smallest submodel does not keep them.
    """
    if within is None:
        if profile is not None:
            raise ValueError("profile is for limits in milliseconds: give them too, within={'latency_ms': 8}")
        return Wanted()
    limits = limits_in(within)
    if recipe.space is None or not recipe.fills:
        raise ValueError(
            f"method {recipe.name} with these options makes members for budgets of MACs only, not within limits; "
            f"methods that do: {', '.join(_filling())}, with one member for each limit and their own selector"
        )
    vit = NestedViT.from_timm(model)
    others: dict[str, Count] = {"activation_mib": LayerPeaks(vit, image_shape_of(vit))}
    if any(each.latency_ms is not None for each in limits):
        if profile is None:
            raise ValueError("limit latency_ms needs a profile of the device: profile=eavit.profile_latency(model)")
        profile.check(vit.backbone)
        others["latency_ms"] = profile.latency_ms
    elif profile is not None:
        raise ValueError("profile is for limits in milliseconds, and within has none: add latency_ms")
    space = recipe.space(vit.backbone, ())
    for each in limits:
        _check_reach(each, vit, space, {name: count for name, count in others.items() if name in each.asked})
    targets = tuple(target_of(each, vit.backbone, others) for each in limits)
    inputs: dict[str, Any] = {"within": [dict(each.asked) for each in limits]}
    if profile is not None:
        inputs["profile"] = _digest(profile, space)
    return Wanted(limits, targets, profile, inputs)


def _filling() -> list[str]:
    """Names of the methods that make members for limits."""
    return [name for name in methods.__all__ if getattr(methods, name)().fills]


def limits_in(within: Within) -> tuple[Limits, ...]:
    """One mapping from kind to limit, or several: of each one member."""
    tables = [within] if isinstance(within, Mapping) else list(within)
    for table in tables:
        if not isinstance(table, Mapping):
            raise ValueError(f"within: {table!r} is no mapping from a kind to its limit, such as {{'latency_ms': 8}}")
    limits = tuple(Limits.of(table) for table in tables)
    if not limits or len({*map(str, limits)}) != len(limits):
        raise ValueError(f"within={within}: at least one set of limits, and each once")
    return limits


def _check_reach(limits: Limits, vit: NestedViT, space: Space, others: Mapping[str, Count]) -> None:
    smallest, full = (sizes_of(vit.backbone, s, others) for s in (space.smallest, vit.backbone.full))
    if any(limits.exceeded(smallest)):
        raise unreachable(limits, [smallest])
    if not any(limits.exceeded(full)):
        taken = ", ".join(f"{name}={full[name]:.4g}" for name in limits.asked)
        raise ValueError(
            f"within: {limits}: the full model keeps this, it takes {taken}; it is always a member, so ask for less"
        )


def _digest(profile: Timed, space: Space) -> str:
    """16 hex digits that name a profile by what it says."""
    rng = np.random.default_rng(0)
    said = [profile.latency_ms(s) for s in (space.smallest, *(space.sample(rng) for _ in range(DIGESTED)))]
    return sha256(repr(said).encode()).hexdigest()[:16]


def recorded(elastic: ElasticModel, wanted: Wanted, filled: Sequence[Submodel]) -> ElasticModel:
    """The family with a record of the limits that its members were made for, and what each takes of them."""
    rows = []
    for limits, submodel in zip(wanted.limits, filled, strict=True):
        (sizes,) = elastic.limited_sizes([submodel], limits, wanted.profile)
        takes = {name: sizes[name] for name in limits.asked}
        rows.append({"limits": dict(limits.asked), "submodel": str(submodel), "takes": takes})
    method = {**elastic.table.method, "within": rows}
    if isinstance(wanted.profile, Profile):
        method["profile"] = {**asdict(wanted.profile.setting), "machine": dict(wanted.profile.machine)}
    return ElasticModel(elastic.vit, replace(elastic.table, method=method), elastic.by_size)
