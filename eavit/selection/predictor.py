"""An accuracy predictor (OFA): a small MLP from a submodel's widths to its top-1, trained on measured submodels.

From ofa/nas/accuracy_predictor of mit-han-lab/once-for-all: three hidden layers of 400 with ReLU, no bias at the end,
the mean accuracy added, one-hot inputs with nothing for a skipped layer, a fifth of the measured ones held out. How it
is trained is not published there; Adam with weight decay 0.01 on the squared error, full batches,
is ours (a hundred samples overfit without the decay).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.space.space import Space

HIDDEN, LAYERS = 400, 3


def one_hot(space: Space, submodels: Sequence[Submodel]) -> Tensor:
    """(n, options in all): the embedding's, then each layer's head counts and hidden widths; zeros if skipped."""
    b = space.backbone
    rows = [(s.embed, *s.heads, *s.mlp) for s in submodels]
    options = [space.embeds, *(space.heads,) * b.depth, *(space.mlps,) * b.depth]
    marks = [[float(w == o) for w, allowed in zip(row, options, strict=True) for o in allowed] for row in rows]
    return torch.tensor(marks, dtype=torch.float32)


def _network(inputs: int, generator: torch.Generator) -> nn.Sequential:
    widths = [inputs] + [HIDDEN] * LAYERS
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.utils.skip_init(nn.Linear, a, b), nn.ReLU()]
    layers.append(nn.utils.skip_init(nn.Linear, HIDDEN, 1, bias=False))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)  # as torch starts a Linear
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicted top-1 of members of one space."""

    space: Space
    network: nn.Sequential
    base: float
    spread: float

    @classmethod
    def fit(
        cls, space: Space, measured: Sequence[tuple[Submodel, float]], seed: int, epochs: int = 200, lr: float = 1e-3
    ) -> Predictor:
        """Trained on (member, top-1) pairs, at least one; bit-equal for equal seeds on CPU."""
        inputs = one_hot(space, [submodel for submodel, _ in measured])
        values = torch.tensor([value for _, value in measured], dtype=torch.float32)
        base, spread = float(values.mean()), max(float(values.std(correction=0)), 1e-3)
        network = _network(inputs.shape[1], torch.Generator().manual_seed(seed))
        optimiser = torch.optim.Adam(network.parameters(), lr=lr, weight_decay=1e-2)
        wanted = (values - base) / spread
        with torch.enable_grad():
            for _ in range(epochs):
                optimiser.zero_grad()
                F.mse_loss(network(inputs).squeeze(1), wanted).backward()
                optimiser.step()
        return cls(space, network, base, spread)

    @torch.no_grad()
    def __call__(self, submodels: Sequence[Submodel]) -> list[float]:
        scaled: list[float] = self.network(one_hot(self.space, submodels)).squeeze(1).tolist()
        return [self.base + self.spread * value for value in scaled]


def rank_agreement(
    space: Space, predict: Callable[[Sequence[Submodel]], Sequence[float]], held_out: Sequence[tuple[Submodel, float]]
) -> dict[str, float | int | None]:
    """Rank correlation of prediction and measurement, and of MACs alone, which a useful predictor must beat; None where
    fewer than three are held out or all are equal.
    """
    from scipy.stats import kendalltau, spearmanr  # late: they take most of a second, and few methods need them

    submodels, measured = [s for s, _ in held_out], [value for _, value in held_out]
    predictions = {
        "": predict(submodels) if submodels else [],
        "_of_macs": [cost.macs(space.backbone, s) for s in submodels],
    }
    agreement: dict[str, float | int | None] = {"held_out": len(measured)}
    for name, predicted in predictions.items():
        usable = len(measured) >= 3 and len(set(measured)) > 1 and len(set(predicted)) > 1
        agreement[f"spearman{name}"] = _rounded(spearmanr(predicted, measured).statistic) if usable else None
        agreement[f"kendall{name}"] = _rounded(kendalltau(predicted, measured).statistic) if usable else None
    return agreement


def _rounded(value: float) -> float:
    return float(np.round(value, 4))
