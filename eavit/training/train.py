"""One loop for every method, on accelerate: batches, terms of a step, optimiser, schedule, checkpoint, resume.

A step's randomness (submodels, stochastic depth, Gumbel noise) is drawn from generators named by (seed, step) alone,
and the order of the data by (seed, epoch), so that a run that was killed and resumed equals one that was not, bit for
bit on CPU, without saving any generator's state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed, number, whole
from eavit.training.checkpoint import Checkpoint, Saving
from eavit.training.distributed import Share, rank, reduce_gradients, require_same, same_start, summed, world
from eavit.training.execution import DTYPES, accelerator_of
from eavit.training.passes import Plan, Step, Term, Terms, terms_of
from eavit.training.samplers import Feedback
from eavit.training.scores import ACCURACY, score_on
from eavit.training.task import Ledger, Progress, Spent, Split, silent

FEEDBACK = "feedback"  # note of a checkpoint: the state of the sampler that follows the loss


@dataclass(frozen=True, slots=True)
class Schedule:
    """AdamW with linear warm-up and cosine decay. Learning rates are those of the first parameter group."""

    epochs: float = 10.0
    batch: int = 64
    lr: float = 1e-3
    min_lr: float = 1e-5
    warmup: float = 0.05  # fraction of the steps
    weight_decay: float = 0.05
    smoothing: float = 0.1
    drop_path: float = 0.0
    clip: float = 1.0  # largest gradient norm; 0: no clipping
    precision: str = "no"  # or bf16, fp16
    micro_batch: int = 0  # images that run at once, their gradients added up to those of the batch; 0: all
    checkpointing: bool = False  # blocks are run again in the backward pass, which keeps less in memory

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "min_lr", "weight_decay", "clip"):
            number(f"schedule.{name}", getattr(self, name), "[0, inf)")
        for name in ("warmup", "smoothing", "drop_path"):
            number(f"schedule.{name}", getattr(self, name), "[0, 1]")
        whole("schedule.batch", self.batch, 1)
        whole("schedule.micro_batch", self.micro_batch, 0)
        allowed("schedule.precision", self.precision, ("no", *DTYPES))

    def steps(self, images: int) -> int:
        """Optimiser steps on a split of this many images (short last batches are dropped)."""
        return max(1, round(self.epochs * max(1, images // self.batch)))


class Span(NamedTuple):
    """Place of a fit in a longer schedule: steps before it, and steps in all."""

    before: int
    whole: int


class Group(NamedTuple):
    """Parameters with their own peak and final learning rate, over this fit's steps or as part of a longer schedule."""

    module: nn.Module
    lr: float
    min_lr: float
    weight_decay: float = 0.0
    span: Span | None = None


def _parameter_groups(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Each group twice: matrices with weight decay; norms, biases, tokens and positions without."""
    built = []
    for group in groups:
        named = [(n, p) for n, p in group.module.named_parameters() if p.requires_grad]
        flat = [p for n, p in named if p.ndim < 2 or n.endswith(("cls_token", "reg_token", "pos_embed"))]
        deep = [p for n, p in named if not any(p is q for q in flat)]
        rates = {"lr": group.lr, "peak": group.lr, "floor": group.min_lr, "span": group.span}
        built += [
            {"params": deep, "weight_decay": group.weight_decay} | rates,
            {"params": flat, "weight_decay": 0.0} | rates,
        ]
    return [group for group in built if group["params"]]


def learning_rate(step: int, total: int, warmup: float, peak: float, floor: float) -> float:
    """Linear warm-up over ``warmup * total`` steps, then cosine from ``peak`` to ``floor``."""
    rising = int(warmup * total)
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / max(1, total - 1 - rising)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _epochs(split: Split, batch: int, seed: int, first: int, total: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of steps ``first`` to ``total``; each epoch's order is named by (seed, epoch)."""
    per_epoch = max(1, len(split) // batch)
    for epoch in range(first // per_epoch, -(-total // per_epoch)):
        skip = max(0, first - epoch * per_epoch)
        yield from islice(split.batches(batch, seed=seed, epoch=epoch), skip, per_epoch)


@dataclass(frozen=True, slots=True)
class Fit:
    """Inputs of a fit besides the model: data, schedule, seed, and where to report."""

    split: Split
    schedule: Schedule
    seed: int
    total: int | None = None  # steps; None: the schedule's epochs over the split
    saving: Saving = field(default_factory=Saving)
    ledger: Ledger = field(default_factory=Spent)
    progress: Progress = silent
    phase: str = "train"
    span: Span | None = None  # of the backbone's learning rate; None: this fit is the whole of it
    feedback: Feedback | None = None  # is given each step's loss, the same on all processes; kept in the checkpoint


def fit(model: nn.Module, terms: Terms, groups: Sequence[Group], run: Fit) -> None:
    """Train ``model`` in place. ``terms(model, images, labels, step)`` yields the step's losses; each is propagated at
    once, their gradients add up. Raises FloatingPointError on a loss that is not finite.

    Under ``torchrun`` every process takes its share of the same batches, and all end with the same parameters.
    """
    schedule, accelerator = run.schedule, accelerator_of(run.schedule.precision)
    total = run.total if run.total is not None else schedule.steps(len(run.split))
    model.to(accelerator.device).train()
    optimiser = torch.optim.AdamW(_parameter_groups(groups), fused=True)
    checkpoint = Checkpoint(run.saving, model, optimiser, f"{run.phase} seed={run.seed} total={total} {schedule}")
    spent = checkpoint.load()
    if run.feedback is not None and FEEDBACK in checkpoint.notes:
        run.feedback.restore(json.loads(checkpoint.notes[FEEDBACK]))
    require_same(f"{run.phase}: the step to go on from", f"{spent}")
    same_start(model)
    stepper = optimiser if accelerator.scaler is None else accelerator.prepare(optimiser)
    loop = _Loop(model, terms, optimiser, stepper, accelerator, schedule.clip, schedule.micro_batch, spent)
    batches = _epochs(run.split, schedule.batch, run.seed, spent.steps, total)
    for index, batch in zip(range(spent.steps, total), batches, strict=False):
        for group in optimiser.param_groups:
            before, whole = group["span"] or (0, total)
            group["lr"] = learning_rate(before + index, whole, schedule.warmup, group["peak"], group["floor"])
        with _checkpointed(model, schedule.checkpointing):
            loss = loop.step(batch, Step(index, total, run.seed, Share.of(len(batch[0]))))
        if run.feedback is not None:
            run.feedback.observe(summed(loss))
            checkpoint.notes[FEEDBACK] = json.dumps(run.feedback.state())
        checkpoint.save(spent, finished=index + 1 == total)
        run.progress(run.phase, index + 1, total)
    if spent.steps != total:
        raise ValueError(
            f"{run.phase}: the fit split gave batches for {spent.steps} of {total} steps; an epoch must give "
            f"{max(1, len(run.split) // schedule.batch)} of size {schedule.batch}"
        )
    model.eval().zero_grad(set_to_none=True)
    run.ledger.add(**spent.amounts)


@dataclass(frozen=True, slots=True)
class _Loop:
    """State of one step. Model and optimiser are called as they are: accelerate's wrapper would stay on the model after
    the fit, and the optimiser's looks for a package on the disk at every step; a scaler of losses alone needs it.
    """

    model: nn.Module
    terms: Terms
    optimiser: torch.optim.Optimizer
    stepper: Any  # the optimiser, or accelerate's wrapper with a scaler
    accelerator: Accelerator
    clip: float
    micro_batch: int
    spent: Spent

    def step(self, batch: tuple[Tensor, Tensor], step: Step) -> float:
        """The part of the step's loss (the sum of its terms' means) that comes from this process's images."""
        self.optimiser.zero_grad(set_to_none=True)
        with _seeded(step, self.accelerator.device), self.accelerator.autocast():
            terms = [each for share in step.share.pieces(self.micro_batch) for each in self._piece(batch, step, share)]
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]  # not what is frozen
        losses = [loss for _, loss, _ in terms if loss is not None]
        what, drawn = f"step {step.index} of {step.total}", " | ".join(drawn for drawn, _, _ in terms if drawn)
        if not reduce_gradients(trained, what, drawn, all(map(isfinite, losses))):
            raise FloatingPointError(f"loss is {losses} at {what}; one that is not finite, here or in another process")
        if self.clip:
            self.accelerator.clip_grad_norm_(trained, self.clip)
        self.stepper.step()
        self.spent.images += step.share.whole
        self.spent.steps += 1
        return sum(loss * part for _, loss, part in terms if loss is not None)

    def _piece(
        self, batch: tuple[Tensor, Tensor], step: Step, share: Share
    ) -> Iterator[tuple[str, float | None, float]]:
        """Propagate the terms of a piece of this process's share; the first piece is charged, and named, for all."""
        images, labels = (part[share.rows].to(self.accelerator.device) for part in batch)
        piece, first = replace(step, share=share), share.start == step.share.start
        for term in self.terms(self.model, images, labels, piece):
            if first:
                _, whole = step.share.part(term.part)
                self.spent.forward_macs += term.forward_macs * whole
                self.spent.backward_macs += term.backward_macs * whole
            yield term.drawn if first else "", *self._propagated(term, piece)

    def _propagated(self, term: Term, step: Step) -> tuple[float | None, float]:
        """Loss of the term, and the share of its rows here in all rows, which weights the gradient."""
        if term.loss is None:
            return None, 0.0
        value = float(term.loss.detach())
        if not isfinite(value) and world() == 1:
            raise FloatingPointError(f"loss is {value} at step {step.index} of {step.total}")
        rows, whole = step.share.part(term.part)
        part = (rows.stop - rows.start) / whole
        self.accelerator.backward(term.loss * part)
        return value, part


@contextmanager
def _checkpointed(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Let nested ViTs run blocks again in the backward pass, if ``wanted``; as they were before afterwards."""
    vits = [part for part in model.modules() if isinstance(part, NestedViT)] if wanted else []
    before = [vit.grad_checkpointing for vit in vits]
    for vit in vits:
        vit.set_grad_checkpointing()
    try:
        yield
    finally:
        for vit, flag in zip(vits, before, strict=True):
            vit.set_grad_checkpointing(flag)


class _seeded:  # noqa: N801 - reads as a verb phrase: with _seeded(step)
    """Torch's global generator named by step and process inside, untouched outside: modules' own draws (stochastic
    depth) become repeatable, and differ between the images of two processes.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self.on_cuda = device.type == "cuda"
        self.fork = torch.random.fork_rng(devices=[device] if self.on_cuda else [])
        self.name = int(np.random.SeedSequence([step.seed, step.index, 1 + rank()]).generate_state(1)[0])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.default_generator.manual_seed(self.name)  # torch.manual_seed visits every kind of device
        if self.on_cuda:
            torch.cuda.manual_seed(self.name)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)


def fit_plan(vit: NestedViT, plan: Plan, run: Fit, teacher: NestedViT | None = None) -> None:
    """Train a nested ViT in place by a step plan. A teacher is frozen and put in eval mode for good."""
    schedule = run.schedule
    if teacher is not None:
        shared = {id(p) for p in teacher.parameters()} & {id(p) for p in vit.parameters()}
        if shared:
            raise ValueError(f"the teacher shares {len(shared)} parameters with the model it teaches; give it a copy")
        teacher.to(accelerator_of(schedule.precision).device).eval().requires_grad_(False)
    layers = max(1, vit.backbone.depth - 1)
    vit.drop_path = tuple(schedule.drop_path * i / layers for i in range(vit.backbone.depth))
    group = Group(vit, schedule.lr, schedule.min_lr, schedule.weight_decay, run.span)
    fit(vit, terms_of(vit, plan, schedule.smoothing, teacher), [group], run)


def accuracy(vit: NestedViT, submodel: Submodel, split: Split, ledger: Ledger | None = None, batch: int = 512) -> float:
    """Top-1 of a submodel on a split in eval mode; its forward MACs go to the ledger."""
    value = score_on(split, ACCURACY, vit, submodel, batch=batch)
    if ledger is not None:
        charge_accuracy(vit.backbone, submodel, split, ledger)
    return value


def charge_accuracy(backbone: Backbone, submodel: Submodel, split: Split, ledger: Ledger) -> None:
    """Charge the cost of :func:`accuracy`."""
    ledger.add(forward_macs=float(cost.macs(backbone, submodel)) * len(split), images=len(split))


def schedule_of(table: Mapping[str, Any]) -> Schedule:
    """Schedule of a suite's [schedule] table."""
    return Schedule(**table)
