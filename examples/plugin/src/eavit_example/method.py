"""Method: submodels of uniform shape, one for each budget, trained in turn with shared weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import eavit
from eavit.space.product import uniform_shape


@dataclass
class Adapted:
    vit: eavit.NestedViT
    choices: dict[float, eavit.Submodel]

    def select(self, budget: float) -> eavit.Submodel | None:  # asked at budgets between those of the task, too
        fitting = [choice for own, choice in self.choices.items() if own <= budget]
        return fitting[-1] if fitting else None  # None: there is no submodel within this budget

    def module(self, choice: eavit.Submodel) -> torch.nn.Module:
        return eavit.extract(self.vit, choice).eval()  # what one would deploy


@dataclass
class NestedWidths:
    lr: float = 1e-3  # fields are the options that a suite can set
    name: str = "nested_widths"
    card: dict[str, Any] = field(
        default_factory=lambda: {"title": "nested_widths", "paper": "none", "code": "none public"}
    )

    def adapt(self, task: Any) -> Adapted:
        vit = eavit.NestedViT.from_timm(task.backbone())
        shapes = {budget: uniform_shape(vit.backbone, budget) for budget in task.budgets}
        choices = {budget: shape for budget, shape in shapes.items() if shape is not None}
        trained = list(choices.values())
        with task.ledger.phase("prepare"):
            vit = eavit.sort_by_importance(vit, task.fit.batches(64), metric="l2")
        optimiser = torch.optim.AdamW(vit.parameters(), lr=self.lr)
        with task.ledger.phase("train"):
            for epoch in range(round(task.schedule["epochs"])):
                for step, (images, labels) in enumerate(
                    task.fit.batches(task.schedule["batch"], seed=task.seed, epoch=epoch)
                ):
                    shape = trained[step % len(trained)]
                    cross_entropy(vit(images, shape), labels).backward()
                    optimiser.step()
                    optimiser.zero_grad()
                    macs = eavit.macs(vit.backbone, shape) * len(images)
                    task.ledger.add(forward_macs=macs, backward_macs=2 * macs, images=len(images), steps=1)
        return Adapted(vit.eval(), choices)
