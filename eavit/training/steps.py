"""Step plans: what one optimiser step propagates. One trainer serves all methods; they differ by their plan.

A plan maps (progress in [0, 1], generator) to the passes of one step, in order. Each pass is propagated at once, so
memory is that of one pass; of earlier ones only detached logits (and hidden states where someone learns from them)
are kept. The cost of a plan is exact and known without training: draws are named by (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from eavit.model import cost
from eavit.model.importance import permuted, reversed_units
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.training.distributed import Share
from eavit.training.losses import cross_entropy, distillation, hidden_gap
from eavit.training.passes import TEACHER, Pass, Passes, Spent, check, cost_of, cost_of_pass
from eavit.training.samplers import Sampler

__all__ = [
    "TEACHER",
    "Pass",
    "Passes",
    "Plan",
    "Spent",
    "Step",
    "Term",
    "Terms",
    "as_plan",
    "check",
    "cost_of",
    "cost_of_steps",
    "draws_of",
    "in_place",
    "micro_batches",
    "most_within",
    "next_larger",
    "plain",
    "steps_within",
    "taught",
    "terms_of",
]

Plan = Callable[[float, np.random.Generator], Passes]
SLACK = 0.002  # of the MACs: a search for the very last step would replay a long fit's draws many times


@dataclass(frozen=True, slots=True)
class Step:
    index: int
    total: int
    seed: int
    share: Share

    @property
    def progress(self) -> float:
        """Fraction of training done before this step."""
        return self.index / self.total

    @property
    def rng(self) -> np.random.Generator:
        return draws_of(self.seed, self.index)


def draws_of(seed: int, index: int) -> np.random.Generator:
    """The one name of a step's draws."""
    return np.random.default_rng([seed, index])


class Term(NamedTuple):
    """One loss of a step with what it costs for one image; the loss is a mean over this process's rows of ``part``.

    ``None``: no loss of its own, or no row here. ``drawn`` says what was drawn; it must be equal on all processes.
    """

    loss: Tensor | None
    forward_macs: float
    backward_macs: float
    part: tuple[int, int] | None = None
    drawn: str = ""


Terms = Callable[[Any, Tensor, Tensor, Step], Iterator[Term]]


def plain(sampler: Sampler) -> Plan:
    """Cross-entropy of every submodel that the sampler names at a step."""
    return lambda progress, rng: tuple(Pass(submodel) for submodel in sampler(progress, rng))


def as_plan(what: Plan | Sampler) -> Plan:
    """A plan as it is; a sampler (it has a space) as :func:`plain`."""
    return plain(what) if hasattr(what, "space") else what  # type: ignore[arg-type]


def _descending(sampler: Sampler, progress: float, rng: np.random.Generator) -> list[Submodel]:
    """The step's submodels, dearest first; equals in the order drawn."""
    return sorted(sampler(progress, rng), key=lambda s: -cost.macs(sampler.space.backbone, s))


def in_place(sampler: Sampler, soft: float = 1.0, hard: float = 0.0, temperature: float = 1.0) -> Plan:
    """The dearest submodel of the step learns from labels, the others from its logits; it alone is regularised (US-Net
    and BigNAS).
    """

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        first, *others = _descending(sampler, progress, rng)
        taught = (Pass(s, hard, soft, 0, temperature=temperature, smoothed=False) for s in others)
        return (Pass(first), *taught)

    return plan


def next_larger(
    sampler: Sampler, soft: float = 1.0, hard: float = 1.0, temperature: float = 1.0, *, isolated: bool = False
) -> Plan:
    """The dearest learns from labels, each other one from the next dearer too (Scala); ``isolated``: all but the
    dearest and the cheapest take the tail of the weights.
    """

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        first, *others = _descending(sampler, progress, rng)
        last = len(others) - 1
        taught = (
            Pass(s, hard, soft, place, temperature=temperature, tail=isolated and place < last)
            for place, s in enumerate(others)
        )
        return (Pass(first), *taught)

    return plan


def taught(
    sampler: Sampler, soft: float = 1.0, hard: float = 0.0, features: float = 0.0, temperature: float = 1.0
) -> Plan:
    """Every submodel learns from an outside teacher (OFA; with ``features`` DynaBERT)."""
    form = partial(Pass, hard=hard, soft=soft, source=TEACHER, features=features, temperature=temperature)
    return lambda progress, rng: tuple(form(submodel) for submodel in sampler(progress, rng))


def micro_batches(sampler: Sampler, count: int) -> Plan:
    """The step's batch in ``count`` pieces, each with its own draw (SortedNet); weights add up to one."""
    if count < 1:
        raise ValueError(f"micro_batches: count is {count}, must be at least 1")

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        drawn = ((place, submodel) for place in range(count) for submodel in sampler(progress, rng))
        return tuple(Pass(submodel, hard=1 / count, part=(place, count)) for place, submodel in drawn)

    return plan


def cost_of_steps(
    plan: Plan, backbone: Backbone, batch: int, seed: int, steps: int, teacher: Backbone | None = None
) -> float:
    """MACs of a whole fit of so many steps: its draws are replayed, nothing is trained."""
    drawn = (plan(index / steps, draws_of(seed, index)) for index in range(steps))
    return sum(cost_of(passes, backbone, batch, teacher).macs for passes in drawn)


def most_within(macs: float, spending: Callable[[int], float], most: int) -> int:
    """The number of steps, 0 to ``most``, whose ``spending(steps)`` is not above ``macs`` while one step more is, or
    which uses all but ``SLACK`` of them.

    Spending rises nearly in proportion but, as progress is a fraction of the steps, not strictly; so the answer is
    bracketed from a first guess, then interpolated, or halved where that does not help.
    """
    known = {0: 0.0}

    def spent(steps: int) -> float:
        if steps not in known:
            known[steps] = spending(steps)
        return known[steps]

    low, high = 0, min(most, 32)
    while high > low and spent(high) <= macs:
        low, high = high, min(most, max(high + 1, int(1.02 * high * macs / max(spent(high), 1e-9))))
    halve = False
    while high - low > 1 and spent(low) < (1 - SLACK) * macs:
        before, share = high - low, (macs - spent(low)) / (spent(high) - spent(low))
        middle = min(max(low + int((0.5 if halve else share) * before), low + 1), high - 1)
        low, high = (middle, high) if spent(middle) <= macs else (low, middle)
        halve = not halve and high - low > before / 2
    return low


def steps_within(
    macs: float, plan: Plan, backbone: Backbone, batch: int, seed: int, most: int, teacher: Backbone | None = None
) -> int:
    """Steps of a fit, at most ``most``, whose exact cost is next to ``macs`` and not above it (:func:`most_within`)."""
    return most_within(macs, lambda n: cost_of_steps(plan, backbone, batch, seed, n, teacher), most)


class _Seen(NamedTuple):
    """What others may learn from, detached: logits, and hidden states where someone wants them."""

    logits: Tensor
    states: tuple[Tensor, ...]

    def of(self, rows: slice) -> _Seen:
        return _Seen(self.logits[rows], tuple(state[rows] for state in self.states))


def flipped(vit: NestedViT) -> dict[str, Tensor]:
    """The parameters with all channels, heads and neurons in reverse order, differentiable: the same function at full
    width, and prefixes that are the tails of ``vit``'s.
    """
    return permuted(dict(vit.named_parameters()), vit.backbone, *reversed_units(vit))


def _forward(vit: NestedViT, p: Pass, images: Tensor, *, states: bool) -> _Seen:
    rates = None if p.smoothed else ()
    if states:
        return _Seen(*vit.hidden(images, p.submodel, rates))
    if p.tail:
        return _Seen(functional_call(vit, flipped(vit), (images, p.submodel, rates)), ())
    return _Seen(vit(images, p.submodel, rates), ())


def _loss(p: Pass, mine: _Seen, labels: Tensor, source: _Seen | None, smoothing: float) -> Tensor:
    parts: list[Tensor] = []
    if p.hard:
        parts.append(p.hard * cross_entropy(mine.logits, labels, smoothing if p.smoothed else 0.0))
    if p.soft and source is not None:
        parts.append(p.soft * distillation(mine.logits, source.logits, p.temperature))
    if p.features and source is not None:
        kept = [0, *(i for i, on in enumerate(zip(p.submodel.heads, p.submodel.mlp, strict=True), 1) if any(on))]
        parts.append(p.features * hidden_gap([mine.states[i] for i in kept], [source.states[i] for i in kept]))
    return torch.stack(parts).sum()


def terms_of(vit: NestedViT, plan: Plan, smoothing: float, teacher: NestedViT | None = None) -> Terms:
    """The passes of a plan as a trainer's terms; a teacher (frozen, in eval mode) runs at most once a step."""
    backbone, guide = vit.backbone, None if teacher is None else teacher.backbone

    def ask(images: Tensor, *, states: bool) -> _Seen:
        if teacher is None:
            raise ValueError("step plan: source='teacher', but the fit has no teacher")
        with torch.no_grad():
            return _Seen(*teacher.hidden(images)) if states else _Seen(teacher(images), ())

    def terms(model: Any, images: Tensor, labels: Tensor, step: Step) -> Iterator[Term]:
        passes = check(plan(step.progress, step.rng), backbone, step.share.whole, guide)
        watched = {p.source for p in passes if p.features}
        seen: dict[int | str | None, _Seen] = {}
        if guide is not None and any(p.source == TEACHER for p in passes):
            seen[TEACHER] = ask(images, states=TEACHER in watched)
            yield Term(None, cost.macs(guide, guide.full), 0)
        for place, p in enumerate(passes):
            rows, _ = step.share.part(p.part)
            spent = cost_of_pass(p, backbone)
            if rows.start == rows.stop:
                yield Term(None, *spent, p.part, str(p))
                continue
            mine = _forward(vit, p, images[rows], states=p.features > 0 or place in watched)
            if any(p.source == place for p in passes):
                seen[place] = _Seen(mine.logits.detach(), tuple(s.detach() for s in mine.states))
            source = _source_of(p, passes, seen, rows)
            yield Term(_loss(p, mine, labels[rows], source, smoothing) if p.learns else None, *spent, p.part, str(p))

    return terms


def _source_of(p: Pass, passes: Passes, seen: dict[int | str | None, _Seen], rows: slice) -> _Seen | None:
    """What ``p`` learns from, on the images that it sees."""
    if p.source is None:
        return None
    same = isinstance(p.source, int) and passes[p.source].part == p.part
    return seen[p.source] if same else seen[p.source].of(rows)
