"""One loop for every method, on accelerate: batches, terms of a step, optimiser, schedule, checkpoint, resume.

A step's randomness (submodels, stochastic depth, Gumbel noise) is drawn from generators named by (seed, step) alone,
and the order of the data by (seed, epoch), so that a run that was killed and resumed equals one that was not, bit for
bit on CPU, without saving any generator's state.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from eavit import cost
from eavit.losses import cross_entropy
from eavit.samplers import Sampler
from eavit.submodel import Submodel
from eavit.task import Ledger, NoLedger, Split
from eavit.vit import NestedViT


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

    def __post_init__(self) -> None:
        least: dict[str, float] = {
            "epochs": 0,
            "lr": 0,
            "min_lr": 0,
            "warmup": 0,
            "weight_decay": 0,
            "smoothing": 0,
            "clip": 0,
        }
        low = [f"{name}={getattr(self, name)}" for name, floor in least.items() if not getattr(self, name) >= floor]
        if low or self.batch < 1 or self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(
                f"schedule: impossible values: {', '.join(low) or f'batch={self.batch}, precision={self.precision!r}'}"
            )

    def steps(self, images: int) -> int:
        """Optimiser steps on a split of this many images (short last batches are dropped)."""
        return max(1, round(self.epochs * max(1, images // self.batch)))


@dataclass(frozen=True, slots=True)
class Step:
    index: int
    total: int
    seed: int

    @property
    def progress(self) -> float:
        """Fraction of training done before this step."""
        return self.index / self.total

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.index])


class Term(NamedTuple):
    """One loss of a step with what it costs for one image."""

    loss: Tensor
    forward_macs: float
    backward_macs: float


Terms = Callable[[Any, Tensor, Tensor, Step], Iterable[Term]]


class Span(NamedTuple):
    """The part of a longer schedule that a fit is: so many steps came before it, of so many in all."""

    before: int
    whole: int


class Group(NamedTuple):
    """Parameters with their own peak and final learning rate, over this fit's steps or as part of a longer schedule."""

    module: nn.Module
    lr: float
    min_lr: float
    weight_decay: float = 0.0
    span: Span | None = None


@dataclass(slots=True)
class _Spent:
    forward_macs: float = 0.0
    backward_macs: float = 0.0
    images: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Saving:
    """Where a fit keeps its checkpoint (one safetensors file) and how often; ``seconds=0`` is after every step."""

    path: Path | None = None
    seconds: float = 60.0


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


class _Checkpoint:
    """Parameters, moments and the step, in one safetensors file that is replaced atomically."""

    def __init__(self, saving: Saving, model: nn.Module, optimiser: torch.optim.Optimizer, identity: str) -> None:
        self.saving, self.model, self.optimiser, self.identity = saving, model, optimiser, identity
        self.due = time.monotonic() + saving.seconds

    def _moments(self) -> dict[str, Tensor]:
        state = self.optimiser.state_dict()["state"]
        return {f"optimiser.{i}.{key}": value for i, values in state.items() for key, value in values.items()}

    def save(self, spent: _Spent, *, force: bool = False) -> None:
        if self.saving.path is None or not (force or time.monotonic() >= self.due):
            return
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()} | self._moments()
        draft = self.saving.path.with_suffix(".tmp")
        draft.parent.mkdir(parents=True, exist_ok=True)
        note = {"identity": self.identity, "spent": json.dumps(asdict(spent))}
        save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, draft, note)
        draft.replace(self.saving.path)
        self.due = time.monotonic() + self.saving.seconds

    def load(self) -> _Spent:
        if self.saving.path is None or not self.saving.path.exists():
            return _Spent()
        with safe_open(self.saving.path, framework="pt") as file:
            note = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if note["identity"] != self.identity:
            raise ValueError(
                f"{self.saving.path.name}: made by another run ({note['identity']}, not {self.identity}); delete it"
            )
        weights = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
        self.model.load_state_dict(weights, strict=True)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({"state": moments, "param_groups": self.optimiser.state_dict()["param_groups"]})
        return _Spent(**json.loads(note["spent"]))


@dataclass(frozen=True, slots=True)
class Fit:
    """What a fit needs besides the model: data, schedule, seed, and where to report."""

    split: Split
    schedule: Schedule
    seed: int
    total: int | None = None  # steps; None: the schedule's epochs over the split
    saving: Saving = field(default_factory=Saving)
    ledger: Ledger = field(default_factory=NoLedger)
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None
    phase: str = "train"
    span: Span | None = None  # of the backbone's learning rate; None: this fit is the whole of it


def _accelerator(precision: str) -> Accelerator:
    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process; each fit has its own
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=precision)


def fit(model: nn.Module, terms: Terms, groups: Sequence[Group], run: Fit) -> None:
    """Train ``model`` in place. ``terms(model, images, labels, step)`` yields the step's losses; each is propagated at
    once, their gradients add up. Raises FloatingPointError on a loss that is not finite.
    """
    schedule, accelerator = run.schedule, _accelerator(run.schedule.precision)
    total = run.total if run.total is not None else schedule.steps(len(run.split))
    optimiser = torch.optim.AdamW(_parameter_groups(groups), fused=True)
    identity = f"{run.phase} seed={run.seed} total={total} {schedule}"
    model.to(accelerator.device).train()
    checkpoint = _Checkpoint(run.saving, model, optimiser, identity)
    spent = checkpoint.load()
    called, stepper = accelerator.prepare(model, optimiser)
    batches = _epochs(run.split, schedule.batch, run.seed, spent.steps, total)
    for index, (images, labels) in zip(range(spent.steps, total), batches, strict=False):
        for group in optimiser.param_groups:
            before, whole = group["span"] or (0, total)
            group["lr"] = learning_rate(before + index, whole, schedule.warmup, group["peak"], group["floor"])
        step = Step(index, total, run.seed)
        with _seeded(step, accelerator.device):
            _one_step(called, terms, (images, labels), step, stepper, accelerator, schedule.clip, spent)
        checkpoint.save(spent, force=index + 1 == total)
        run.progress(run.phase, index + 1, total)
    if spent.steps != total:
        raise ValueError(
            f"{run.phase}: the fit split gave batches for {spent.steps} of {total} steps; an epoch must give "
            f"{max(1, len(run.split) // schedule.batch)} of size {schedule.batch}"
        )
    model.eval().zero_grad(set_to_none=True)
    run.ledger.add(**asdict(spent))


def _one_step(
    model: nn.Module,
    terms: Terms,
    batch: tuple[Tensor, Tensor],
    step: Step,
    optimiser: Any,
    accelerator: Accelerator,
    clip: float,
    spent: _Spent,
) -> None:
    images, labels = (part.to(accelerator.device) for part in batch)
    optimiser.zero_grad(set_to_none=True)
    with accelerator.autocast():
        for term in terms(model, images, labels, step):
            if not torch.isfinite(term.loss):
                raise FloatingPointError(f"loss is {term.loss.item()} at step {step.index} of {step.total}")
            accelerator.backward(term.loss)
            spent.forward_macs += term.forward_macs * len(images)
            spent.backward_macs += term.backward_macs * len(images)
    if clip:
        trained = [p for group in optimiser.param_groups for p in group["params"]]  # not what is frozen
        accelerator.clip_grad_norm_(trained, clip)
    optimiser.step()
    spent.images += len(images)
    spent.steps += 1


class _seeded:  # noqa: N801 - reads as a verb phrase: with _seeded(step)
    """Torch's global generator named by the step inside, untouched outside: modules' own draws become repeatable."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self.on_cuda = device.type == "cuda"
        self.fork = torch.random.fork_rng(devices=[device] if self.on_cuda else [])
        self.name = int(np.random.SeedSequence([step.seed, step.index, 1]).generate_state(1)[0])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.default_generator.manual_seed(self.name)  # torch.manual_seed visits every kind of device
        if self.on_cuda:
            torch.cuda.manual_seed(self.name)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)


def submodel_terms(vit: NestedViT, sampler: Sampler, smoothing: float) -> Terms:
    """Cross-entropy of every submodel that the sampler names at a step."""
    backbone = vit.backbone

    def terms(model: Any, images: Tensor, labels: Tensor, step: Step) -> Iterator[Term]:
        for submodel in sampler(step.progress, step.rng):
            spent = cost.macs(backbone, submodel)
            yield Term(cross_entropy(model(images, submodel), labels, smoothing), spent, 2 * spent)

    return terms


def fit_submodels(vit: NestedViT, sampler: Sampler, run: Fit) -> None:
    """Train a nested ViT in place on the submodels of a sampler."""
    schedule = run.schedule
    layers = max(1, vit.backbone.depth - 1)
    vit.drop_path = tuple(schedule.drop_path * i / layers for i in range(vit.backbone.depth))
    fit(
        vit,
        submodel_terms(vit, sampler, schedule.smoothing),
        [Group(vit, schedule.lr, schedule.min_lr, schedule.weight_decay, run.span)],
        run,
    )


@torch.inference_mode()
def accuracy(vit: NestedViT, submodel: Submodel, split: Split, ledger: Ledger | None = None, batch: int = 512) -> float:
    """Top-1 of a submodel on a split in eval mode; its forward MACs go to the ledger."""
    vit.eval()
    device = next(vit.parameters()).device
    right = sum(
        int((vit(images.to(device), submodel).argmax(-1) == labels.to(device)).sum())
        for images, labels in split.batches(batch)
    )
    if ledger is not None:
        ledger.add(forward_macs=float(cost.macs(vit.backbone, submodel)) * len(split), images=len(split))
    return right / len(split)


def schedule_of(table: Mapping[str, Any]) -> Schedule:
    """The suite's [schedule] table as a value."""
    return Schedule(**table)
