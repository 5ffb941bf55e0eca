"""DynaBERT: one width for all layers, evenly dropped layers, both trained by distillation in two phases."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np

from eavit.methods.families import Family, PlannedFit, family_recipe
from eavit.methods.recipe import Card, Recipe
from eavit.methods.sizes import choosing_size
from eavit.model.submodel import Backbone, Submodel
from eavit.options import allowed, number, whole
from eavit.selection.selectors import EVALUATIONS
from eavit.space.sizes import ListSpace
from eavit.training.passes import TEACHER, Pass, Passes, Plan, always
from eavit.training.prepare import IMPORTANCES

WIDTHS, DEPTHS = (0.25, 0.5, 0.75, 1.0), (0.5, 0.75, 1.0)

CARD = Card(
    title="DynaBERT",
    paper="DynaBERT: Dynamic BERT with Adaptive Width and Depth, NeurIPS 2020, arXiv 2004.04037",
    code="huawei-noah/Pretrained-Language-Model (DynaBERT)",
    elastic="heads and hidden width of all layers by one fraction m, depth by one fraction d; the embedding is full",
    step="phase 1 all widths (2.84 with the teacher's forward, ViT-B), phase 2 the grid of 12 (5.67, and 0.33 for the "
    "teacher)",
    distillation="logits and hidden states, no labels; phase 1 from the fine-tuned full model, phase 2 from phase 1's",
    selection="none: the grid is reported; ours takes the largest size that fits",
    parameters={
        "widths": (WIDTHS, "paper"),
        "depths": (DEPTHS, "paper"),
        "heads": ("round(heads * m), a half to the even number: 3, 6, 9, 12 of 12 and 2, 3, 4, 6 of 6", "code"),
        "layers": ("round(d * L), the i-th being layer floor(i / d): 0 1 2 4 5 6 8 9 10 at 3/4 of 12", "code"),
        "logits_weight": (1.0, "code"),
        "hidden_weights": ((0.1, 1.0), "code"),
        "hidden_states": ("the sum over layers of mean squared errors, the embedding's among them", "code"),
        "phases": ("fine-tune, width, width and depth: 3 epochs each", "code"),
        "importance": ("first-order Taylor of the fine-tuned model, heads and neurons", "paper"),
        "sizes": (0, "code"),
        "teacher_share": ("a third of the steps, as each phase", "ours"),
    },
    ours=(
        "the choice of a size for a budget: the one with the most MACs that fits, of equal MACs the first in spelling",
        "a size that rounds to the depth of a deeper one is the same depth (3 layers: 3/4 and 1/2 are both 2)",
        "option sizes: that many sizes a step, the largest always (as sandwich rules keep it), the others drawn "
        "without replacement; a phase that has fewer trains all; 0, the default: all at every step, as in the source",
        "each fit runs through its own cycle of the learning rate, as in the source: two of them end as teachers",
    ),
    deviations=(
        "importance is taken on the fit split, not on the validation set",
        "which phase runs is decided, not tested by a condition that always holds",
        "in phase 2 the teacher is always the full width, as the code does; the paper teaches each width by its own",
        "the images are the fit split's; the source distils on augmented text, and without it trains on labels",
        "hidden states are a pre-norm ViT's residual stream, which is not normalised as BERT's are: the weights keep "
        "their numbers, not their effect",
        "of a shorter model the states that leave its layers meet the same layers' in the teacher; the source pairs "
        "those that enter, and the last one with the teacher's last",
        "no third phase of fine-tuning on labels (optional in the source)",
    ),
)


def dynabert(
    phases: int = 2,
    hidden: float = 0.1,
    hidden_deep: float = 1.0,
    sizes: int = 0,
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """DynaBERT: fine-tune, then distil all widths, then all widths and depths.

    ``phases``: 2, or 1 for widths alone (DynaBERT-w); ``hidden`` and ``hidden_deep`` weigh hidden states in each.
    ``sizes`` a step, the largest always and the others at random; 0: all.
    """
    allowed("importance", importance, IMPORTANCES)
    if phases not in (1, 2):
        raise ValueError(f"option phases={phases!r}: must be 1 (widths) or 2 (widths, then widths and depths)")
    if whole("sizes", sizes, 0) == 1:
        raise ValueError("option sizes=1: must be 0 (all at every step), or 2 or more (the largest is among them)")
    weights = number("hidden", hidden, "[0, inf)"), number("hidden_deep", hidden_deep, "[0, inf)")
    choose = choosing_size(select, nesting, evaluations)

    def design(budgets: Sequence[float], backbone: Backbone) -> Family:
        spaces = (grid(backbone, depths=(1.0,)), grid(backbone))[:phases]
        if choose.nesting == "nested" and not spaces[-1].closed:
            raise ValueError(f"option nesting='nested': at {backbone.depth} layers the sizes of the grid do not nest")
        if sizes > spaces[-1].count:
            raise ValueError(f"option sizes={sizes}: the grid of {backbone.depth} layers has {spaces[-1].count} sizes")
        share = 1 / (1 + phases)
        fits = [PlannedFit("teacher", always(backbone.full), share)]
        for name, space, weight in zip(("width", "depth"), spaces, weights, strict=False):
            sorts = ("heads", "neurons") if name == "width" else ()  # as in the source; channels are all kept
            fits.append(PlannedFit(name, distilled(space, weight, sizes), share, sorts=sorts, teacher="start"))
        return Family(spaces[-1], fits)

    return family_recipe("dynabert", CARD.with_values({"sizes": sizes}), design, choose, importance)


def kept_layers(depth: int, fraction: float) -> tuple[int, ...]:
    """Layers that run at a depth fraction."""
    return tuple(floor(i / fraction) for i in range(max(1, round(fraction * depth))))


def grid(backbone: Backbone, depths: tuple[float, ...] = DEPTHS) -> ListSpace:
    """All widths at all depths, 12 where no two of them round to the same."""
    b, rows = backbone, dict[int, tuple[int, ...]]()
    for fraction in sorted(depths, reverse=True):
        layers = kept_layers(b.depth, fraction)
        rows.setdefault(len(layers), layers)

    def size(width: float, layers: tuple[int, ...]) -> Submodel:
        heads, hidden = max(1, round(b.heads * width)), max(1, round(b.mlp * width))
        on = [int(layer in layers) for layer in range(b.depth)]
        return Submodel(b.embed, tuple(heads * i for i in on), tuple(hidden * i for i in on))

    return ListSpace.of(b, [size(width, layers) for layers in rows.values() for width in WIDTHS])


def distilled(space: ListSpace, hidden: float, sizes: int = 0) -> Plan:
    """Sizes of a step by descending MACs: all, or the largest and random others, ``sizes`` together; hidden states
    summed over the kept layers and the embedding.
    """

    def taught(size: Submodel) -> Pass:
        states = 1 + sum(map(bool, size.heads))
        return Pass(size, hard=0.0, soft=1.0, source=TEACHER, features=hidden * states)

    passes = tuple(taught(size) for size in reversed(space.members))

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        places = sorted(rng.choice(range(1, len(passes)), sizes - 1, replace=False))
        return (passes[0], *(passes[place] for place in places))

    return plan if 0 < sizes < len(passes) else lambda progress, rng: passes
