"""Lightning trains a nested ViT: eavit.Sampled draws a submodel at each call, the module knows nothing of it.

python -m pip install -e '.[loops]' && python examples/lightning_loop.py
"""

from __future__ import annotations

import lightning
import torch
from digits import loaders
from torch import Tensor

import eavit
from eavit.weights import pico_letters


class Classifier(lightning.LightningModule):
    """Any model from images to logits."""

    def __init__(self, model: torch.nn.Module, rate: float = 1e-3) -> None:
        super().__init__()
        self.model, self.rate = model, rate

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.rate)


def train(epochs: int = 2) -> eavit.ElasticModel:
    train, val = loaders()
    vit = eavit.sort_by_importance(eavit.NestedViT.from_timm(pico_letters(10)), train, metric="l2")
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(eavit.Sampled(vit, steps=epochs * len(train))), train)
    return eavit.family_of(vit, val, budgets=(0.2, 0.5, 1.0), evaluations=20)


if __name__ == "__main__":
    print(train())
