"""HydraViT: one number of heads ties all widths; a random one is trained at each step."""

from __future__ import annotations

from collections.abc import Sequence

from eavit.methods.families import Family, PlannedFit, family_recipe
from eavit.methods.recipe import Card, Recipe
from eavit.methods.sizes import choosing_size, tied
from eavit.model.submodel import Backbone
from eavit.options import allowed
from eavit.selection.selectors import EVALUATIONS
from eavit.training.passes import plain
from eavit.training.prepare import IMPORTANCES
from eavit.training.samplers import OneOf

CARD = Card(
    title="HydraViT",
    paper="HydraViT: Stacking Heads for a Scalable ViT, NeurIPS 2024, arXiv 2409.17978",
    code="ds-kiel/HydraViT",
    elastic="one k for all layers: k heads, head_dim x k channels, hidden = ratio x channels; full depth",
    step="one submodel, k uniform (0.46 on ViT-B; 0.50 on pico)",
    distillation="no",
    selection="the largest k that fits; no measurement",
    parameters={
        "k": ("3..12 of 12 heads (DeiT-tiny to DeiT-base)", "code"),
        "draw": ("uniform, one k a step", "code"),
        "embed": ("64 k: head_dim x k", "code"),
        "hidden": ("256 k: 4 x embed", "code"),
        "norms": ("statistics over the kept channels, the first part of weight and bias", "code"),
        "classifier": ("one for all k", "code"),
        "importance": ("taylor", "ours"),
    },
    ours=(
        "importance='taylor' sorts channels, heads and neurons before training, as for every method; the source claims "
        "that training itself creates the order: importance='none' is its own setting, and comparing both tests that",
        "small backbones: k from a quarter of the heads, rounded up and at least 1, to all (2..6 of 6, 1..4 of 4); "
        "hidden keeps the backbone's ratio to the channels",
    ),
    deviations=(
        "fine-tuning of one checkpoint for some epochs instead of 300 epochs on ImageNet",
        "weighted draws and a classifier for each k, options of the source, are not offered: a deployed k has its own "
        "slice of one head, as every method here",
        "mixup, cutmix, random erasing and averaged weights of its recipe are the suite's matter, not the method's",
    ),
)


def hydravit(
    importance: str = "taylor", select: str = "native", nesting: str = "free", evaluations: int = EVALUATIONS
) -> Recipe:
    """HydraViT: k heads, head_dim·k channels and ratio·embed neurons in every layer, one random k a step.

    ``importance="none"`` keeps the pretrained order, the source's own setting.
    """
    allowed("importance", importance, IMPORTANCES)
    choose = choosing_size(select, nesting, evaluations)

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        space = tied(backbone)
        return Family(space, [PlannedFit("train", plain(OneOf(space, space.members)))])

    return family_recipe("hydravit", CARD, design, choose, importance)
