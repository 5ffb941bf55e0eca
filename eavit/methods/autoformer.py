"""AutoFormer: one uniformly drawn submodel a step, evolution selects."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from eavit.methods.choosing import SelectOptions
from eavit.methods.families import Family, PlannedFit, family_recipe
from eavit.methods.recipe import Card, Recipe
from eavit.model.submodel import Backbone
from eavit.options import allowed, switch
from eavit.selection.selectors import EVALUATIONS, evolution
from eavit.space.stacks import StackSpace, headwise
from eavit.training.passes import always, plain
from eavit.training.plans import taught
from eavit.training.prepare import IMPORTANCES
from eavit.training.samplers import Random, per_layer

TEACHER_SHARE = 0.25  # of the steps, if a teacher is trained

CARD = Card(
    title="AutoFormer",
    paper="AutoFormer: Searching Transformers for Visual Recognition, ICCV 2021, arXiv 2107.00651",
    code="microsoft/Cream (AutoFormer)",
    elastic="one embedding, heads and hidden width of each layer, the first N layers",
    step="1 submodel, every choice uniform and each layer on its own",
    distillation="none by default; option: half labels, half a fine-tuned full teacher",
    selection="evolution on the select split, once for each budget",
    parameters={
        "embed": ("from a half to all in steps of one head: 64 x 6..12 of ViT-B (source: 528, 576, 624)", "ours"),
        "heads": ("from a half to all: 6..12 of 12, 3..6 of 6 (source: 8, 9, 10)", "ours"),
        "hidden": ("quarters: 1/4, 1/2, 3/4, 1 (source: ratios 3, 3.5, 4)", "ours"),
        "layers": ("the first N from two thirds to all: 8..12 of 12, 4..6 of 6 (source: 14, 15, 16)", "ours"),
        "draw": ("uniform, each choice on its own, one submodel a step", "code"),
        "search": ("population 50, 20 rounds, 10 parents, 25 mutants at 0.2, 25 crosses", "code"),
        "evaluations": (EVALUATIONS, "ours"),
        "distill": ("1/2 cross-entropy + 1/2 teacher", "code"),
        "teacher_share": (TEACHER_SHARE, "ours"),
    },
    ours=(
        "the ranges, wide enough for budgets down to an eighth, scaled to the backbone's heads",
        "the common limit of evaluations, shared out over the budgets",
        "the teacher is this backbone fine-tuned, and its training is charged",
    ),
    deviations=(
        "starts from pretrained, importance-sorted weights; the source trains from scratch",
        "biases of q, k and v are those of their rows: the source slices the weights interleaved and the biases as a "
        "prefix",
        "whole heads leave; the source keeps one projection width a head count and ties its scale to it",
        "distillation matches soft classes; the source's teacher gives its top class as a second label",
        "the depth is mutated as a layer's width is (0.2), not as the embedding is (0.4)",
        "no relative positions, no mixup, no repeated augmentation: the backbone's and the suite's instead",
    ),
)


def autoformer(
    distill: bool = False,
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """AutoFormer: one uniformly drawn submodel a step, evolution selects.

    ``distill``: a full model is fine-tuned in a quarter of the training and teaches in the rest.
    """
    allowed("importance", importance, IMPORTANCES)
    switch("distill", distill)
    choose = SelectOptions(select, nesting, evaluations).choosing(evolution(max(1, evaluations)))

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        space = autoformer_space(backbone)
        drawn = Random(space, per_layer)
        if not distill:
            return Family(space, [PlannedFit("train", plain(drawn))])
        teacher = PlannedFit("teacher", always(backbone.full), TEACHER_SHARE, aside=True)
        plan = taught(drawn, soft=0.5, hard=0.5)
        return Family(space, [teacher, PlannedFit("train", plan, 1 - TEACHER_SHARE, teacher="first")])

    return family_recipe("autoformer", CARD, design, choose, importance)


def autoformer_space(backbone: Backbone) -> StackSpace:
    """The first N layers, N from two thirds to all, at any of the widths of :func:`headwise`."""
    depth = backbone.depth
    return StackSpace(backbone, *headwise(backbone), (depth,), (ceil(2 * depth / 3),))
