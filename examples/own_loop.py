"""Own DataLoader and training loop: eavit.Sampled draws a submodel at each call, the loop knows nothing of it.

    python examples/own_loop.py

The same module goes into timm's train script, Lightning or the HF Trainer: it is called with images and gives logits.
"""

from __future__ import annotations

import torch
from digits import loaders

import eavit
from eavit.weights import pico_letters

EPOCHS = 5


def main() -> None:
    torch.manual_seed(0)
    train, val = loaders()
    vit = eavit.NestedViT.from_timm(pico_letters(10))
    vit = eavit.sort_by_importance(vit, train, metric="l2")  # the first units of a layer are those that stay
    model = eavit.Sampled(vit, steps=EPOCHS * len(train))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(EPOCHS):
        model.train()
        for images, labels in train:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        model.eval()  # the full model
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in val)
        print(f"epoch {epoch + 1}: full model {right / 597:.1%}")

    elastic = eavit.family_of(model.vit, val, budgets=(0.2, 0.5, 1.0), evaluations=60)
    for budget, accuracy in elastic.accuracy.items():
        print(f"budget {budget:g}: {elastic.choose(budget=budget)}, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
