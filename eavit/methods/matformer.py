"""MatFormer: nested hidden widths, trained together; Mix'n'Match selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eavit.methods.choosing import SelectOptions
from eavit.methods.families import Family, PlannedFit, family_recipe
from eavit.methods.recipe import Card, Recipe
from eavit.model.submodel import Backbone
from eavit.options import allowed
from eavit.selection.selectors import EVALUATIONS, mix_n_match
from eavit.selection.shapes import mixes
from eavit.space.product import ProductSpace
from eavit.training.passes import plain
from eavit.training.prepare import IMPORTANCES
from eavit.training.samplers import Always, OneOf, Sampler, Submodels, chain

PARTS = (1, 2, 4, 8)
SAMPLERS: dict[str, Callable[[ProductSpace, Submodels], Sampler]] = {"all": Always, "one": OneOf}

CARD = Card(
    title="MatFormer",
    paper="MatFormer: Nested Transformer for Elastic Inference, NeurIPS 2024, arXiv 2310.07707",
    code="google-research/scenic (projects/matvit), RAIVNLab/MatFormer-OLMo",
    elastic="hidden width of each layer; embedding, heads and depth stay full",
    step="all four granularities, their cross-entropies summed (2.65 on ViT-B, 2.62 on pico); granularities='one': one "
    "of them at random (0.66)",
    distillation="no",
    selection="Mix'n'Match: of the mixes that never narrow from one layer to the next, the one nearest to the budget "
    "and at most it; of equal MACs the most uniform; no measurement",
    parameters={
        "granularities": ("prefixes of 1, 1/2, 1/4 and 1/8 of the hidden neurons", "code"),
        "losses of a step": ("sum over all granularities, equal weights (scenic and OLMo alike)", "code"),
        "one at random": ("uniform; how the paper trains, where its code sums", "paper"),
        "hidden widths of ViT-B": ((384, 768, 1536, 3072), "code"),
        "candidates of Mix'n'Match": ("one granularity a layer, never smaller than the layer's before", "paper"),
        "importance": ("taylor", "ours"),
    },
    ours=(
        "importance order before training (the source trains from random weights, where there is nothing to sort)",
        "ties of Mix'n'Match: the smaller range of granularities, then the smaller variance, then the first",
        "small backbones: the same fractions of the hidden width, rounded down, at least 1 neuron, each width once",
        "optimiser, schedule and augmentation are the suite's, as for every method",
    ),
    deviations=(
        "fine-tuning of one checkpoint for some epochs instead of 300 epochs from random weights on ImageNet",
        "label smoothing and stochastic depth as the suite says; the source has mixup and dropout 0.1 instead",
        "select: a common selector searches all mixes, also those that narrow with depth",
    ),
)


def matformer(
    granularities: str = "all",
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """MatFormer: hidden prefixes of 1, 1/2, 1/4, 1/8, all four trained at every step; Mix'n'Match selects.

    ``granularities`` is all or one (one of the four a step, at random). Attention, embedding and depth stay full, which
    sets its floor.
    """
    sampler = SAMPLERS[allowed("granularities", granularities, SAMPLERS)]
    allowed("importance", importance, IMPORTANCES)
    choose = SelectOptions(select, nesting, evaluations).choosing(mix_n_match(mixes))

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        widths = granularities_of(backbone)
        space = ProductSpace.of_widths(backbone, widths)
        return Family(space, [PlannedFit("train", plain(sampler(space, chain(space, widths))))])

    return family_recipe("matformer", CARD, design, choose, importance)


def granularities_of(backbone: Backbone) -> tuple[int, ...]:
    """The hidden widths, ascending."""
    return tuple(sorted({max(1, backbone.mlp // part) for part in PARTS}))
