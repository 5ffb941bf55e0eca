"""Scala: one width ratio for everything; four ratios a step, each taught by the next larger one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import Tensor, nn

from eavit.methods.answers import Elastic
from eavit.methods.families import Family, PlannedFit, family_recipe, train_family
from eavit.methods.recipe import Card, Recipe
from eavit.methods.sizes import choosing_size, tied
from eavit.model.importance import permute, reversed_units
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract
from eavit.options import allowed, number
from eavit.selection.selectors import EVALUATIONS
from eavit.space.sizes import ListSpace
from eavit.training.plans import next_larger
from eavit.training.prepare import IMPORTANCES
from eavit.training.samplers import Submodels
from eavit.training.task import Task

CARD = Card(
    title="Scala",
    paper="Slicing Vision Transformer for Flexible Inference, NeurIPS 2024, arXiv 2412.04786",
    code="BeSpontaneous/Scala-pytorch",
    elastic="one ratio r in [0.25, 1] for channels, heads and neurons of all layers; full depth",
    step="largest, a random mid, a random small and the smallest, gradients summed (1.95 on ViT-B)",
    distillation="each from the next larger one's detached logits, and from the labels",
    selection="the largest r that fits; no measurement",
    parameters={
        "r": ("0.25 to 1", "code"),
        "granularity": ("1/16 of the width; ours: one head", "code"),
        "mid": ("uniform from the middle of the range up to below 1", "code"),
        "small": ("uniform from above 0.25 to below the middle", "code"),
        "loss of the largest": ("cross-entropy", "code"),
        "loss of the others": ("KL from the next larger (weight 1, temperature 1) + 1.0 x cross-entropy", "code"),
        "isolated": ("sizes between the ends take the tail of all weights, in training and when used", "code"),
        "isolated by default": (False, "ours"),
        "warm": (0.0, "ours"),
        "importance": ("taylor", "ours"),
    },
    ours=(
        "whole heads: r runs over k/heads, k from a quarter of the heads, rounded up and at least 1, to all (ViT-B "
        "3..12, pico 2..6); the source cuts heads into thinner ones at every r",
        "small backbones: no mid or no small where the range has none between its ends (3 heads: no small; 2: neither)",
        "all sizes are prefixes by default: choices of all budgets then nest in each other",
        "isolated with importance order: tails hold the least important units; importance='none' is the source's start",
    ),
    deviations=(
        "no outside teacher and no distillation token (the source: DeiT, hard labels, on the token)",
        "warm=0: the source, from random weights, trains the full model alone for its first 10 epochs, at half the "
        "learning rate; ours is pretrained. warm=0.1 brings the phase back, at the schedule's learning rate",
        "queries, keys and values are each cut to the kept heads: the source takes the first rows of the joint matrix, "
        "at r=0.25 queries only, at other r a mixture",
        "LayerScale acts and is trained: the source discards its product",
        "label smoothing acts on every size's labels; the source's smoothing enters by mixup for the smaller ones",
    ),
)


@dataclass(frozen=True, slots=True)
class FourSizes:
    """Largest, a mid, a small, smallest; the full model alone before ``warm``. Mid and small lie strictly between the
    ends, above (or at) and below the middle of the range; a range that has none gives none.
    """

    space: ListSpace
    warm: float = 0.0

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        if progress < self.warm:
            return (self.space.largest,)
        widths = [s.heads[0] for s in self.space.members]
        inner, middle = self.space.members[1:-1], (widths[0] + widths[-1]) / 2
        halves = [s for s in inner if s.heads[0] >= middle], [s for s in inner if s.heads[0] < middle]
        drawn = (half[int(rng.integers(len(half)))] for half in halves if half)
        return tuple(dict.fromkeys((self.space.largest, *drawn, self.space.smallest)))


class TwoEnded(nn.Module):
    """Trained weights as isolated sizes use them: the largest and the smallest a prefix, those between the tail.

    ``tail`` is a copy with all units in reverse order, so that its prefixes are the tails.
    """

    def __init__(self, vit: NestedViT, ends: tuple[Submodel, Submodel]) -> None:
        super().__init__()
        self.backbone, self.ends = vit.backbone, ends
        self.head, self.tail = vit, permute(vit, *reversed_units(vit))

    def side(self, submodel: Submodel) -> NestedViT:
        """The weights whose prefix a size is."""
        return self.head if submodel in self.ends else self.tail

    def forward(self, images: Tensor, submodel: Submodel) -> Tensor:
        logits: Tensor = self.side(submodel)(images, submodel)
        return logits

    def cut(self, submodel: Submodel) -> nn.Module:
        """The module of a size, with the weights of its end."""
        module: nn.Module = extract(self.side(submodel), submodel)
        return module


def scala(
    isolated: bool = False,
    warm: float = 0.0,
    soft: float = 1.0,
    hard: float = 1.0,
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """Scala: largest, a random mid, a random small and the smallest ratio at each step, each taught by the next larger.

    ``isolated``: the sizes between the ends take the tail of the weights. ``warm``: fraction of the training for the
    full model alone. ``soft`` and ``hard`` weigh teacher and labels of the smaller ones.
    """
    allowed("importance", importance, IMPORTANCES)
    number("warm", warm, "[0, 1)")
    number("soft", soft, "(0, inf)")
    number("hard", hard, "[0, inf)")
    if isolated and nesting == "nested":
        raise ValueError(
            "option nesting='nested': isolated sizes lie at two ends of the weights, not inside each other"
        )
    if isolated and select == "greedy":
        raise ValueError("option select='greedy': it counts the importance of prefixes, isolated sizes are tails")
    choose = choosing_size(select, nesting, evaluations)

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        space = tied(backbone)
        return Family(space, [PlannedFit("train", next_larger(FourSizes(space, warm), soft, hard, isolated=isolated))])

    def run(task: Task) -> Elastic:
        vit, space, diagnostics = train_family(task, design, choose, importance)
        ends = TwoEnded(vit, (space.smallest, space.largest))
        adapted = choose.answer(task, cast(NestedViT, ends), space, diagnostics)
        return replace(adapted, cut=lambda _, size: ends.cut(size))

    recipe = family_recipe("scala", CARD, design, choose, importance)
    return replace(recipe, run=run) if isolated else recipe
