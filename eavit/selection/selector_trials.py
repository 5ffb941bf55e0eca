"""Trials of a selector on drawn accuracies, without training: the bench calls them in a child process, by name."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import torch

from eavit.model.importance import Scores
from eavit.model.submodel import Backbone, Submodel
from eavit.options import keyed, whole
from eavit.selection.front import Fitness
from eavit.selection.own_selectors import (
    EVALUATIONS_NAME,
    SelectorFactory,
    make_selector,
    needs_scores,
    selector_factory,
)
from eavit.selection.selectors import SELECTORS, Problem, Selection
from eavit.space.product import ProductSpace
from eavit.space.sizes import ListSpace
from eavit.space.space import Space

BACKBONE = Backbone(48, 6, 8, 64, 4, 17, 4, patch_pixels=16)
PRODUCT = ProductSpace.eavit(BACKBONE, 0.5)
SIZES = ListSpace.chain(BACKBONE, [Submodel(8 * k, (k,) * 4, (64 * k // 6,) * 4) for k in range(2, 7)])
LIMITS = (60, 20)  # of evaluations, unless the options say otherwise
UNREACHABLE = 0.02
BUDGETS = (UNREACHABLE, 0.3, 0.5, 0.75, 1.0)
ASKED = (*BUDGETS, *map(float, np.geomspace(0.1, 1.0, 33)))  # also budgets between those of the problem
CODE = (".py", ".pyc", ".so")  # endings of files that imports open
SYSTEM = ("/proc/", "/sys/", "/dev/", sys.prefix, sys.base_prefix)


def selector_trials(request: Mapping[str, Any]) -> list[list[str]]:
    """Rules in the order of their trial, each as ``[rule, what was seen, fault]``, the fault empty where it is kept;
    the rules after a broken one are not tried.

    ``request``: ``use`` of the selector, and ``options``, which may hold ``evaluations``.
    """
    tried: list[list[str]] = []
    trials = _Trials.of(request["use"], request["options"])
    for rule, trial in trials.rules().items():
        try:
            tried.append([rule, trial(), ""])
        except _RuleError as error:
            return [*tried, [rule, "", str(error)]]
        except Exception as error:  # a selector of others may raise anything
            return [*tried, [rule, "", f"{type(error).__name__}: {error}"]]
    return tried


class _RuleError(Exception):
    """Raised where a selector breaks a rule: why."""


@dataclass(slots=True)
class _OpenedFiles:
    """Audit hook: names of files that are opened while ``watching``, but for code and what belongs to the system."""

    watching: bool = False
    names: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.watching and event == "open" and isinstance(arguments[0], str):
            name = arguments[0]
            if not name.endswith(CODE) and not name.startswith(SYSTEM):
                self.names.append(name)


@dataclass(frozen=True, slots=True)
class _Trials:
    """Trials of a factory; ``limits``: numbers of evaluations that it is tried with."""

    factory: SelectorFactory
    limits: tuple[int, ...]
    files: _OpenedFiles = field(default_factory=_OpenedFiles)

    @classmethod
    def of(cls, use: str, options: Mapping[str, Any]) -> _Trials:
        table = keyed("--options", options, (EVALUATIONS_NAME,))
        limits = tuple(whole(EVALUATIONS_NAME, value, 1) for value in table.values()) or LIMITS
        trials = cls(selector_factory("select", use, tuple(SELECTORS)), limits)
        sys.addaudithook(trials.files)
        return trials

    def rules(self) -> dict[str, Callable[[], str]]:
        """Rule -> its trial, which tells what was seen."""
        return {
            "it gives a selection, with at most its number of evaluations": self._evaluations,
            "each choice is a member of the space within its budget": self._members,
            "it gives None where no member is within any budget": self._unreachable,
            "it chooses from a space that is a list of sizes": self._sizes,
            "the same problem gives the same choices": self._same,
            "it opens no file: accuracies come from the problem alone": self._files,
        }

    def _evaluations(self) -> str:
        counts = [f"{self._select(limit).evaluations} of {limit}" for limit in self.limits]
        measures = EVALUATIONS_NAME in signature(self.factory).parameters
        return ", ".join(counts) if measures else "it measures nothing"

    def _members(self) -> str:
        reached = [f"{100 * budget:g}" for budget, key in zip(BUDGETS, self._choices(), strict=False) if key]
        if not reached:
            raise _RuleError("every choice is None")
        return f"at {', '.join(reached)} % of the MACs"

    def _unreachable(self) -> str:
        self._choices(budgets=BUDGETS[:1])
        return ""

    def _sizes(self) -> str:
        self._choices(SIZES)
        return ""

    def _same(self) -> str:
        if self._choices() != self._choices(global_seed=1):
            raise _RuleError("a second run chose others: draw from problem.rng alone")
        return ""

    def _files(self) -> str:
        if self.files.names:
            raise _RuleError(f"it opened {', '.join(sorted(set(self.files.names))[:3])}")
        return ""

    def _choices(
        self, space: Space = PRODUCT, budgets: tuple[float, ...] = BUDGETS, global_seed: int = 0
    ) -> list[str | None]:
        """Keys of the choices at ``ASKED``; ``global_seed``: seed of the global generators, which must not matter."""
        with self._watched():
            for seed in (random.seed, np.random.seed, torch.manual_seed):
                seed(global_seed)
            policy = self._select(self.limits[0], space, budgets).policy
            choices = [policy(budget) for budget in ASKED]
        return [None if choice is None else str(choice) for choice in choices]

    def _select(self, evaluations: int, space: Space = PRODUCT, budgets: tuple[float, ...] = BUDGETS) -> Selection:
        scores = _scores() if needs_scores(self.factory) else None
        problem = Problem(space, _accuracy(space, 0), _accuracy(space, 1), budgets, 0, scores)
        return make_selector(self.factory, evaluations)(problem)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        self.files.watching = True
        try:
            yield
        finally:
            self.files.watching = False


def _accuracy(space: Space, fold: int) -> Fitness:
    """A drawn accuracy that rises with every width, in steps as of 200 images."""
    b = space.backbone
    worth = np.random.default_rng(fold).dirichlet(np.ones(2 * b.depth))

    def fitness(submodel: Submodel) -> float:
        kept = np.array([*(h / b.heads for h in submodel.heads), *(m / b.mlp for m in submodel.mlp)])
        return round(200 * float((submodel.embed / b.embed) ** 0.5 * (worth @ kept**0.5))) / 200

    return fitness


def _scores() -> Scores:
    b, generator = BACKBONE, torch.Generator().manual_seed(0)
    sizes = ((b.embed,), (b.depth, b.heads), (b.depth, b.mlp))
    return Scores(*(torch.rand(size, generator=generator) for size in sizes))
