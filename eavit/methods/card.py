"""A method's card: where it comes from, what its source fixes, what is ours, where we deviate. Tables can print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Source = Literal["paper", "code", "ours"]


@dataclass(frozen=True, slots=True)
class Card:
    """``parameters``: name -> (value, who says so). ``ours``: what no source fixes. ``deviations``: where this method
    differs from its source, and why.
    """

    title: str
    paper: str  # title, venue, arXiv number
    code: str  # owner/name of the public code, or "none public"
    elastic: str  # what varies between submodels
    step: str  # what one optimiser step trains, and its cost with a full-size step as 1
    distillation: str
    selection: str  # the source's own way from a budget to a submodel
    parameters: Mapping[str, tuple[Any, Source]] = field(default_factory=dict)
    ours: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for records and tables."""
        table = asdict(self)
        table["parameters"] = {name: list(pair) for name, pair in self.parameters.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in table.items()}
