"""Saving of what a method adapted in the bench, as a family that :func:`eavit.load` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from eavit.deploy.artifact import save_family
from eavit.deploy.elastic import ElasticModel, FamilyRecord, Validation, ascending
from eavit.deploy.members import BATCH, distinct_members, image_digest, measured, own_parameters
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.training.task import Task


class AdaptedFamily(Protocol):
    """One set of weights and a policy, as the library's methods answer a task."""

    @property
    def vit(self) -> NestedViT: ...
    @property
    def policy(self) -> Callable[[float], Submodel | None]: ...
    def module(self, choice: Submodel) -> nn.Module: ...


def save_adapted(adapted: AdaptedFamily, folder: Path, task: Task, about: Mapping[str, Any]) -> None:
    """Measure the members on the task's two folds and write the family.

    ``about``: ``classes`` (names), ``data`` (preprocessing by timm's names) and ``origin`` (where it was trained).
    ValueError for a family that no folder can hold; its message says why.
    """
    vit, folds = adapted.vit.eval(), (task.select_a, task.select_b)
    batches = (batch for fold in folds for batch in fold.batches(BATCH))
    members = distinct_members(adapted.policy, task.budgets)
    own = own_parameters(vit, adapted.module, members)
    choices = {budget: adapted.policy(budget) for budget in task.budgets}
    table = FamilyRecord(
        members=ascending(vit.backbone, list(measured(vit, members, own, folds, task.progress))),
        budgets={budget: None if choice is None else str(choice) for budget, choice in choices.items()},
        validation=Validation(sum(map(len, folds)), image_digest(batches)),
        data=about["data"],
        classes=tuple(about["classes"]),
        method={**about["origin"], "schedule": dict(task.schedule), "seed": task.seed},
        source=dict(getattr(vit, "pretrained_cfg", None) or {}),
    )
    save_family(ElasticModel(vit, table, own), folder)
