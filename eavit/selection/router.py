"""Map a budget to a submodel: a light router over prefix gates, its training, and a projection that never overspends.

For every dimension the router has one logit a step: the first step of a branch is its depth gate, the next ones widen
it. Gates are cumulative products of Gumbel-sigmoid steps: they form prefixes; a routed submodel is always a member of
the space. Straight-through: the forward pass uses hard gates, gradients are those of the soft ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eavit.model import cost, hard_gates
from eavit.model.gates import EXACT, Gates, Masking
from eavit.model.objective import label_loss
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.selection.front import Candidate
from eavit.space.product import ProductSpace
from eavit.training.passes import Step, Term, Terms
from eavit.training.train import Fit, Group, fit


def _blocks(widths: Sequence[int], full: int) -> Tensor:
    """Units that each step adds: the smallest width, every further step, and what no member of the space uses."""
    return torch.tensor([widths[0], *(b - a for a, b in pairwise(widths)), full - widths[-1]])


def _reach(steps: Tensor, blocks: Tensor) -> tuple[int, ...]:
    """Units before the second closed step (..., k) of each row: a cumulative product has no gradient from there on."""
    before = (steps == 0).cumsum(-1) < 2
    return tuple(torch.atleast_1d((before * blocks[:-1].to(steps.device)).sum(-1)).tolist())


class Router(nn.Module):
    """Two-layer MLP from a target share of full MACs to the step logits of all dimensions."""

    def __init__(
        self, space: ProductSpace, hidden: int = 16, tau: float = 1.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.space, self.tau = space, tau
        layers = space.depth
        self.sizes = (len(space.embeds) - 1, layers * len(space.heads), layers * len(space.mlps))
        self.first, self.last = nn.Linear(1, hidden), nn.Linear(hidden, sum(self.sizes))
        self._start(generator or torch.Generator().manual_seed(0))

    def _start(self, generator: torch.Generator) -> None:
        """Hinges spread over the budgets 0..1; logits start open (full model)."""
        first, last = self.first, self.last
        with torch.no_grad():
            signs = torch.where(torch.arange(first.out_features) % 2 == 0, 1.0, -1.0)
            places = torch.linspace(0, 1, first.out_features)
            first.weight.copy_((4 * signs)[:, None])
            first.bias.copy_(-4 * signs * places)
            last.weight.normal_(0, 0.1, generator=generator)
            last.bias.fill_(1.0)

    def flat(self, target: Tensor) -> Tensor:
        """Targets (n, 1) to all step logits (n, steps)."""
        out: Tensor = self.last(F.gelu(self.first(target)))
        return out

    def logits(self, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets (n, 1) to step logits: embed (n, steps), heads and mlp (n, depth, steps), depth gate first."""
        n = len(target)
        embed, heads, mlp = self.flat(target).split(self.sizes, dim=-1)
        return embed, heads.view(n, self.space.depth, -1), mlp.view(n, self.space.depth, -1)

    def forward(self, target: float, generator: torch.Generator | None = None) -> Gates:
        """Gates for a target share: noisy, with straight-through gradients, given a generator; else deterministic."""
        return self.gates(target, _hard if generator is None else partial(self.straight, generator=generator))

    def gates(self, target: float, steps: Callable[[Tensor], Tensor]) -> Gates:
        """Gates for a target share, by a function from logits to steps in [0, 1]."""
        like = self.first.weight
        embed, heads, mlp = (part[0] for part in self.logits(like.new_tensor([[target]])))
        space, b = self.space, self.space.backbone
        parts = (
            (F.pad(steps(embed), (1, 0), value=1.0), _blocks(space.embeds, b.embed)),  # the smallest is always there
            (self._keep_least(steps(heads), heads, space.min_attn), _blocks(space.heads, b.heads)),
            (self._keep_least(steps(mlp), mlp, space.min_mlp), _blocks(space.mlps, b.mlp)),
        )
        (channels,), *rows = (_reach(*part) for part in parts)
        opened, attention, neurons = (self._spread(*part) for part in parts)
        return Gates(opened, attention, neurons, reach=Submodel(channels, *rows))

    def straight(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Hard steps in {0, 1} with the gradient of the sigmoid: the Gumbel-sigmoid, given a generator of noise."""
        if generator is not None:
            noise = torch.rand(logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6).logit().to(logits)  # G1 - G2
            logits = logits + noise
        soft = torch.sigmoid(logits / self.tau)
        return soft + ((soft > 0.5).to(soft) - soft).detach()

    @staticmethod
    def _keep_least(steps: Tensor, logits: Tensor, least: int) -> Tensor:
        """Open the depth gates of the ``least`` branches that the router likes best."""
        best = torch.zeros_like(steps)
        best[logits[:, 0].topk(least).indices, 0] = 1.0
        return torch.where(best > 0, steps + (1 - steps).detach(), steps)

    @staticmethod
    def _spread(steps: Tensor, blocks: Tensor) -> Tensor:
        """Cumulative products of steps (..., k), repeated for the units of each step, zeros for unused ones."""
        prefix = F.pad(steps.cumprod(-1), (0, 1))
        return prefix.repeat_interleave(blocks.to(prefix.device), dim=-1)


def _hard(logits: Tensor) -> Tensor:
    """Steps in {0, 1}, without a gradient."""
    return (logits > 0).to(logits)


def _targets_of(space: ProductSpace, submodel: Submodel) -> tuple[Tensor, Tensor]:
    """Step bits of a member and which of them matter (steps after a closed one, or of a skipped branch, do not)."""

    def steps(widths: Sequence[int], width: int, *, gated: bool) -> tuple[list[int], list[int]]:
        bits = [int(width >= w) for w in widths]
        matters = [1, *bits[:-1]]
        return (bits, matters) if gated else (bits[1:], matters[1:])

    rows = [steps(space.embeds, submodel.embed, gated=False)]
    rows += [steps(space.heads, h, gated=True) for h in submodel.heads]
    rows += [steps(space.mlps, m, gated=True) for m in submodel.mlp]
    bits, matters = ([bit for row in rows for bit in row[side]] for side in (0, 1))
    return torch.tensor(bits, dtype=torch.float32), torch.tensor(matters, dtype=torch.float32)


def imitate(router: Router, references: Sequence[Candidate], steps: int = 600, lr: float = 2e-2) -> float:
    """Start the router from reference submodels: fit its logits to their steps at their own shares. Costs no image.

    Returns the last loss (mean binary cross-entropy over the steps that matter).
    """
    shares = torch.tensor([[p.share] for p in references], dtype=torch.float32)
    pairs = [_targets_of(router.space, p.submodel) for p in references]
    bits, matters = (torch.stack([pair[side] for pair in pairs]) for side in (0, 1))
    optimiser = torch.optim.Adam(router.parameters(), lr=lr)
    loss = torch.zeros(())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimiser.zero_grad()
        loss = (
            F.binary_cross_entropy_with_logits(router.flat(shares), bits, weight=matters, reduction="sum")
            / matters.sum()
        )
        loss.backward()
        optimiser.step()
    return float(loss.detach())


@dataclass(frozen=True, slots=True)
class Routing:
    """Hyper-parameters of a router's training (defaults: the paper's)."""

    budget_weight: float = 20.0  # l1
    imitation_weight: float = 20.0  # l2, annealed linearly to 0 over the joint training
    lr: float = 1e-2
    min_lr: float = 1e-4
    targets: tuple[float, float] | None = None  # shares of the full MACs; None: from the cheapest reference to 1
    masking: Masking = EXACT  # of the gates in stage 2

    def range(self, references: Sequence[Candidate]) -> tuple[float, float]:
        """The least and the largest target that is drawn; ValueError where nothing says so."""
        if self.targets is None and not references:
            raise ValueError("routing: neither targets nor references; the router needs one of them")
        return self.targets or (min(p.share for p in references), 1.0)


class RoutedViT(nn.Module):
    """Backbone and router as one module, so that one optimiser and one checkpoint hold both."""

    def __init__(self, vit: NestedViT, router: Router, masking: Masking = EXACT) -> None:
        super().__init__()
        self.vit, self.router, self.masking = vit, router, masking
        self.sliced = masking == EXACT and hard_gates.covers(vit)  # else every pass is a masked one

    def forward(self, images: Tensor, target: float, generator: torch.Generator) -> tuple[Tensor, Gates]:
        """Logits and gates. Weights of closed branches get a gradient of zero, as from a masked pass: the optimiser
        moves on what has a gradient.
        """
        gates = replace(self.router(target, generator), masking=self.masking)
        if self.sliced and not (self.vit.grad_checkpointing or torch.is_autocast_enabled(images.device.type)):
            for parameter in hard_gates.closed_parameters(self.vit, gates.harden()):
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            return hard_gates.forward(self.vit, images, gates), gates
        return self.vit(images, gates), gates


def budget_penalty(backbone: Backbone, gates: Gates, target: float) -> Tensor:
    """Squared distance of the gates' share of full MACs from the target share (EA-ViT's l1 term)."""
    share = cost.macs(backbone, gates) / cost.macs(backbone, backbone.full)
    return (share - target).square()


def imitation(gates: Gates, reference: Gates) -> Tensor:
    """Squared distance from the gates of a reference: the sum of five means, over the gates of heads, of neurons, of
    channels, and of the depth of either branch (EA-ViT's l2 term, as in its code).
    """

    def gap(mine: Tensor, theirs: Tensor) -> Tensor:
        return (mine - theirs).square().mean()

    widths = gap(gates.heads, reference.heads) + gap(gates.mlp, reference.mlp) + gap(gates.embed, reference.embed)
    first = (gates.heads[:, 0], reference.heads[:, 0]), (gates.mlp[:, 0], reference.mlp[:, 0])
    return widths + sum(gap(*pair) for pair in first)


Shaping = Callable[[Gates, float, float], tuple[Tensor, ...]]  # (gates, target, progress) to losses


def shaping_of(routed: RoutedViT, references: Sequence[Candidate], routing: Routing, fading: float) -> Shaping:
    """l1 · (share - target)² and l2 · |gates - reference|² with the reference nearest the target. Of l2 the part
    ``fading`` is gone at the end of the fit.
    """

    backbone, like = routed.vit.backbone, next(routed.parameters())

    def shaping(gates: Gates, target: float, progress: float) -> tuple[Tensor, ...]:
        budget = routing.budget_weight * budget_penalty(backbone, gates, target)
        if not references:
            return (budget,)
        nearest = min(references, key=lambda p: abs(p.share - target)).submodel
        weight = routing.imitation_weight * (1 - fading * progress)
        return budget, weight * imitation(gates, Gates.of(nearest, backbone, like))

    return shaping


def _route_terms(
    routed: RoutedViT, references: Sequence[Candidate], routing: Routing, run: Fit, fading: float
) -> Terms:
    """Cross-entropy and :func:`shaping_of`, one target a step. The declared cost is that of masked passes, the full
    width, also where less is computed; and of their backward once more for the gradient of weights that have one.
    """
    backbone, (low, high) = routed.vit.backbone, routing.range(references)
    full, shaping = cost.macs(backbone, backbone.full), shaping_of(routed, references, routing, fading)

    def terms(model: RoutedViT, images: Tensor, labels: Tensor, step: Step) -> Iterator[Term]:
        target = float(step.rng.uniform(low, high))
        noise = int(step.rng.integers(2**62))
        logits, gates = model(images, target, torch.Generator().manual_seed(noise))
        first = label_loss(logits, labels, run.schedule.smoothing)
        loss = sum(shaping(gates, target, step.progress), start=first)
        trained = any(p.requires_grad for p in model.vit.parameters())
        yield Term(loss, full, 2 * full if trained else full, drawn=f"{target} {noise}")

    return terms


def routing_cost(backbone: Backbone, batch: int, warm: int, joint: int) -> float:
    """MACs of so many steps of :func:`route_frozen` and :func:`route_jointly`: masked passes cost the full width,
    whatever the gates.
    """
    return float(cost.macs(backbone, backbone.full)) * batch * (2 * warm + 3 * joint)


def fit_router(routed: RoutedViT, terms: Terms, routing: Routing, run: Fit) -> None:
    """Train the router alone, in place; the backbone stays as it is to the bit."""
    if run.total:
        trainable = [p for p in routed.vit.parameters() if p.requires_grad]
        routed.vit.requires_grad_(False)
        fit(routed, terms, [Group(routed.router, routing.lr, routing.min_lr)], run)
        for parameter in trainable:
            parameter.requires_grad_()


def route_frozen(
    vit: NestedViT, router: Router, references: Sequence[Candidate], routing: Routing, run: Fit, *, fading: float = 0.0
) -> None:
    """Train the router on a frozen backbone, in place; ``fading`` of the imitation is gone at the end."""
    routed = RoutedViT(vit, router, routing.masking)
    fit_router(routed, _route_terms(routed, references, routing, run, fading), routing, run)


def route_jointly(vit: NestedViT, router: Router, references: Sequence[Candidate], routing: Routing, run: Fit) -> None:
    """Train router and backbone together, in place; the imitation fades to 0."""
    routed, rates = RoutedViT(vit, router, routing.masking), run.schedule
    both = [Group(vit, rates.lr, rates.min_lr, rates.weight_decay, run.span), Group(router, routing.lr, routing.min_lr)]
    fit(routed, _route_terms(routed, references, routing, run, fading=1.0), both, run)


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """Table of the router's outputs: members by ascending MACs. ``choose`` never exceeds a budget.

    Projection: between one emission and the next cheaper one lie the dearer's own narrowings, a smallest step each, so
    that a budget which the router overshoots by a little gets a near relative of what it wanted, not the next emission.
    """

    space: ProductSpace
    members: tuple[Submodel, ...]  # one for each value of MACs
    emitted: int  # how many of them the router emitted itself

    @classmethod
    @torch.no_grad()
    def of(cls, router: Router, targets: int = 256) -> PolicyTable:
        """Ask the router for every target of a grid over (0, 1]."""
        return cls.from_members(router.space, (router(i / targets).harden() for i in range(1, targets + 1)))

    @classmethod
    def from_members(cls, space: ProductSpace, members: Iterable[Submodel], *, narrowed: bool = True) -> PolicyTable:
        """A table of members and their narrowings, or of members alone; of equal MACs the smallest spelling stays."""
        own = {cost.macs(space.backbone, s): s for s in sorted(map(space.require, members), key=str, reverse=True)}
        table = dict(own)
        steps = sorted(own) if narrowed else []
        for floor, top in zip([0, *steps], steps, strict=False):
            for member in _narrowings(space, own[top], floor):
                table.setdefault(cost.macs(space.backbone, member), member)
        return cls(space, tuple(table[macs] for macs in sorted(table)), len(own))

    def choose(self, budget: float) -> Submodel | None:
        """The member of most MACs in the table at or under the budget (a share of full MACs); ``None``: unreachable."""
        b = self.space.backbone
        limit = budget * cost.macs(b, b.full)
        return max((s for s in self.members if cost.macs(b, s) <= limit), key=partial(cost.macs, b), default=None)


def _narrowings(space: ProductSpace, submodel: Submodel, floor: int) -> Iterator[Submodel]:
    """Ever cheaper members nested in each other, the smallest single step again and again, down to ``floor`` MACs."""
    macs = partial(cost.macs, space.backbone)
    current = submodel
    while steps := list(space.narrower(current)):
        current = max(steps, key=lambda s: (macs(s), str(s)))
        if macs(current) <= floor:
            return
        yield current
