"""Losses of adaptation and routing. Logits are (b, classes), labels int64 (b,); all return a scalar tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from eavit.model import cost
from eavit.model.gates import Gates
from eavit.model.submodel import Backbone


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def distillation(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL from the teacher's softened classes; no gradient reaches the teacher, in place or not (Hinton, 2015)."""
    target = F.log_softmax(teacher.detach() / temperature, -1)
    student = F.log_softmax(logits / temperature, -1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2


def hidden_gap(states: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean over pairs of hidden states (b, tokens, channels) of their squared distance, itself a mean over elements; no
    gradient reaches the teacher (DynaBERT, 2020).
    """
    gaps = [F.mse_loss(mine, theirs.detach()) for mine, theirs in zip(states, teacher, strict=True)]
    return torch.stack(gaps).mean()


def budget_penalty(backbone: Backbone, gates: Gates, target: float) -> Tensor:
    """Squared distance of the gates' share of full MACs from the target share (EA-ViT's l1 term)."""
    share = cost.macs(backbone, gates) / cost.macs(backbone, backbone.full)
    return (share - target).square()


def imitation(gates: Gates, reference: Gates) -> Tensor:
    """Mean squared distance of kept fractions from a reference's, over embed and every layer's heads and neurons
    (EA-ViT's l2 term).
    """

    def gap(mine: Tensor, theirs: Tensor) -> Tensor:
        return (mine.mean(-1) - theirs.mean(-1)).square()

    layers = gap(gates.heads, reference.heads).sum() + gap(gates.mlp, reference.mlp).sum()
    return (layers + gap(gates.embed, reference.embed)) / (2 * len(gates.heads) + 1)
