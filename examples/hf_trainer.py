"""The HF Trainer trains a nested ViT: it wants named inputs and a loss, so a small wrapper stands around eavit.Sampled.

python -m pip install -e '.[loops]' && python examples/hf_trainer.py
"""

from __future__ import annotations

import tempfile

import torch
from digits import loaders
from torch import Tensor
from transformers import Trainer, TrainingArguments

import eavit
from eavit.weights import pico_letters

BATCH = 32


class WithLoss(torch.nn.Module):
    """Named inputs to a loss and logits, as the Trainer wants them."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(pixel_values)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    images, labels = zip(*pairs, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}


def train(epochs: int = 2) -> eavit.ElasticModel:
    train, val = loaders(BATCH)
    vit = eavit.sort_by_importance(eavit.NestedViT.from_timm(pico_letters(10)), train, metric="l2")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-3,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
        )
        model = WithLoss(eavit.Sampled(vit, steps=epochs * len(train)))
        Trainer(model, arguments, data_collator=collate, train_dataset=train.dataset).train()
    return eavit.family_of(vit.cpu(), val, budgets=(0.2, 0.5, 1.0), evaluations=20)


if __name__ == "__main__":
    print(train())
