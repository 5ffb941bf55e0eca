"""Stage 1 of EA-ViT and the router's references: what the method and the bake-off on it share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from eavit.model import cost
from eavit.model.importance import METRICS
from eavit.model.submodel import Backbone
from eavit.options import allowed
from eavit.selection.search import Point
from eavit.selection.shapes import uniforms
from eavit.space.product import ProductSpace
from eavit.training.samplers import ORDERS, TYINGS, Curriculum, Random, Sampler, Triggered, stratified

PAPER = "EA-ViT: Efficient Adaptation for Elastic Vision Transformer, ICCV 2025, arXiv 2507.19360"
DIMENSIONS = ("mlp", "heads", "embed", "depth")
ORDER_OF = {"growing": "largest_first", "reversed": "smallest_first", "stages": "newest_only", "published": "published"}
CURRICULA = (*ORDER_OF, "triggered", "none")
PATIENCE = 0.05  # of stage 1: how long a loss-triggered stage waits for a gain; the paper's stages are as long


@dataclass(frozen=True, slots=True)
class Adapting:
    """Options of stage 1."""

    importance: str
    tying: str
    curriculum: str
    min_depth: float
    elastic: tuple[str, ...] = DIMENSIONS

    def __post_init__(self) -> None:
        allowed("importance", self.importance, METRICS)
        allowed("tying", self.tying, TYINGS)
        allowed("curriculum", self.curriculum, CURRICULA)
        for name in self.elastic:
            allowed("elastic", name, DIMENSIONS)
        if not self.elastic or len(set(self.elastic)) != len(self.elastic):
            raise ValueError(f"option elastic={list(self.elastic)}: needs at least one dimension, and each once")


def space_of(backbone: Backbone, min_depth: float, elastic: Collection[str] = DIMENSIONS) -> ProductSpace:
    """The paper's space with only these dimensions elastic; the others stay full."""
    whole, b = ProductSpace.eavit(backbone, min_depth), backbone
    return replace(
        whole,
        embeds=whole.embeds if "embed" in elastic else (b.embed,),
        heads=whole.heads if "heads" in elastic else (b.heads,),
        mlps=whole.mlps if "mlp" in elastic else (b.mlp,),
        min_attn=whole.min_attn if "depth" in elastic else b.depth,
        min_mlp=whole.min_mlp if "depth" in elastic else b.depth,
    )


def sampler_of(space: ProductSpace, tying: str, curriculum: str, floor: float, steps: int) -> Sampler:
    """What stage 1 draws in so many steps; nothing cheaper than ``floor``, a share of the full MACs, is wanted."""
    draw = partial(stratified, floor=floor) if TYINGS[tying] is stratified else TYINGS[tying]
    if curriculum == "none":
        return Random(space, draw)
    if curriculum == "triggered":
        return Triggered(space, draw, patience=max(5, round(PATIENCE * steps)))
    return Curriculum(space, draw, order=ORDERS[ORDER_OF[curriculum]])


def uniform_points(space: ProductSpace) -> tuple[Point, ...]:
    """The uniform shapes of a space, ascending; nobody looked at them."""
    b = space.backbone
    shapes = sorted(uniforms(space), key=partial(cost.macs, b))
    return tuple(Point(s, cost.macs(b, s), cost.share(b, s), 0.0) for s in shapes)


def wanted(points: Sequence[Point], floor: float) -> tuple[Point, ...]:
    """References from the dearest one at or under the smallest budget on: targets below it serve nobody."""
    below = [p for p in points if p.share <= floor]
    return (*below[-1:], *(p for p in points if p.share > floor))
