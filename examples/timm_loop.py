"""timm's own training parts around a nested ViT: its task (forward pass and loss), optimiser and schedule.

python examples/timm_loop.py
"""

from __future__ import annotations

from digits import loaders
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask

import eavit
from eavit.weights import pico_letters


def train(epochs: int = 2) -> eavit.ElasticModel:
    train, val = loaders()
    vit = eavit.sort_by_importance(eavit.NestedViT.from_timm(pico_letters(10)), train, metric="l2")
    model = eavit.Sampled(vit, steps=epochs * len(train)).train()
    task = ClassificationTask(model, criterion_kwargs={"smoothing": 0.1}, verbose=False)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    schedule, _ = create_scheduler_v2(
        optimiser, sched="cosine", num_epochs=epochs, updates_per_epoch=len(train), step_on_epochs=False
    )
    update = 0
    for _ in range(epochs):
        for images, labels in train:
            task(images, labels)["loss"].backward()
            optimiser.step()
            optimiser.zero_grad()
            update += 1
            schedule.step_update(update)
    return eavit.family_of(vit, val, budgets=(0.2, 0.5, 1.0), evaluations=20)


if __name__ == "__main__":
    print(train())
