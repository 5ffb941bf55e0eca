"""What recipes are made of: training, searching and retraining on a task, and what an adaptation answers.

Each part keeps what it finished in the task's workdir, so that a killed cell goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from eavit.samplers import Always, Sampler
from eavit.search import Front, Point, nsga2
from eavit.space import Space
from eavit.submodel import Submodel
from eavit.task import Ledger, Task
from eavit.train import Fit, Saving, Span, accuracy, fit_submodels, schedule_of
from eavit.vit import NestedViT, extract


@dataclass(frozen=True, slots=True)
class Elastic:
    """One trained family: a policy picks the submodel, the module is cut from the shared weights."""

    vit: NestedViT
    policy: Callable[[float], Submodel | None]
    findings: Mapping[str, Any] = field(default_factory=dict)

    def select(self, budget: float) -> Submodel | None:
        return self.policy(budget)

    def module(self, choice: Submodel) -> nn.Module:
        deployed: nn.Module = extract(self.vit, choice).eval()
        return deployed

    def report(self) -> Mapping[str, Any]:
        return self.findings


@dataclass(frozen=True, slots=True)
class Retrained:
    """One model trained alone for each budget."""

    shapes: Mapping[float, Submodel | None]
    modules: Mapping[Submodel, nn.Module]

    def select(self, budget: float) -> Submodel | None:
        return self.shapes[budget]

    def module(self, choice: Submodel) -> nn.Module:
        return self.modules[choice]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method of this library: a name, and a function from a task to what was adapted."""

    name: str
    run: Callable[[Any], Elastic | Retrained]

    def adapt(self, task: Any) -> Elastic | Retrained:
        return self.run(task)


def fit_on(task: Task, name: str, total: int | None = None, before: int = 0) -> Fit:
    """A fit on the task's fit split with its own checkpoint; ``before`` of the task's steps went to earlier stages,
    which share one cycle of the learning rate with it.
    """
    saving = Saving(task.workdir / f"{name}.safetensors")
    span = Span(before, steps_of(task))
    schedule = schedule_of(task.schedule)
    return Fit(task.fit, schedule, task.seed, total, saving, task.ledger, task.progress, name, span)


def steps_of(task: Task) -> int:
    return schedule_of(task.schedule).steps(len(task.fit))


def train_on(task: Task, vit: NestedViT, sampler: Sampler, name: str = "train", total: int | None = None) -> None:
    with task.ledger.phase("train"):
        fit_submodels(vit, sampler, fit_on(task, name, total))


@dataclass(frozen=True, slots=True)
class Search:
    """Budget of the common search, the same for every method that searches."""

    population: int = 40
    generations: int = 12


def search_on(task: Task, vit: NestedViT, space: Space, search: Search) -> tuple[Front, float]:
    """NSGA-II on fold A, front re-estimated on fold B, with the optimism; kept beside the checkpoints."""
    kept = task.workdir / "search.json"
    with task.ledger.phase("search"):
        if kept.exists():
            return _read_front(kept, task.ledger)
        spent = _Tally(task.ledger)
        front = nsga2(
            space,
            lambda submodel: accuracy(vit, submodel, task.select_a, spent),
            population=search.population,
            generations=search.generations,
            seed=task.seed,
            progress=partial(task.progress, "search"),
        )
        front, optimism = front.reestimate(lambda submodel: accuracy(vit, submodel, task.select_b, spent))
        _write_front(kept, front, optimism, spent)
    return front, optimism


_SIDES = ("points", "cover")  # of a Front, as kept in search.json


class _Tally:
    """Passes on to a ledger and remembers, so that a resumed cell can charge what an earlier run spent."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.forward_macs, self.images = ledger, 0.0, 0

    def phase(self, name: str) -> Any:
        return self.ledger.phase(name)

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        self.forward_macs += forward_macs
        self.images += images
        self.ledger.add(forward_macs=forward_macs, backward_macs=backward_macs, images=images, steps=steps)


def _write_front(path: Path, front: Front, optimism: float, spent: _Tally) -> None:
    sides = {name: [[str(p.submodel), p.macs, p.share, p.fitness] for p in getattr(front, name)] for name in _SIDES}
    table = sides | {"evaluations": front.evaluations, "optimism": optimism}
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(table | {"forward_macs": spent.forward_macs, "images": spent.images}))
    draft.replace(path)


def _read_front(path: Path, ledger: Ledger) -> tuple[Front, float]:
    table = json.loads(path.read_text())
    ledger.add(forward_macs=table["forward_macs"], images=table["images"])
    sides = {name: tuple(Point(Submodel.parse(key), *values) for key, *values in table[name]) for name in _SIDES}
    return Front(evaluations=table["evaluations"], **sides), table["optimism"]


def front_policy(front: Front) -> Callable[[float], Submodel | None]:
    def choose(budget: float) -> Submodel | None:
        point = front.best(budget)
        return None if point is None else point.submodel

    return choose


def front_report(front: Front, optimism: float) -> dict[str, Any]:
    points = [[str(p.submodel), round(p.share, 6), round(p.fitness, 6)] for p in front.points]
    return {"front": points, "evaluations": front.evaluations, "optimism": round(optimism, 6)}


def retrain_on(task: Task, vit: NestedViT, shapes: Mapping[float, Submodel | None]) -> Retrained:
    """Each shape sliced from the prepared weights and trained alone with the full schedule."""
    modules: dict[Submodel, nn.Module] = {}
    distinct = dict.fromkeys(s for s in shapes.values() if s is not None)
    for number, shape in enumerate(distinct, 1):
        alone = deepcopy(vit)
        space = replace(
            Space.eavit(vit.backbone),
            embeds=(shape.embed,),
            heads=tuple(sorted({h for h in shape.heads if h})) or (vit.backbone.heads,),
            mlps=tuple(sorted({m for m in shape.mlp if m})) or (vit.backbone.mlp,),
        )
        train_on(task, alone, Always(space, (space.require(shape),)), f"train-{number}-of-{len(distinct)}")
        modules[shape] = extract(alone, shape).eval()
    return Retrained(shapes, modules)
