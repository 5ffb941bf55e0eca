"""Once-for-all: progressive shrinking, one dimension after another, taught by the full model."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from eavit.methods.choosing import SelectOptions
from eavit.methods.families import Family, PlannedFit, family_recipe
from eavit.methods.recipe import Card, Recipe
from eavit.model.submodel import Backbone
from eavit.options import allowed, whole
from eavit.selection.selectors import EVALUATIONS, predictor
from eavit.space.stacks import StackSpace, headwise
from eavit.training.passes import Plan, always
from eavit.training.plans import taught
from eavit.training.prepare import IMPORTANCES
from eavit.training.samplers import Random, per_layer

FULL = 0.3  # of the steps, the rest evenly to the stages that shrink

CARD = Card(
    title="Once-for-all (progressive shrinking)",
    paper="Once-for-All: Train One Network and Specialize it for Efficient Deployment, ICLR 2020, arXiv 1908.09791",
    code="mit-han-lab/once-for-all",
    elastic="depth of each of several stages of layers, hidden width and heads of each layer, the embedding",
    step="full: 1 submodel (1.0), depth: 2, then 4 of what the stage allows, and the teacher's forward (0.33)",
    distillation="from the full model of the first stage, frozen, beside the labels",
    selection="an accuracy predictor trained on measured submodels, evolution on it for each budget",
    parameters={
        "submodels_a_step": ((1, 2, 4, 4, 4), "code"),
        "distillation_weight": (1.0, "code"),
        "labels_weight": (1.0, "code"),
        "stages": ("full, depth, hidden widths, heads, embedding", "ours"),
        "layers_of_a_stage": (
            "near 4, the first half to all: 3 stages of 12 layers, 2 of 6 (source: 2..4 of 4)",
            "ours",
        ),
        "hidden": ("quarters: 1/4, 1/2, 3/4, 1 (source: 3, 4, 6 of 6)", "ours"),
        "heads": ("from a half to all: 6..12 of 12, 3..6 of 6", "ours"),
        "embed": ("from a half to all in steps of one head; the source's width multiplier was not trained", "ours"),
        "full_share": (FULL, "ours"),
        "predictor": ("MLP of 3 x 400, one-hot", "code"),
        "evaluations": (EVALUATIONS, "ours"),
    },
    ours=(
        "the map from a convolutional network to a ViT: kernels have none, heads and embedding take their place",
        "0.3 of the steps for the full stage (180 of about 600 epochs in the source), the rest in equal parts",
        "the stages that shrink share one cycle of the learning rate; the source restarts it, lower, for each half",
        "only what becomes elastic next is sorted again, so that prefixes that were trained stay what they are",
    ),
    deviations=(
        "importance by the common metric (Taylor) instead of the L1 norm of the weights",
        "the teacher is in eval mode; the source keeps it in train mode, for batch norm's sake",
        "each dimension opens at once, not in two phases (source: 25 and 120 epochs)",
        "no elastic image size",
    ),
)


def ofa(
    importance: str = "taylor", select: str = "native", nesting: str = "free", evaluations: int = EVALUATIONS
) -> Recipe:
    """Full model, then depth, hidden widths, heads and embedding become elastic; a predictor with evolution selects."""
    allowed("importance", importance, IMPORTANCES)
    whole("evaluations", evaluations, 4)
    choose = SelectOptions(select, nesting, evaluations).choosing(predictor(evaluations))

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        """The stages that shrink share one cycle of the learning rate."""
        full, *stages = stages_of(backbone)
        fits, last = [PlannedFit(full.name, plan_of(full), FULL)], len(stages)
        for i, stage in enumerate(stages):
            cycle = i / last, (i + 1) / last
            fits.append(PlannedFit(stage.name, plan_of(stage), (1 - FULL) / last, cycle, stage.sorts, "first"))
        return Family(stages[-1].space, fits)

    return family_recipe("ofa", CARD, design, choose, importance)


class Stage(NamedTuple):
    """Plan of a stage: ``number`` submodels a step from ``space``; ``sorts``: units that are sorted before it."""

    name: str
    space: StackSpace
    number: int
    sorts: tuple[str, ...] = ()


def stages_of(backbone: Backbone) -> tuple[Stage, ...]:
    """Each stage's space holds the one before; the last one's is the family's."""
    b = backbone
    embeds, heads, mlps = headwise(b)
    groups = max(1, round(b.depth / 4))
    sizes = tuple(b.depth * (i + 1) // groups - b.depth * i // groups for i in range(groups))
    halves = tuple(ceil(size / 2) for size in sizes)

    def space(open_: int) -> StackSpace:
        """The first ``open_`` of depth, hidden widths, heads and embedding are elastic."""
        widths = (
            embeds if open_ > 3 else (b.embed,),
            heads if open_ > 2 else (b.heads,),
            mlps if open_ > 1 else (b.mlp,),
        )
        return StackSpace(b, *widths, sizes, halves if open_ else sizes)

    return (
        Stage("full", space(0), 1),
        Stage("depth", space(1), 2),
        Stage("mlp", space(2), 4, ("neurons",)),
        Stage("heads", space(3), 4, ("heads",)),
        Stage("embed", space(4), 4, ("channels",)),
    )


def plan_of(stage: Stage) -> Plan:
    """The full stage learns from labels, the others from labels and the teacher."""
    if stage.number == 1:
        return always(stage.space.largest)
    return taught(Random(stage.space, per_layer, stage.number), soft=1.0, hard=1.0)
