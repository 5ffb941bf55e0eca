"""One router for each layer and a surrogate of the loss that trains them (Flextron-style; sizes are ours).

A router maps a target share of the full MACs to a choice among its layer's head counts and hidden widths. Choices are
drawn by Gumbel-softmax, hard forward and soft backward. The surrogate learns, from forward passes of drawn submodels,
what loss a choice has; then the routers descend on it, without an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eavit.model import cost
from eavit.model.objective import label_loss
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.selection.predictor import one_hot
from eavit.space.product import ProductSpace
from eavit.training.passes import Step, Term, Terms, draws_of
from eavit.training.samplers import Draw
from eavit.training.train import Fit, Group, fit

WARM, COLD = 1.0, 0.1  # temperatures
UPDATES, TARGETS = 200, 8  # of the routers: how many, and on how many targets each


class LayerRouters(nn.Module):
    """A two-layer MLP for each layer of a space with full depth and one embedding, all in one set of tensors."""

    def __init__(self, space: ProductSpace, generator: torch.Generator, hidden: int = 16) -> None:
        super().__init__()
        if len(space.embeds) > 1 or min(space.min_attn, space.min_mlp) < space.depth:
            raise ValueError(
                "layer routers choose heads and hidden widths alone: the space must have one embedding and full depth, "
                f"not embed={space.embeds} and at least {space.min_attn} and {space.min_mlp} of {space.depth} branches"
            )
        self.space = space
        layers, options = space.depth, len(space.heads) + len(space.mlps)
        signs = torch.where(torch.arange(hidden) % 2 == 0, 4.0, -4.0)
        self.slope = nn.Parameter(signs.repeat(layers, 1))  # hinges spread over the targets 0..1
        self.place = nn.Parameter((-signs * torch.linspace(0, 1, hidden)).repeat(layers, 1))
        self.last = nn.Parameter(torch.randn(layers, hidden, options, generator=generator) * 0.1)
        self.bias = nn.Parameter(torch.zeros(layers, options))

    def forward(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Targets (n,) to logits (n, depth, head counts) and (n, depth, hidden widths)."""
        inner = F.gelu(targets[:, None, None] * self.slope + self.place)
        logits = torch.einsum("nlh,lho->nlo", inner, self.last) + self.bias
        heads, mlp = logits.split([len(self.space.heads), len(self.space.mlps)], dim=-1)
        return heads, mlp

    def draw(self, targets: Tensor, tau: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One-hot choices of the logits' shapes; their gradient is that of the softmax with Gumbel noise."""
        heads, mlp = (_straight_through(logits, tau, generator) for logits in self(targets))
        return heads, mlp

    @torch.no_grad()
    def choose(self, target: float) -> Submodel:
        """The likeliest member for a target share; it may miss it."""
        heads, mlp = (logits[0].argmax(-1).tolist() for logits in self(self.bias.new_tensor([target])))
        space = self.space
        return Submodel(space.embeds[0], tuple(space.heads[i] for i in heads), tuple(space.mlps[i] for i in mlp))


def _straight_through(logits: Tensor, tau: float, generator: torch.Generator) -> Tensor:
    noise = -torch.log(-torch.log(torch.rand(logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6)))
    soft = torch.softmax((logits + noise.to(logits)) / tau, -1)
    hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
    return soft + (hard - soft).detach()


def shares_of(space: ProductSpace, heads: Tensor, mlp: Tensor) -> Tensor:
    """Share of the full MACs of one-hot choices (n, depth, options), differentiable: (n,)."""
    b, layers = space.backbone, space.depth
    nothing = cost.macs(b, Submodel(space.embeds[0], (0,) * layers, (0,) * layers))

    def prices(widths: tuple[int, ...], *, of_heads: bool) -> Tensor:
        rows = (((w, *(0,) * (layers - 1)), (0,) * layers) for w in widths)
        pairs = (row if of_heads else row[::-1] for row in rows)
        return heads.new_tensor([float(cost.macs(b, Submodel(space.embeds[0], *pair)) - nothing) for pair in pairs])

    spent = (heads @ prices(space.heads, of_heads=True)).sum(-1) + (mlp @ prices(space.mlps, of_heads=False)).sum(-1)
    return (spent + nothing) / cost.macs(b, b.full)


class Surrogate(nn.Module):
    """Two layers from a member's one-hot choices (:func:`eavit.selection.predictor.one_hot`) to its cross-entropy."""

    def __init__(self, space: ProductSpace, generator: torch.Generator, hidden: int = 32) -> None:
        super().__init__()
        self.space = space
        options = len(space.embeds) + space.depth * (len(space.heads) + len(space.mlps))
        self.first = nn.Parameter(torch.randn(options, hidden, generator=generator) / options**0.5)
        self.shift = nn.Parameter(torch.zeros(hidden))
        self.last = nn.Parameter(torch.randn(hidden, 1, generator=generator) / hidden**0.5)
        self.base = nn.Parameter(torch.zeros(1))

    def forward(self, choices: Tensor) -> Tensor:
        """(n, options) to (n,)."""
        out: Tensor = F.relu(choices @ self.first + self.shift) @ self.last + self.base
        return out.squeeze(-1)

    def of_choices(self, heads: Tensor, mlp: Tensor) -> Tensor:
        """Choices (n, depth, options) of heads and hidden widths to (n,)."""
        return self.forward(torch.cat([heads.new_ones(len(heads), 1), heads.flatten(1), mlp.flatten(1)], -1))


@dataclass(frozen=True, slots=True)
class SurrogateSampler:
    """Sampler of the submodels that the surrogate learns from: one draw a step."""

    space: ProductSpace
    draw: Draw

    def at(self, seed: int, index: int) -> Submodel:
        """The submodel of a step."""
        return self.draw(self.space, draws_of(seed, index))


def surrogate_cost(draws: SurrogateSampler, batch: int, seed: int, steps: int) -> float:
    """MACs of :func:`fit_surrogate`: one forward of a submodel a step."""
    backbone = draws.space.backbone
    return float(batch * sum(cost.macs(backbone, draws.at(seed, index)) for index in range(steps)))


def _surrogate_terms(vit: NestedViT, draws: SurrogateSampler) -> Terms:
    def terms(model: Surrogate, images: Tensor, labels: Tensor, step: Step) -> Iterator[Term]:
        submodel = draws.at(step.seed, step.index)
        with torch.no_grad():
            truth = label_loss(vit(images, submodel), labels)
        guess = model(one_hot(draws.space, [submodel]).to(truth))
        yield Term((guess - truth).square().mean(), cost.macs(vit.backbone, submodel), 0, drawn=str(submodel))

    return terms


def fit_surrogate(vit: NestedViT, surrogate: Surrogate, draws: SurrogateSampler, run: Fit, lr: float = 1e-2) -> None:
    """Train the surrogate in place on a resting backbone's losses."""
    vit.eval()
    fit(surrogate, _surrogate_terms(vit, draws), [Group(surrogate, lr, lr / 100)], run)


def train_routers(
    routers: LayerRouters,
    surrogate: Surrogate,
    low: float,
    generator: torch.Generator,
    budget_weight: float = 20.0,
    lr: float = 2e-2,
) -> float:
    """Surrogate's loss + weight · (share - target)², targets uniform in ``low``..1, by descent on the routers alone.

    The temperature falls from 1 to 0.1. Costs no image. Returns the last mean squared miss of the target.
    """
    like, space = routers.bias, routers.space
    optimiser = torch.optim.Adam(routers.parameters(), lr=lr)
    miss = torch.zeros(())
    with torch.enable_grad():
        for step in range(UPDATES):
            optimiser.param_groups[0]["lr"] = lr * (1 - step / UPDATES)
            tau = WARM * (COLD / WARM) ** (step / (UPDATES - 1))
            targets = (low + (1 - low) * torch.rand(TARGETS, generator=generator)).to(like)
            heads, mlp = routers.draw(targets, tau, generator)
            miss = (shares_of(space, heads, mlp) - targets).square().mean()
            loss = surrogate.of_choices(heads, mlp).mean() + budget_weight * miss
            trained = list(routers.parameters())
            for parameter, grad in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                parameter.grad = grad
            optimiser.step()
    return float(miss.detach())


def layer_routers_cost(space: ProductSpace, hidden: int = 16, surrogate: int = 32) -> float:
    """Forward MACs of :func:`train_routers`, images none; its backward costs twice that."""
    options = space.depth * (len(space.heads) + len(space.mlps))
    return float(UPDATES * TARGETS * (options * (hidden + 1) + (options + 1) * surrogate + surrogate))
