"""A method of this library as a value: its name, the function that adapts a task, and its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any, Literal

from torch import nn

from eavit.methods.answers import Adapted
from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT
from eavit.space.space import Space
from eavit.training.task import Spent

Source = Literal["paper", "code", "ours"]
SpaceOf = Callable[[Backbone, Sequence[float]], Space]  # of full widths and budgets


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
    space: SpaceOf | None = None  # of the submodels that answer budgets; None: not one space
    after: tuple[int, float] = (0, inf)  # how many methods it may come after in a suite
    regimes: tuple[str, ...] = ("equal_steps", "equal_macs")
    least_batch: int = 1  # images that a step must have
    fills: bool = False  # makes members for targets of any measure; reports them as ``filled``
    accept: Callable[[NestedViT], object] | None = None  # raises ValueError for a backbone that it cannot adapt
    api: int = 1  # version of the contract with the bench

    @property
    def card(self) -> Mapping[str, Any]:
        """The card as plain values; empty without one."""
        return {} if self.about is None else self.about.as_dict()

    def adapt(self, task: Any) -> Adapted:
        """Run the method on a task, whose ledger gets all that is spent."""
        return self.run(replace(task, ledger=Spent(onward=task.ledger)))

    def check(
        self,
        backbone: nn.Module,
        budgets: Sequence[float],
        after: Sequence[str],
        regime: str,
        batch: int | None = None,
    ) -> list[str]:
        """Budgets that no submodel reaches, as text. ValueError where no task can be adapted: a backbone that cannot be
        nested, too few or too many methods in ``after``, another regime, or too few images in the batch of a step.
        """
        if batch is not None and batch < self.least_batch:
            raise ValueError(
                f"{self.name} with these options needs {self.least_batch} images in a step; batch is {batch}"
            )
        if not self.after[0] <= len(after) <= self.after[1]:
            wanted = "one method" if self.after == (1, 1) else f"{self.after[0]} or more methods"
            raise ValueError(f"{self.name} comes after {wanted}, whose choices it trains; `after` names {len(after)}")
        if regime not in self.regimes:
            raise ValueError(
                f"{self.name} with these options follows the loss, so its cost is not known before; it needs regime = "
                f"{' or '.join(map(repr, self.regimes))}"
            )
        vit = NestedViT.from_timm(backbone)
        if self.accept is not None:
            self.accept(vit)
        shape = vit.backbone
        if self.space is None:
            return []
        least = cost.share(shape, self.space(shape, budgets).smallest)
        missed = [f"{budget:g}" for budget in budgets if budget * (1 + 1e-9) < least]
        warning = f"budgets {', '.join(missed)} cannot be reached: its smallest submodel takes {least:.3f}"
        return [warning] if missed else []
