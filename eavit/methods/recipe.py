"""A method of this library as a value: its name, the function that adapts a task, and its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from eavit.methods.answers import Adapted
from eavit.training.task import Spent

Source = Literal["paper", "code", "ours"]


@dataclass(frozen=True, slots=True)
class Card:
    """Source of a method and what it fixes. ``parameters``: name -> (value, who says so). ``ours``: what
    no source fixes. ``deviations``: where this method differs from its source, and why.
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

    def with_values(self, values: Mapping[str, Any]) -> Card:
        """The card of a recipe with these values of its options."""
        known = {name: (value, self.parameters.get(name, (None, "ours"))[1]) for name, value in values.items()}
        return replace(self, parameters={**self.parameters, **known})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for records and tables."""
        table = asdict(self)
        table["parameters"] = {name: list(pair) for name, pair in self.parameters.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in table.items()}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method that the bench and :mod:`eavit` can run."""

    name: str
    run: Callable[[Any], Adapted]
    about: Card | None = None
    api: int = 1  # version of the contract with the bench

    @property
    def card(self) -> Mapping[str, Any]:
        return {} if self.about is None else self.about.as_dict()

    def adapt(self, task: Any) -> Adapted:
        return self.run(replace(task, ledger=Spent(onward=task.ledger)))
