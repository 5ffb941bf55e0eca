"""Ratios of passes, steps and loops of training, and of a search's evaluations."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eavit import extract
from eavit.methods.stage2 import uniform_points
from eavit.model.submodel import Submodel
from eavit.selection.router import RoutedViT, Router, budget_penalty, imitate
from eavit.space.product import ProductSpace
from eavit.training.passes import Pass, Plan
from eavit.training.train import Fit, Schedule, accuracy, fit_plan
from tests.speed.backbones import Timed, submodels
from tests.speed.timing import Call, Ratio, cpu_seconds, ratio

SCHEDULE = Schedule(lr=1e-5, min_lr=1e-5, warmup=0.0)
STEPS = 50  # of a fit
PIECES = 4


@dataclass(frozen=True)
class Row:
    """A measured ratio and its target; ``case`` says of what."""

    what: str
    backbone: str
    case: str
    measured: Ratio
    target: float | None
    at_least: bool = False  # the target is a floor

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.measured.ratio >= self.target if self.at_least else self.measured.ratio <= self.target


@dataclass(frozen=True)
class Batches:
    """A split that gives the same images in the same order at every epoch."""

    images: Tensor
    targets: Tensor

    @property
    def labels(self) -> Tensor:
        return self.targets

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, batch: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self), batch):
            yield self.images[first : first + batch], self.targets[first : first + batch]


class Trained:
    """A model with an optimiser, and the steps that are timed."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.parameters = model.train(), list(model.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, lr=SCHEDULE.lr, fused=True)

    def propagate(self, images: Tensor, labels: Tensor, *widths: object) -> None:
        """Forward and backward into fresh gradients."""
        self.optimiser.zero_grad(set_to_none=True)
        self.add(images, labels, *widths)

    def add(self, images: Tensor, labels: Tensor, *widths: object, part: float = 1.0) -> None:
        logits = self.model(images, *widths)
        (part * F.cross_entropy(logits, labels, label_smoothing=SCHEDULE.smoothing)).backward()

    def step(self, images: Tensor, labels: Tensor, *widths: object) -> None:
        self.propagate(images, labels, *widths)
        self.finish()

    def finish(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, SCHEDULE.clip)
        self.optimiser.step()


def passes(name: str, timed: Timed, batch: int, rounds: int) -> Iterator[Row]:
    """Forward and backward of submodels and of the full model, against timm models of the same widths."""
    vit, (images, labels) = timed.vit(), timed.data(batch)
    nested, members, ratios = Trained(vit), submodels(vit), []
    for case, member in {**members, "full": vit.backbone.full}.items():
        dense = Trained(extract(vit, member))
        seconds = cpu_seconds(
            {
                "nested": lambda member=member: nested.propagate(images, labels, member),
                "dense": lambda dense=dense: dense.propagate(images, labels),
            },
            rounds,
        )
        ratios.append(ratio(seconds["nested"], seconds["dense"]))
        yield Row(
            "forward+backward / timm", name, f"batch {batch}, {case}", ratios[-1], 1.01 if case == "full" else None
        )
    sliced = sorted(ratios[:-1], key=lambda each: each.ratio)
    target = 1.10 if (name, batch) == ("pico", 16) else 1.03
    middle = Ratio(*(statistics.median(values) for values in zip(*(vars(r).values() for r in sliced), strict=True)))
    yield Row("forward+backward / timm", name, f"batch {batch}, median of {len(sliced)}", middle, target)
    yield Row("forward+backward / timm", name, f"batch {batch}, worst of {len(sliced)}", sliced[-1], 1.08)


def steps(name: str, timed: Timed, batch: int, rounds: int) -> Iterator[Row]:
    """The whole step of a fifth of the MACs, and a step of micro-batches against passes of the whole batch."""
    vit, (images, labels) = timed.vit(), timed.data(batch)
    nested, members = Trained(vit), list(submodels(vit).values())
    fifth, four = members[0], members[::2]
    dense = Trained(extract(vit, fifth))
    pieces = list(zip(four, images.chunk(PIECES), labels.chunk(PIECES), strict=False))

    def in_pieces() -> None:
        nested.optimiser.zero_grad(set_to_none=True)
        for member, some, known in pieces:
            nested.add(some, known, member, part=1 / len(pieces))
        nested.finish()

    calls: dict[str, Call] = {
        "nested": lambda: nested.step(images, labels, fifth),
        "dense": lambda: dense.step(images, labels),
        "pieces": in_pieces,
    }
    calls |= {f"whole {i}": lambda s=s: nested.step(images, labels, s) for i, (s, _, _) in enumerate(pieces)}
    seconds = cpu_seconds(calls, rounds)
    whole = sum(seconds[f"whole {i}"] for i in range(len(pieces))) / len(pieces)
    case = f"batch {batch}, {fifth}"
    yield Row("optimiser step at 20 % / timm", name, case, ratio(seconds["nested"], seconds["dense"]), 1.10)
    case = f"batch {batch} in {len(pieces)} pieces"
    yield Row(
        "step of micro-batches / steps of one member, same MACs", name, case, ratio(seconds["pieces"], whole), 1.05
    )


STAGE2 = {0.2: 1.7, 0.4: 1.4, 0.6: 1.3, 0.8: 1.2, 1.0: 1.15}  # share: target


def stage2(name: str, timed: Timed, batch: int, rounds: int) -> Iterator[Row]:
    """Router and backbone in one step, the router started as in EA-ViT, against a sliced step of the target's MACs."""
    vit, (images, labels) = timed.vit(), timed.data(batch)
    members = {float(case.partition(":")[0]): member for case, member in submodels(vit).items()}
    b, sliced = vit.backbone, Trained(vit)
    space = ProductSpace.eavit(b)
    router = Router(space)
    imitate(router, uniform_points(space))
    routed = RoutedViT(copy.deepcopy(vit), router)
    both, noise = Trained(routed), count()

    def routed_step(share: float) -> None:
        both.optimiser.zero_grad(set_to_none=True)
        logits, gates = routed(images, share, torch.Generator().manual_seed(next(noise)))
        loss = F.cross_entropy(logits, labels, label_smoothing=SCHEDULE.smoothing)
        (loss + budget_penalty(b, gates, share)).backward()
        both.finish()

    for share, target in STAGE2.items():
        member = members.get(share, b.full)
        seconds = cpu_seconds(
            {
                "routed": lambda share=share: routed_step(share),
                "sliced": lambda member=member: sliced.step(images, labels, member),
            },
            rounds,
        )
        measured = ratio(seconds["routed"], seconds["sliced"])
        yield Row(
            "stage 2 step / stage 1 step, same MACs", name, f"batch {batch}, {share:.0%} of MACs", measured, target
        )


def loops(name: str, timed: Timed, batch: int, rounds: int) -> Iterator[Row]:
    """The library's loop against a bare one with the same passes, optimiser and clipping."""
    vit, split = timed.vit(), Batches(*timed.data(batch * STEPS))
    members, bare = list(submodels(vit).values()), Trained(vit)
    fitted, run = copy.deepcopy(vit), Fit(split, replace(SCHEDULE, batch=batch), 0, total=STEPS)
    plan: Plan = lambda progress, rng: (Pass(members[round(progress * STEPS) % len(members)]),)  # noqa: E731

    def bare_loop() -> None:
        vit.train()
        for step, (images, labels) in enumerate(split.batches(batch)):
            bare.step(images, labels, members[step % len(members)])

    seconds = cpu_seconds({"fit": lambda: fit_plan(fitted, plan, run), "bare": bare_loop}, rounds)
    case = f"batch {batch}, {STEPS} steps"
    yield Row("fit loop / bare loop", name, case, ratio(seconds["fit"], seconds["bare"]), 1.03)


def searches(name: str, timed: Timed, batch: int, rounds: int) -> Iterator[Row]:
    """Evaluations of a search in a second, relative to extraction and a forward pass for each."""
    vit, split = timed.vit(), Batches(*timed.data(4 * batch))
    members: list[Submodel] = list(submodels(vit).values())

    def extracted() -> None:
        for member in members:
            model = extract(vit, member).eval()
            with torch.inference_mode():
                for images, labels in split.batches(4 * batch):
                    (model(images).argmax(-1) == labels).sum()

    sliced: Call = lambda: [accuracy(vit, member, split, batch=4 * batch) for member in members]  # noqa: E731
    seconds = cpu_seconds({"extracted": extracted, "sliced": sliced}, rounds)
    case = f"{4 * batch} images, {len(members)} submodels"
    measured = ratio(seconds["extracted"], seconds["sliced"])
    yield Row("search: evaluations / extraction+forward", name, case, measured, 5.0, at_least=True)
