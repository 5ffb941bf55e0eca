"""Answers of an adaptation: from a budget to a choice, from a choice to a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract

Choice = TypeVar("Choice")


class Adapted(Protocol):
    """Result of an adaptation; the contract is ``harness.protocol.Adapted``."""

    def select(self, budget: float) -> Any | None: ...
    def module(self, choice: Any) -> nn.Module: ...


@dataclass(frozen=True, slots=True)
class Elastic:
    """One trained family: a policy picks the submodel, ``cut`` makes its module from the shared weights."""

    vit: NestedViT
    policy: Callable[[float], Submodel | None]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    cut: Callable[[NestedViT, Submodel], nn.Module] = extract

    def select(self, budget: float) -> Submodel | None:
        """The choice for a budget; None: unreachable."""
        return self.policy(budget)

    def module(self, choice: Submodel) -> nn.Module:
        """The plain module of a choice, in eval mode, with its own copy of the weights."""
        return self.cut(self.vit, choice).eval()

    @torch.inference_mode()
    def logits(self, images: Tensor, choice: Submodel) -> Tensor:
        """Logits of the shared weights, sliced in place: the bench compares them with :meth:`module`."""
        answer: Tensor = self.vit.eval()(images.to(next(self.vit.parameters()).device), choice)
        return answer

    def report(self) -> Mapping[str, Any]:
        """Diagnostics for the record."""
        return self.diagnostics

    def save(self, folder: Path, task: Any, about: Mapping[str, Any]) -> None:
        """Write the family as :func:`eavit.load` reads it. Imported late: how it is kept is no part of a method's code,
        from which the bench makes the ids of its cells.
        """
        import_module("eavit.deploy.keep").save_adapted(self, folder, task, about)


@dataclass(frozen=True, slots=True)
class Retrained(Generic[Choice]):
    """Models that were trained alone, one for each choice. Between two budgets the smaller one's model answers."""

    choices: Mapping[float, Choice | None]
    modules: Mapping[Choice, nn.Module]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def select(self, budget: float) -> Choice | None:
        """The choice of the largest declared budget at or under this one; None: unreachable."""
        served = max((b for b in self.choices if b <= budget), default=None)
        return None if served is None else self.choices[served]

    def module(self, choice: Choice) -> nn.Module:
        """The model that was trained for a choice."""
        return self.modules[choice]

    def report(self) -> Mapping[str, Any]:
        """Diagnostics for the record."""
        return self.diagnostics
