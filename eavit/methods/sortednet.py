"""SortedNet: a chain of nested sizes, a random one of them for each micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from eavit.methods.families import Family, PlannedFit, family_recipe
from eavit.methods.matformer import granularities_of
from eavit.methods.recipe import Card, Recipe
from eavit.methods.sizes import choosing_size, tied
from eavit.model.submodel import Backbone, Submodel
from eavit.options import allowed, nearest_hint, whole
from eavit.selection.selectors import EVALUATIONS
from eavit.space.sizes import ListSpace
from eavit.training.plans import micro_batches as in_pieces
from eavit.training.prepare import IMPORTANCES
from eavit.training.samplers import OneOf

CARD = Card(
    title="SortedNet-style chain",
    paper="SortedNet: A Scalable and Generalized Framework for Training Modular Deep Neural Networks, arXiv 2309.00255",
    code="none public",
    elastic="a chain of sizes, each nested in the next (option chain)",
    step="the batch in g micro-batches, one random size of the chain for each, gradients accumulated (tied chain: 0.46 "
    "on ViT-B, whatever g)",
    distillation="no",
    selection="the largest size of the chain that fits; no search",
    parameters={
        "sizes": ("nested, shared parameters, sorted; random sampling of one at a time", "paper"),
        "gradient accumulation": ("one update from several random sizes", "paper"),
        "g": (4, "ours"),
        "draw": ("uniform over the chain, each micro-batch on its own", "ours"),
        "chain": ("tied: the sizes of HydraViT", "ours"),
        "importance": ("taylor", "ours"),
    },
    ours=(
        "no code is public: this is our reading of the abstract and the update rule, hence -style",
        "chains: tied (k heads, channels and neurons with it), hidden (neurons 1/8 to all), depth (first layers), or a "
        "list of submodel keys from small to large",
        "the weights of a step's losses add up to 1, so that g changes the noise of the gradient and not its size",
        "small backbones: tied and depth start at a quarter of the heads or layers, rounded up, at least 1",
    ),
    deviations=(
        "fine-tuning of one ViT checkpoint; the source has ResNet, MobileNet, BERT and LLaMA",
        "micro-batches divide the suite's batch, so that a step sees as many images as every other method's",
    ),
)


def _hidden(backbone: Backbone) -> ListSpace:
    full = backbone.full
    sizes = granularities_of(backbone)
    return ListSpace.chain(backbone, [Submodel(full.embed, full.heads, (m,) * backbone.depth) for m in sizes])


def _depth(backbone: Backbone) -> ListSpace:
    b = backbone

    def first(layers: int, width: int) -> tuple[int, ...]:
        return (width,) * layers + (0,) * (b.depth - layers)

    kept = range(-(-b.depth // 4), b.depth + 1)
    return ListSpace.chain(b, [Submodel(b.embed, first(n, b.heads), first(n, b.mlp)) for n in kept])


CHAINS: dict[str, Callable[[Backbone], ListSpace]] = {"tied": tied, "hidden": _hidden, "depth": _depth}


def sortednet(
    chain: str | Sequence[str] = "tied",
    micro_batches: int = 4,
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """SortedNet-style: for each of ``micro_batches`` pieces of the batch one random size of ``chain``.

    ``chain`` is tied, hidden, depth, or a list of submodel keys that nest in each other, from small to large.
    """
    sizes_of = _chain(chain)
    allowed("importance", importance, IMPORTANCES)
    whole("micro_batches", micro_batches, 1)
    choose = choosing_size(select, nesting, evaluations)

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        space = sizes_of(backbone)
        return Family(space, [PlannedFit("train", in_pieces(OneOf(space, space.members), micro_batches))])

    return replace(family_recipe("sortednet", CARD, design, choose, importance), least_batch=micro_batches)


def _chain(chain: str | Sequence[str]) -> Callable[[Backbone], ListSpace]:
    if isinstance(chain, str):
        if chain not in CHAINS:
            raise ValueError(
                f"option chain={chain!r} is unknown; allowed: {', '.join(CHAINS)}, or a list of submodel keys"
                f"{nearest_hint(chain, CHAINS)}"
            )
        return CHAINS[chain]
    if not chain:
        raise ValueError("option chain=[]: a list of submodel keys needs at least one")
    sizes = tuple(map(Submodel.parse, chain))
    return lambda backbone: ListSpace.chain(backbone, sizes)
