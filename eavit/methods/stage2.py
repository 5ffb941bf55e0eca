"""Options of EA-ViT's second stage: how its steps, its router and its learning rate are laid out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from eavit.model import cost
from eavit.model.cost import Measure
from eavit.model.vit import NestedViT
from eavit.options import allowed, number, whole
from eavit.selection.front import Candidate
from eavit.selection.router import Router, Routing, route_frozen
from eavit.selection.shapes import uniforms
from eavit.space.product import ProductSpace
from eavit.training.train import Fit, Span

STARTS = ("nsga2", "none", "uniform")
CYCLES = ("shared", "own")


@dataclass(frozen=True, slots=True)
class Stage2:
    """Table ``stage2``: the training of router and backbone together.

    ``selector``: router, or search for stage 1 and the front alone. ``share``: of all steps. ``warmup``: the fraction
    of stage 2 in which the router trains alone; ``warmup_steps``: in its place so many steps on top of the schedule's.
    ``cycle``: of the backbone's learning rate, one shared by both stages, or one of its own for each. ``start``: what
    the router starts from and imitates: nsga2, uniform shapes or none. ``budget_weight`` and ``imitation_weight`` weigh
    its losses.
    """

    selector: str = "router"
    share: float = 0.4
    warmup: float = 0.1
    warmup_steps: int = 0
    cycle: str = "shared"
    start: str = "nsga2"
    budget_weight: float = 20.0
    imitation_weight: float = 20.0

    def __post_init__(self) -> None:
        allowed("stage2.selector", self.selector, ("router", "search"))
        allowed("stage2.cycle", self.cycle, CYCLES)
        allowed("stage2.start", self.start, STARTS)
        number("stage2.share", self.share, "(0, 1)")
        number("stage2.warmup", self.warmup, "[0, 1)")
        whole("stage2.warmup_steps", self.warmup_steps, 0)
        number("stage2.budget_weight", self.budget_weight, "[0, inf)")
        number("stage2.imitation_weight", self.imitation_weight, "[0, inf)")

    @property
    def routed(self) -> bool:
        """Return whether a router is trained."""
        return self.selector == "router"

    @property
    def searched(self) -> bool:
        """Return whether the search runs."""
        return self.start == "nsga2"

    @property
    def phase_cycle(self) -> tuple[float, float] | None:
        """The part of a learning-rate cycle that each stage runs through; None: both share one."""
        return (0.0, 1.0) if self.cycle == "own" else None

    def frozen(self, steps: int) -> int:
        """Steps, of so many of stage 2, in which the router trains alone."""
        return 0 if self.warmup_steps else round(steps * self.warmup)

    def divided(self, run: Fit) -> tuple[int, int, Span]:
        """Steps of the router alone, steps of router and backbone, and the place of these in their cycle."""
        steps, span = run.total or 0, run.span or Span(0, 0)
        first = self.frozen(steps)
        if self.cycle == "own":
            return self.warmup_steps or first, steps - first, Span(0, steps - first)
        return self.warmup_steps or first, steps - first, Span(span.before + first, span.whole)


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Start of stage 2, which trains the router alone; ``free``: it runs no image."""

    run: Callable[[NestedViT, Router, Sequence[Candidate], Routing, Fit], None] = route_frozen
    free: bool = False


def uniform_points(space: ProductSpace) -> tuple[Candidate, ...]:
    """The uniform shapes of a space by ascending MACs, without a measured accuracy."""
    b = space.backbone
    shapes = sorted(uniforms(space), key=partial(cost.macs, b))
    return tuple(Candidate.by(Measure.of_macs(b), s, 0.0) for s in shapes)
