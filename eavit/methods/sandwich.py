"""The sandwich rule of US-Net and BigNAS: largest, random ones, smallest; the others learn from the largest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eavit.methods.choosing import SelectOptions
from eavit.methods.families import Family, PlannedFit, family_recipe
from eavit.methods.recipe import Card, Recipe
from eavit.model.submodel import Backbone
from eavit.options import allowed, number, whole
from eavit.selection.selectors import EVALUATIONS, evolution
from eavit.space.product import ProductSpace
from eavit.training.plans import in_place
from eavit.training.prepare import IMPORTANCES
from eavit.training.samplers import Sandwich, stratified

CARD = Card(
    title="Sandwich (US-Net, BigNAS)",
    paper="Universally Slimmable Networks, ICCV 2019, arXiv 1903.05134; BigNAS, ECCV 2020, arXiv 2003.11142",
    code="JiahuiYu/slimmable_networks, facebookresearch/AttentiveNAS",
    elastic="embedding; heads and hidden width of each layer; depth gates with min_depth below 1",
    step="largest + 2 random + smallest, gradients summed (1.95 on ViT-B)",
    distillation="in place: all others learn from the largest one's detached logits, and from them alone",
    selection="evolution (AutoFormer's rules), evaluations shared out among the budgets",
    parameters={
        "submodels a step": ("4: largest, smallest, 2 random", "code"),
        "loss of the largest": ("cross-entropy with label smoothing", "code"),
        "loss of the others": ("KL divergence from the largest's softmax, weight 1, temperature 1, no labels", "code"),
        "regularised": ("the largest only: stochastic depth and label smoothing", "code"),
        "smallest on ViT-B": ("embed 384, 6 heads, hidden 384, all layers", "ours"),
        "random draw": ("uniform in log MACs from the smallest budget up", "ours"),
        "evaluations": (EVALUATIONS, "ours"),
        "importance": ("taylor", "ours"),
    },
    ours=(
        "the space is EA-ViT's with all layers kept (min_depth=1); min_depth=0.5 gives EA-ViT's own, smallest included",
        "random ones are budget-stratified: US-Net draws one width ratio uniformly, BigNAS each dimension",
        "evolution may spend as many evaluations as every common selector (option evaluations), folds as for all",
        "small backbones: half of the heads, rounded up, as many head-widths of channels, an eighth of the neurons, "
        "rounded down, at least 1 (pico: 3 heads, 48 channels, 48 neurons)",
    ),
    deviations=(
        "no calibration of batch statistics: a ViT has none",
        "BigNAS selects from coarse to fine, US-Net tries widths; evolution stands for both, as AttentiveNAS does it",
        "gradients clipped by norm as the suite says; AttentiveNAS clips each value at 1",
        "AttentiveNAS' best-of-three draws are another method, not this one",
    ),
)


def sandwich(
    middle: int = 2,
    min_depth: float = 1.0,
    temperature: float = 1.0,
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """US-Net and BigNAS: largest, ``middle`` random ones and smallest at each step, distilled in place.

    ``min_depth`` is the fraction of branches always kept; 1: all layers.
    """
    allowed("importance", importance, IMPORTANCES)
    whole("middle", middle, 0)
    number("min_depth", min_depth, "[0, 1]")
    number("temperature", temperature, "(0, inf)")
    choose = SelectOptions(select, nesting, evaluations).choosing(evolution(evaluations))

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        space = ProductSpace.eavit(backbone, min_depth)
        draw = partial(stratified, floor=min(budgets))
        return Family(space, [PlannedFit("train", in_place(Sandwich(space, middle, draw), temperature=temperature))])

    return family_recipe("sandwich", CARD, design, choose, importance)
