"""The references: one model of fixed shape trained alone for each budget."""

from __future__ import annotations

from eavit.importance import METRICS
from eavit.options import allowed
from eavit.prepare import prepare
from eavit.recipe import Recipe, Retrained, retrain_on
from eavit.space import uniform_shape
from eavit.submodel import Submodel
from eavit.task import Task


def fixed_same_shape(importance: str = "taylor") -> Recipe:
    """The shape another method chose (``after``), sliced from the prepared weights, trained alone: one run a budget."""
    allowed("importance", importance, METRICS)

    def run(task: Task) -> Retrained:
        if len(task.given) != 1:
            raise ValueError(
                f"fixed_same_shape comes after exactly one method, `after` gives {sorted(task.given) or 'none'}"
            )
        chosen = next(iter(task.given.values()))
        shapes = {b: Submodel.parse(chosen[b]) if b in chosen else None for b in task.budgets}
        return retrain_on(task, prepare(task, importance), shapes)

    return Recipe("fixed_same_shape", run)


def fixed_uniform(importance: str = "taylor") -> Recipe:
    """The uniform shape of the same MACs, sliced from the prepared weights, trained alone: one run a budget.

    At budget 1 this is the plain fine-tune of the full backbone.
    """
    allowed("importance", importance, METRICS)

    def run(task: Task) -> Retrained:
        vit = prepare(task, importance)
        return retrain_on(task, vit, {b: uniform_shape(vit.backbone, b) for b in task.budgets})

    return Recipe("fixed_uniform", run)
