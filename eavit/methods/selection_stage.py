"""The common selection stage of a recipe: any selector on trained weights, charged, and replayed after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log

from eavit.methods.recipe import judged
from eavit.model import cost
from eavit.model.importance import Scores
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.selection import selectors
from eavit.selection.search import Fitness
from eavit.selection.selectors import Problem, Selection, Selector
from eavit.space.space import Space
from eavit.training.checkpoint import Journal
from eavit.training.spending import Tally
from eavit.training.task import NoLedger, Split, Task
from eavit.training.train import charge_accuracy

# How choices of different budgets relate: each on its own, or the smaller always inside the larger one.
NESTINGS: dict[str, Callable[[Selection, Problem], Selection]] = {
    "free": lambda selection, problem: selection,
    "nested": selectors.nested,
}


def select_on(
    task: Task,
    vit: NestedViT,
    space: Space,
    selector: Selector,
    *,
    nesting: str = "free",
    scores: Scores | None = None,
    name: str = "search",
) -> Selection:
    """What ``selector`` makes of the trained weights. Fold A is its fitness, fold B its second look.

    Every accuracy is written down as it is found, so a killed selection replays its draws and measures only what it had
    not; all of it is charged. ``scores``: importance of the units in the order of the trained weights.
    """
    journal, spent = Journal(task.workdir / f"{name}.jsonl"), Tally(NoLedger())
    with task.ledger.phase("search"):
        problem = Problem(
            space,
            judged(journal, vit, task.select_a, "a", spent),
            judged(journal, vit, task.select_b, "b", spent),
            task.budgets,
            task.seed,
            scores,
            task.progress,
        )
        chosen = NESTINGS[nesting](selector(problem), problem)
        task.ledger.add(forward_macs=spent.forward_macs, images=spent.images)
    return replace(chosen, findings={**chosen.findings, "evaluations": chosen.evaluations})


def selection_cost(
    task: Task, space: Space, selector: Selector, *, nesting: str = "free", scores: Scores | None = None
) -> float:
    """MACs that :func:`select_on` will spend, estimated with the logarithm of the MACs in the place of accuracy."""
    spent, b = Tally(NoLedger()), space.backbone

    def stand_in(fold: Split) -> Fitness:
        def fitness(submodel: Submodel) -> float:
            charge_accuracy(b, submodel, fold, spent)
            return log(cost.macs(b, submodel))

        return fitness

    problem = Problem(space, stand_in(task.select_a), stand_in(task.select_b), task.budgets, task.seed, scores)
    NESTINGS[nesting](selector(problem), problem)
    return spent.macs
