"""Limits on a submodel: budget, MACs, parameters, MiB of weights and of activations, ms; one or several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from eavit.model import cost
from eavit.model.cost import Measure
from eavit.model.submodel import Backbone, Submodel
from eavit.options import nearest_hint
from eavit.training.task import Target

Count = Callable[[Submodel], float]
BYTES = 4  # of one parameter
UNITS = {
    "budget": "of the full model's MACs",
    "macs": "MACs",
    "params": "parameters",
    "mib": "MiB of weights",
    "activation_mib": "MiB of activations",
    "latency_ms": "ms",
}


class UnreachableError(ValueError):
    """No submodel keeps to the limits; the message says what the smallest one takes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits that a submodel has to keep; None: no limit.

    ``budget``: a fraction of the full model's MACs; ``mib``: float32 weights on disk; ``activation_mib``: the peak of a
    forward pass on one image (:mod:`eavit.deploy.activations`); ``latency_ms``: one call on the profiled device.
    """

    budget: float | None = None
    macs: float | None = None
    params: float | None = None
    mib: float | None = None
    activation_mib: float | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.asked.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ValueError(f"limit {name}={value!r}: must be a number above 0")

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Limits:
        """Limits of a table; ValueError on an unknown kind, and if there is none."""
        known = [field.name for field in fields(cls)]
        for name in table:
            if name not in known:
                raise ValueError(f"limit {name} is unknown; allowed: {', '.join(known)}{nearest_hint(name, known)}")
        limits = cls(**table)
        if not limits.asked:
            raise ValueError(f"no limit is given; give one or more of {', '.join(known)}")
        return limits

    @property
    def asked(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def exceeded(self, sizes: Mapping[str, float]) -> Iterator[str]:
        """Limits that a submodel of these sizes (:func:`sizes_of`) exceeds."""
        for name, limit in self.asked.items():
            if sizes[name] > limit * (1 + 1e-9):
                yield name

    def __str__(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.asked.items())


def counts_of(backbone: Backbone) -> dict[str, Count]:
    """Functions for all kinds that follow from a submodel's widths."""
    return {
        "budget": partial(cost.share, backbone),
        "macs": partial(cost.macs, backbone),
        "params": partial(cost.params, backbone),
        "mib": lambda submodel: cost.params(backbone, submodel) * BYTES / 2**20,
    }


def sizes_of(backbone: Backbone, submodel: Submodel, others: Mapping[str, Count] = {}) -> dict[str, float]:
    """Everything of a submodel that can be limited, by the names of :class:`Limits`; ``others``: functions for what
    does not follow from its widths.
    """
    return {name: float(count(submodel)) for name, count in {**counts_of(backbone), **others}.items()}


def target_of(limits: Limits, backbone: Backbone, others: Mapping[str, Count] = {}) -> Target:
    """Target of a member that uses limits up. Of several that one counts which a submodel takes most of; limits in
    one proportion to each other have one measure.
    """
    counts, asked = {**counts_of(backbone), **others}, dict(limits.asked)
    if "budget" in asked:
        macs = asked.pop("budget") * cost.macs(backbone, backbone.full)
        asked = {"macs": min(macs, asked.pop("macs", macs)), **asked}
    unit = next(iter(asked.values()))
    weights = [(name, unit / limit) for name, limit in asked.items()]

    def size(submodel: Submodel) -> float:
        return max(counts[name](submodel) * weight for name, weight in weights)

    name, full = ", ".join(f"{weight!r} {name}" for name, weight in weights), size(backbone.full)
    measure = Measure.of_macs(backbone) if [*asked] == ["macs"] else Measure(name, size, full)
    return Target(measure, unit / full)


def unreachable(limits: Limits, sizes: list[dict[str, float]]) -> UnreachableError:
    """Error that names for each limit which alone excludes every submodel what the smallest one takes; where none does,
    for each what the smallest takes of those that keep the others.
    """
    exceeded = [{*limits.exceeded(each)} for each in sizes]
    alone = [name for name in limits.asked if all(name in over for over in exceeded)]
    said = [_least(name, limits, sizes, "the smallest takes") for name in alone]
    if not said:
        for name in limits.asked:
            others = [each for each, over in zip(sizes, exceeded, strict=True) if not over - {name}]
            if others:
                said.append(_least(name, limits, others, "the smallest that keeps the others takes"))
        said = ["each limit can be kept alone, but not all of them together; loosen one", *said]
    whole = "" if len(limits.asked) == 1 else f"{limits}: "
    return UnreachableError(f"no submodel keeps to {whole}{'; '.join(said)}")


def _least(name: str, limits: Limits, sizes: Iterable[Mapping[str, float]], who: str) -> str:
    return f"{name}={limits.asked[name]:g}: {who} {min(each[name] for each in sizes):.4g} {UNITS[name]}"
