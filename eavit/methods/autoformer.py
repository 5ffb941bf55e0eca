"""AutoFormer: one uniformly drawn submodel a step, evolution selects."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import ceil

from eavit.methods.card import Card
from eavit.methods.choosing import Choosing, answer_on, choosing
from eavit.methods.phases import Phase, findings_of, portions_of, train_phase
from eavit.methods.recipe import Elastic, Recipe
from eavit.model.importance import METRICS
from eavit.model.submodel import Backbone
from eavit.options import allowed
from eavit.selection.selectors import EVALUATIONS, evolution
from eavit.space.stacks import StackSpace, headwise
from eavit.training.prepare import prepare
from eavit.training.samplers import Always, Random, per_layer
from eavit.training.steps import plain, taught
from eavit.training.task import Task

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
        "teacher_share": (0.25, "ours"),
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
    """``distill``: a full model is fine-tuned in a quarter of the training and teaches in the rest."""
    allowed("importance", importance, METRICS)
    if not isinstance(distill, bool):
        raise ValueError(f"option distill={distill!r}: must be true or false")
    choose = choosing(select, nesting, evaluations, evolution(max(1, evaluations)))
    return Recipe("autoformer", _AutoFormer(distill, importance, choose).run, CARD)


def space_of(backbone: Backbone) -> StackSpace:
    """The first N layers, N from two thirds to all, at any of the widths of :func:`headwise`."""
    depth = backbone.depth
    return StackSpace(backbone, *headwise(backbone), (depth,), (ceil(2 * depth / 3),))


@dataclass(frozen=True, slots=True)
class _AutoFormer:
    distill: bool
    importance: str
    choose: Choosing

    def run(self, task: Task) -> Elastic:
        vit = prepare(task, self.importance)
        space = space_of(vit.backbone)
        drawn = Random(space, per_layer)
        phases, plans = [Phase("train", 1.0)], [plain(drawn)]
        if self.distill:
            phases = [Phase("teacher", 0.25), Phase("train", 0.75)]
            plans = [plain(Always(space, (vit.backbone.full,))), taught(drawn, soft=0.5, hard=0.5)]
        parts = portions_of(task, space, self.choose, phases, plans)
        teacher, steps = None, dict[str, int]()
        if self.distill:
            teacher = deepcopy(vit)
            steps["teacher"] = train_phase(task, teacher, plans[0], phases[0], parts[0])
        steps["train"] = train_phase(task, vit, plans[-1], phases[-1], parts[-1], teacher)
        return answer_on(task, vit, space, self.choose, findings_of(task, vit, steps, {"train": plans[-1]}))
