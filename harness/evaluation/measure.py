"""Measurements of the module that a method would deploy: MACs, parameters, correct predictions, latency."""

from __future__ import annotations

import copy
import gc
import logging
import math
import random
import resource
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.protocol import Split

Shape = tuple[int, int, int]  # channels, height, width of one image
WARM_UP, VISIT_SECONDS = 3, 0.03  # calls of each module; seconds of one module's timed calls before the next one's turn
FEWEST_ROUNDS, MOST_ROUNDS, FEWEST_CLEAN = 5, 40, 5
QUARTILES = (0.25, 0.5, 0.75)
TIE = 1e-4  # top logits this near (relative) may swap between batch sizes by rounding alone

FVCORE_EXTRAS = (  # operations that fvcore counts by default and FlopCounterMode does not
    *("layer_norm", "batch_norm", "group_norm", "instance_norm", "adaptive_avg_pool2d"),
    *("upsample_nearest2d", "upsample_bilinear2d", "grid_sampler"),
)


class MeasureError(ValueError):
    """A module that cannot be measured as it is; the message says why."""


def count_macs(module: nn.Module, image_shape: Shape) -> int:
    """Multiply-accumulates of one image: ``FlopCounterMode`` // 2 over a copy on the meta device.

    Matrix products, convolutions and both products of attention count; norms, activations, softmax, additions and
    biases do not. ViT-B/16 at 224 with 1000 classes: 17,563,828,224. Fused and plain attention count the same.
    """
    copied = copy.deepcopy(module).to("meta").eval().requires_grad_(False)  # the counter fails on views of parameters
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            copied(torch.empty(1, *image_shape, device="meta"))
    except RuntimeError as error:  # NotImplementedError is one of them
        raise MeasureError(f"{type(module).__name__} cannot be counted without data: {error}") from error
    return int(counter.get_total_flops()) // 2


def count_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def fvcore_macs(module: nn.Module, image_shape: Shape) -> int:
    """Count as :func:`count_macs`, independently: by tracing instead of dispatch.

    fvcore counts one multiply-add as one flop. By default it also counts norms, pooling and resampling
    (``FVCORE_EXTRAS``, off here), and counts scaled_dot_product_attention as 0 with only a log line: it gets a handle.
    """
    copied = copy.deepcopy(module).to("cpu").eval()  # tracing needs data: convolutions cannot be traced on meta
    with _quiet("fvcore"), torch.no_grad():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(copied, torch.zeros(1, *image_shape))
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
        for name in FVCORE_EXTRAS:  # None would not do: fvcore asks its default handles before its ignore list
            analysis.set_op_handle(f"aten::{name}", _zero)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        return int(analysis.total())


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """n * m * (d + e) for each head: q (..., n, d) x k (..., m, d), then the weights (n, m) x v (..., m, e)."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    return int(math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1]))


def _zero(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated and says so at every trace
            yield
    finally:
        logger.setLevel(before)


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[torch.device]:
    """Enter eval and inference mode, give the module's device, and restore the training flag of every part."""
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode():
            yield next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    finally:
        for part, flag in flags:
            part.training = flag


@dataclass(frozen=True, slots=True, eq=False)
class SplitOutputs:
    """Logits (n, classes), of masks (n, tokens, classes), and labels of all images of a split, in its order."""

    logits: Tensor
    labels: Tensor

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Mask of the images whose first largest logit is that of their label, shape (n,)."""
        right: NDArray[np.bool_] = (self.logits.argmax(1) == self.labels).numpy()
        return right


def split_outputs(module: nn.Module, split: Split, batch: int) -> SplitOutputs:
    """Outputs of the module for every image of the split; FloatingPointError where they are not finite."""
    with _eval_mode(module) as device:
        pairs = [(_logits(module, images.to(device), split).cpu(), labels) for images, labels in split.batches(batch)]
    logits, labels = map(torch.cat, zip(*pairs, strict=True)) if pairs else (torch.zeros(0, 1), torch.zeros(0))
    if len(logits) != len(split):
        raise MeasureError(
            f"{len(logits)} images came out of a split of {len(split)}: every image counts exactly once."
        )
    return SplitOutputs(logits, labels)


def _logits(module: nn.Module, images: Tensor, split: Split) -> Tensor:
    logits, classes = module(images), split.num_classes
    if not are_logits(logits, len(images), classes, dense=split.labels.ndim == 3):
        actual = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise MeasureError(f"the module must give logits ({len(images)}, {classes}) for its images, not {actual}.")
    if not bool(logits.isfinite().all()):
        raise FloatingPointError("the module's logits hold NaN or infinity.")
    return logits


def are_logits(logits: object, images: int, classes: int, *, dense: bool) -> TypeGuard[Tensor]:
    """Return whether they are (images, classes); ``dense``: (images, tokens, classes)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 + dense:
        return False
    return (logits.shape[0], logits.shape[-1]) == (images, classes)


def predictions_agree(
    module: nn.Module, split: Split, batches: tuple[int, int] = (1, 64), limit: int | None = 256
) -> bool:
    """Return whether the first ``limit`` images get the same classes at both batch sizes, up to ties by rounding."""
    with _eval_mode(module) as device:
        first, second = (_first_logits(module, split, size, limit, device) for size in batches)
    if split.labels.ndim == 2:  # each class is a prediction of its own
        near = TIE * first.abs().amax().clamp(min=1)
        return bool((((first > 0) == (second > 0)) | ((first - second).abs() <= near)).all())
    same = first.argmax(-1) == second.argmax(-1)
    tied = _tied(first, second.argmax(-1)) & _tied(second, first.argmax(-1))
    return bool((same | tied).all())


def _tied(logits: Tensor, other: Tensor) -> Tensor:
    """Return for each image whether its class ``other`` is within rounding of its best one."""
    gap = logits.amax(-1) - logits.gather(-1, other.unsqueeze(-1)).squeeze(-1)
    return gap <= TIE * logits.abs().amax(-1).clamp(min=1)


def _first_logits(module: nn.Module, split: Split, size: int, limit: int | None, device: torch.device) -> Tensor:
    count = len(split) if limit is None else min(limit, len(split))
    batches = islice(split.batches(size), math.ceil(count / size))
    return torch.cat([_logits(module, images.to(device), split) for images, _ in batches])[:count]


# --- latency, by the protocol of eavit.deploy.timing, which the bench may not import: one test holds both together


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one call: median, middle half of the calls relative to it, share of interrupted calls."""

    median_ms: float
    spread: float
    disturbed: float


def latencies(
    modules: Mapping[str, nn.Module], image_shape: Shape, batch: int = 1, seconds: float = 1.0, seed: int = 0
) -> dict[str, Latency]:
    """Latency of modules by name, timed in turn for about so many seconds in all, with the threads that torch has now.

    One thread: processor time of the process, which other processes hardly change; more: wall time. Medians are over
    calls that the system did not interrupt, where there are enough. Equal modules are timed once.
    """
    kinds = {name: _structure(module) for name, module in modules.items()}
    first: dict[str, str] = {}
    for name, kind in kinds.items():
        first.setdefault(kind, name)
    with ExitStack() as stack:
        calls = {}
        for name in first.values():
            device = stack.enter_context(_eval_mode(modules[name]))
            calls[name] = partial(modules[name], torch.zeros(batch, *image_shape, device=device))
        if gc.isenabled():
            stack.callback(gc.enable)
            gc.disable()
        timed = _timed_in_turn(calls, seconds, seed)
    return {name: timed[first[kind]] for name, kind in kinds.items()}


def latency_noise(timed: Mapping[str, Latency]) -> dict[str, float]:
    """Noise of some latencies: medians of their spread and of their share of interrupted calls; empty without any."""
    noise = {"latency_spread": [each.spread for each in timed.values()]}
    noise["latency_disturbed"] = [each.disturbed for each in timed.values()]
    return {name: round(float(np.median(values)), 4) for name, values in noise.items() if values}


def _structure(module: nn.Module) -> str:
    return f"{module}{[(name, tuple(value.shape)) for name, value in module.state_dict().items()]}"


Call = Callable[[], object]


def _timed_in_turn(calls: Mapping[str, Call], seconds: float, seed: int) -> dict[str, Latency]:
    clock, visits, once = time.process_time if torch.get_num_threads() == 1 else time.perf_counter, {}, 0.0
    visit = VISIT_SECONDS * min(1.0, seconds)  # less time in all is fewer calls, not fewer rounds
    for name, call in calls.items():
        least = min(_timed(call, clock)[0] for _ in range(WARM_UP))
        visits[name] = max(2, min(50, round(visit / max(least, 1e-6))))
        once += (visits[name] + 1) * least
    order, rng = list(calls), random.Random(seed)
    samples: dict[str, list[tuple[float, bool]]] = {name: [] for name in calls}
    for _ in range(int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, seconds / max(once, 1e-9))))):
        rng.shuffle(order)
        for name in order:
            calls[name]()  # the caches are those of this call again
            samples[name] += [_timed(calls[name], clock) for _ in range(visits[name])]
    return {name: _latency(sample) for name, sample in samples.items()}


def _timed(call: Call, clock: Callable[[], float]) -> tuple[float, bool]:
    """Seconds of a call, and whether the system interrupted it."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw, clock()
    call()
    seconds = clock() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw != before


def _latency(sample: Sequence[tuple[float, bool]]) -> Latency:
    clean = [seconds for seconds, disturbed in sample if not disturbed]
    enough = len(clean) >= FEWEST_CLEAN
    low, median, high = np.quantile(
        clean if enough else sorted(s for s, _ in sample)[: -(-len(sample) // 2)], QUARTILES
    )
    return Latency(float(median) * 1e3, float((high - low) / median), 1 - len(clean) / len(sample))
