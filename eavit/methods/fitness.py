"""Score of the task as the fitness of a search: measured on the select split and charged, or estimated beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp
from typing import TypeVar
from zlib import crc32

from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import whole
from eavit.selection.front import Fitness, Front
from eavit.selection.search import Quotas, find_front
from eavit.space.space import Space
from eavit.training.checkpoint import Journal
from eavit.training.distributed import from_main
from eavit.training.execution import Execution
from eavit.training.scores import score_of, score_on
from eavit.training.task import Spent, Split, Task
from eavit.training.train import charge_accuracy

Result = TypeVar("Result")
Images = Callable[[Submodel], Split]  # the images on which a submodel's score is measured
Measured = Callable[[Fitness, Fitness], Result]  # a search, given the score on fold A and on fold B


def measure_on(
    task: Task, vit: NestedViT, search: Measured[Result], name: str = "search", images: Images | None = None
) -> Result:
    """Run a search whose fitness is the score of these weights; ``images``: in the place of fold A.

    Every score is written down as it is measured, so that a killed search replays its draws and measures only what
    it had not. All of it is charged again, as one sum, so that the ledgers of both runs agree to the bit.
    """
    journal, spent = Journal(task.workdir / f"{name}.jsonl"), Spent()
    score, execution = score_of(task), Execution.of(task.schedule)

    def on(fold: str, images: Images) -> Fitness:
        def fitness(submodel: Submodel) -> float:
            split = images(submodel)
            charge_accuracy(vit.backbone, submodel, split, spent)
            measure = partial(score_on, split, score, vit, submodel, execution=execution)
            return from_main(lambda: journal.get(f"{fold} {submodel}", measure))

        return fitness

    with task.ledger.phase("search"):
        result = search(on("a", images or (lambda _: task.select_a)), on("b", lambda _: task.select_b))
        task.ledger.add(forward_macs=spent.forward_macs, images=spent.images)
    return result


def estimate_on(
    task: Task, backbone: Backbone, search: Measured[Result], accuracy: Fitness, images: Images | None = None
) -> float:
    """MACs of :func:`measure_on`, by the same search on a stand-in for accuracy. How many submodels it asks for depends
    on the fitness: near, not exact.
    """
    spent = Spent()

    def on(images: Images) -> Fitness:
        def fitness(submodel: Submodel) -> float:
            charge_accuracy(backbone, submodel, images(submodel), spent)
            return accuracy(submodel)

        return fitness

    search(on(images or (lambda _: task.select_a)), on(lambda _: task.select_b))
    return spent.macs


@dataclass(frozen=True, slots=True)
class Search:
    """Size of the common NSGA-II search, the table ``search`` of the methods that run it."""

    population: int = 40
    generations: int = 12

    def __post_init__(self) -> None:
        whole("search.population", self.population, 2)
        whole("search.generations", self.generations, 0)


@dataclass(frozen=True, slots=True)
class FrontSearch:
    """NSGA-II on fold A, the front estimated again on fold B. ``images``: in the place of fold A, without a second
    fold.
    """

    size: Search
    quotas: Quotas = None
    images: Callable[[Task], Images] | None = None

    def run(self, task: Task, vit: NestedViT, space: Space, name: str = "search") -> tuple[Front, float]:
        """The front and its optimism on fold A."""
        progress = partial(task.progress, name)
        return measure_on(task, vit, self._searched(space, task.seed, progress), name, self._images(task))

    def cost(self, task: Task, space: Space) -> float:
        """MACs of :meth:`run`, estimated with a stand-in for accuracy that saturates with the MACs, and scatters."""
        b = space.backbone

        def stand_in(submodel: Submodel) -> float:
            scatter = crc32(str(submodel).encode()) / 2**32
            return 0.1 * scatter - exp(-5 * cost.share(b, submodel))

        return estimate_on(task, b, self._searched(space, task.seed), stand_in, self._images(task))

    def _images(self, task: Task) -> Images | None:
        return None if self.images is None else self.images(task)

    def _searched(
        self, space: Space, seed: int, progress: Callable[[int, int], None] | None = None
    ) -> Measured[tuple[Front, float]]:
        def search(on_a: Fitness, on_b: Fitness) -> tuple[Front, float]:
            front = find_front(
                space,
                on_a,
                population=self.size.population,
                generations=self.size.generations,
                quotas=self.quotas,
                seed=seed,
                progress=progress,
            )
            return front.reestimate(on_b) if self.images is None else (front, 0.0)

        return search


def front_policy(front: Front) -> Callable[[float], Submodel | None]:
    """The fittest point of the front at or under a budget."""

    def choose(budget: float) -> Submodel | None:
        point = front.best(budget)
        return None if point is None else point.submodel

    return choose
