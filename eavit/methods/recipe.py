"""What recipes are made of: training, searching and retraining on a task, and what an adaptation answers.

Each part keeps what it finished in the task's workdir, so that a killed cell goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp
from typing import Any, Generic, Protocol, TypeVar
from zlib import crc32

import torch
from torch import Tensor, nn

from eavit.methods.card import Card
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract
from eavit.selection.search import Fitness, Front, Point, Quotas, nsga2
from eavit.space.product import ProductSpace
from eavit.space.space import Space
from eavit.training.checkpoint import Journal, Saving, write_whole
from eavit.training.distributed import from_main, is_main
from eavit.training.samplers import Always, Feedback, Sampler
from eavit.training.spending import Portion, Tally, budget_left, steps_of, steps_of_plan
from eavit.training.steps import Plan, as_plan
from eavit.training.task import Ledger, NoLedger, Split, Task
from eavit.training.train import Fit, Span, accuracy, charge_accuracy, fit_plan, fit_submodels, schedule_of

Choice = TypeVar("Choice")


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

    @torch.inference_mode()
    def logits(self, images: Tensor, choice: Submodel) -> Tensor:
        """What the shared weights say, sliced in place: the bench compares it with :meth:`module`."""
        answer: Tensor = self.vit.eval()(images, choice)
        return answer

    def report(self) -> Mapping[str, Any]:
        return self.findings


@dataclass(frozen=True, slots=True)
class Retrained(Generic[Choice]):
    """One model trained alone for each budget; a choice is whatever names it."""

    choices: Mapping[float, Choice | None]
    modules: Mapping[Choice, nn.Module]
    findings: Mapping[str, Any] = field(default_factory=dict)

    def select(self, budget: float) -> Choice | None:
        return self.choices[budget]

    def module(self, choice: Choice) -> nn.Module:
        return self.modules[choice]

    def report(self) -> Mapping[str, Any]:
        return self.findings


class Adapted(Protocol):
    """What a recipe gives; ``harness.protocol.Adapted`` is the contract."""

    def select(self, budget: float) -> Any | None: ...
    def module(self, choice: Any) -> nn.Module: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method of this library: a name, a function from a task to what was adapted, and where it comes from."""

    name: str
    run: Callable[[Any], Adapted]
    about: Card | None = None
    api: int = 1  # of the contract with the bench

    @property
    def card(self) -> Mapping[str, Any]:
        return {} if self.about is None else self.about.as_dict()

    def adapt(self, task: Any) -> Adapted:
        return self.run(replace(task, ledger=Tally(task.ledger)))


def fit_on(task: Task, name: str, total: int | None = None, before: int = 0) -> Fit:
    """A fit on the task's fit split with its own checkpoint, after ``before`` steps of the same learning-rate cycle."""
    saving = Saving(task.workdir / f"{name}.safetensors")
    span = Span(before, steps_of(task))
    schedule = schedule_of(task.schedule)
    return Fit(task.fit, schedule, task.seed, total, saving, task.ledger, task.progress, name, span)


def train_on(
    task: Task,
    vit: NestedViT,
    plan: Plan | Sampler,
    name: str = "train",
    total: int | None = None,
    *,
    portion: Portion | None = None,
    teacher: NestedViT | None = None,
) -> int:
    """One fit of a method, by a step plan or a sampler. Its steps are ``total``, else those of its portion (by default
    the whole training), and are returned; fits with portions share one cycle of the learning rate. A sampler that hears
    the losses is told them, and refused with equal MACs: what it will spend cannot be known beforehand.
    """
    mine, heard = portion or Portion(), plan if isinstance(plan, Feedback) else None
    if heard is not None and budget_left(task) is not None:
        raise ValueError(
            f"{type(plan).__name__}: a sampler that listens to the loss cannot tell beforehand what it spends; "
            "it needs the regime equal_steps"
        )
    guide = None if teacher is None else teacher.backbone
    steps = steps_of_plan(task, vit.backbone, plan, mine, guide) if total is None else total
    run = replace(fit_on(task, name, steps), feedback=heard)
    if total is None:
        run = replace(run, span=mine.span(steps, steps_of(task)))
    with task.ledger.phase("train"):
        fit_plan(vit, as_plan(plan), run, teacher)
    return steps


def digest_of(vit: NestedViT) -> str:
    """16 hex digits that name the weights, to the bit."""
    digest = hashlib.sha256()
    for key, value in sorted(vit.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Search:
    """Budget of the common search, the same for every method that searches."""

    population: int = 40
    generations: int = 12
    quotas: Quotas = None


Seen = Callable[[Submodel], Split]  # the images that a fitness looks at


def search_on(
    task: Task, vit: NestedViT, space: Space, search: Search, name: str = "search", seen: Seen | None = None
) -> tuple[Front, float]:
    """NSGA-II on fold A, front re-estimated on fold B, with the optimism; kept beside the checkpoints. With ``seen``
    the search looks at other images, and once only.

    Every fitness is written down as it is found: a search that was killed replays its draws and evaluates only what it
    had not. All of it is charged again, as one sum, so that the books of both runs agree to the bit.
    """
    kept = task.workdir / f"{name}.json"
    with task.ledger.phase("search"):
        table = from_main(lambda: json.loads(kept.read_text()) if kept.exists() else None)
        if table is None:
            table = _searched(task, vit, space, search, name, seen)
            if is_main():
                write_whole(kept, json.dumps(table))
        task.ledger.add(forward_macs=table["forward_macs"], images=table["images"])
    return _front(table)


def _searched(task: Task, vit: NestedViT, space: Space, search: Search, name: str, seen: Seen | None) -> dict[str, Any]:
    journal, spent = Journal(task.workdir / f"{name}.jsonl"), Tally(NoLedger())
    played = _played(
        space,
        search,
        task.seed,
        judged(journal, vit, seen or task.select_a, "a", spent),
        None if seen else judged(journal, vit, task.select_b, "b", spent),
        partial(task.progress, name),
    )
    return _table(*played) | {"forward_macs": spent.forward_macs, "images": spent.images}


def judged(journal: Journal, vit: NestedViT, fold: Split | Seen, label: str, spent: Ledger) -> Fitness:
    """Accuracy on a fold, looked up or measured by the first process; known or not, it is charged."""

    def fitness(submodel: Submodel) -> float:
        images = fold(submodel) if callable(fold) else fold
        charge_accuracy(vit.backbone, submodel, images, spent)
        return from_main(lambda: journal.get(f"{label} {submodel}", lambda: accuracy(vit, submodel, images)))

    return fitness


def _played(
    space: Space,
    search: Search,
    seed: int,
    on_a: Fitness,
    on_b: Fitness | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Front, float]:
    front = nsga2(
        space,
        on_a,
        population=search.population,
        generations=search.generations,
        quotas=search.quotas,
        seed=seed,
        progress=progress,
    )
    return (front, 0.0) if on_b is None else front.reestimate(on_b)


def search_cost(task: Task, space: Space, search: Search, seen: Seen | None = None) -> float:
    """MACs that :func:`search_on` will spend, estimated by the same search on a stand-in for accuracy (it saturates
    with the MACs, and scatters) and no image. How many submodels it asks for depends on the fitness: near, not exact.
    """
    spent, b = Tally(NoLedger()), space.backbone

    def stand_in(fold: Split | Seen) -> Fitness:
        def fitness(submodel: Submodel) -> float:
            charge_accuracy(b, submodel, fold(submodel) if callable(fold) else fold, spent)
            scatter = crc32(str(submodel).encode()) / 2**32
            return 0.1 * scatter - exp(-5 * cost.share(b, submodel))

        return fitness

    again = None if seen else stand_in(task.select_b)
    _played(space, search, task.seed, stand_in(seen or task.select_a), again, None)
    return spent.macs


_SIDES = ("points", "cover")  # of a Front, as kept in search.json


def _table(front: Front, optimism: float) -> dict[str, Any]:
    sides = {name: [[str(p.submodel), p.macs, p.share, p.fitness] for p in getattr(front, name)] for name in _SIDES}
    return sides | {"evaluations": front.evaluations, "optimism": optimism, "progress": list(front.progress)}


def _front(table: Mapping[str, Any]) -> tuple[Front, float]:
    sides = {name: tuple(Point(Submodel.parse(key), *values) for key, *values in table[name]) for name in _SIDES}
    return Front(evaluations=table["evaluations"], progress=tuple(table["progress"]), **sides), table["optimism"]


def front_policy(front: Front) -> Callable[[float], Submodel | None]:
    def choose(budget: float) -> Submodel | None:
        point = front.best(budget)
        return None if point is None else point.submodel

    return choose


def train_one_of(task: Task, vit: NestedViT, sampler: Sampler, number: int, count: int, reserve: float = 0.0) -> None:
    """One of ``count`` models that are trained alone, in place: with the full schedule, or (equal MACs) with an equal
    part of what the method may spend but for the ``reserve``.
    """
    part = Portion(1 / count, (number - 1) / count, reserve)
    total = steps_of(task) if budget_left(task) is None else steps_of_plan(task, vit.backbone, sampler, part)
    run = replace(fit_on(task, f"train-{number}-of-{count}", total), span=None)
    with task.ledger.phase("train"):
        fit_submodels(vit, sampler, run)


def retrain_on(
    task: Task, vit: NestedViT, shapes: Mapping[float, Submodel | None], reserve: float = 0.0
) -> Retrained[Submodel]:
    """Each shape sliced from the prepared weights and trained alone (:func:`train_one_of`)."""
    modules: dict[Submodel, nn.Module] = {}
    distinct = dict.fromkeys(s for s in shapes.values() if s is not None)
    for number, shape in enumerate(distinct, 1):
        alone = deepcopy(vit)
        space = replace(
            ProductSpace.eavit(vit.backbone),
            embeds=(shape.embed,),
            heads=tuple(sorted({h for h in shape.heads if h})) or (vit.backbone.heads,),
            mlps=tuple(sorted({m for m in shape.mlp if m})) or (vit.backbone.mlp,),
        )
        sampler = Always(space, (space.require(shape),))
        train_one_of(task, alone, sampler, number, len(distinct), reserve)
        modules[shape] = extract(alone, shape).eval()
    return Retrained(shapes, modules)
