"""Several processes on one fit: who this process is, its share of a batch, one sum of gradients, words from the first.

Every process keeps the whole model and sees the same batches; each works on its contiguous share of the rows. What is
drawn is named by (seed, step) and so the same everywhere, which :func:`reduce_gradients` checks at every step. Without
``torchrun`` (and without a process group) all of this is a world of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby, pairwise
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

Value = TypeVar("Value")
BUCKET = 32 * 2**20  # bytes of gradients that travel together


class OutOfStepError(RuntimeError):
    """Processes of one fit do not do the same thing."""


def _joined() -> bool:
    """Return whether there is a process group; ``torchrun``'s is joined at the first call."""
    if not distributed.is_available():
        return False
    if not distributed.is_initialized() and distributed.is_torchelastic_launched():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return distributed.is_initialized()


def rank() -> int:
    """Number of this process, 0 for the first or the only one."""
    return distributed.get_rank() if _joined() else 0


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if _joined() else 1


def is_main() -> bool:
    """The process that writes: the first, or the only one."""
    return rank() == 0


def _bounds(place: int, places: int, whole: int) -> tuple[int, int]:
    """Rows of the ``place``-th of ``places`` contiguous pieces, which differ by one row at most."""
    return place * whole // places, (place + 1) * whole // places


@dataclass(frozen=True, slots=True)
class Share:
    """Rows ``start`` to ``stop`` of a step's batch of ``whole`` images: what this process works on."""

    start: int
    stop: int
    whole: int

    @classmethod
    def of(cls, whole: int) -> Share:
        """The share of this process in a batch of ``whole`` images; ValueError where not every process gets one."""
        processes = world()
        if whole < processes:
            raise ValueError(f"a batch of {whole} cannot be shared by {processes} processes; let batch be {processes}")
        return cls(*_bounds(rank(), processes, whole), whole)

    @property
    def rows(self) -> slice:
        """The rows of the batch, as a slice."""
        return slice(self.start, self.stop)

    def pieces(self, size: int) -> list[Share]:
        """The share in pieces of at most ``size`` rows, alike to one row; 0: as it is."""
        rows = self.stop - self.start
        count = -(-rows // size) if size else 1
        ends = [self.start + place * rows // count for place in range(count + 1)]
        return [replace(self, start=low, stop=high) for low, high in pairwise(ends)]

    def part(self, part: tuple[int, int] | None) -> tuple[slice, int]:
        """This process's rows, counted within its share, of the i-th of g micro-batches, and that one's whole size.

        Micro-batches are pieces of the step's batch, not of each share: so they do not depend on the processes.
        """
        first, last = (0, self.whole) if part is None else _bounds(*part, self.whole)
        begin, end = max(first, self.start), min(last, self.stop)
        return slice(begin - self.start, max(begin, end) - self.start), last - first


def from_main(make: Callable[[], Value]) -> Value:
    """Broadcast what the first process makes to all; a value that JSON can represent. The others wait."""
    if world() == 1:
        return make()
    device = _device()
    content = torch.empty(0, dtype=torch.uint8, device=device)
    if is_main():
        content = torch.frombuffer(bytearray(json.dumps(make()).encode()), dtype=torch.uint8).to(device)
    length = torch.tensor([len(content)], device=device)
    distributed.broadcast(length, 0)
    if not is_main():
        content = torch.empty(int(length), dtype=torch.uint8, device=device)
    distributed.broadcast(content, 0)
    value: Value = json.loads(bytes(content.cpu().tolist()))
    return value


def _device() -> torch.device:
    """Device of small messages: gloo uses memory, nccl a GPU's alone."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


@torch.no_grad()
def same_start(model: nn.Module) -> None:
    """Parameters and buffers of the first process on all of them."""
    if world() == 1:
        return
    for tensor in model.state_dict().values():
        distributed.broadcast(tensor, 0)


def require_same(what: str, words: str) -> None:
    """OutOfStepError, on every process, unless all of them say the same."""
    if world() > 1:
        _compare(what, words, torch.zeros(0, dtype=torch.int64))


def _compare(what: str, words: str, flags: Tensor) -> Tensor:
    """The largest of each flag over the processes, in one message with the comparison of ``words``."""
    name = int.from_bytes(blake2b(words.encode(), digest_size=7).digest(), "big")
    message = torch.cat([torch.tensor([name, -name]), flags]).to(_device())
    distributed.all_reduce(message, distributed.ReduceOp.MAX)
    message = message.cpu()
    if message[0] != -message[1]:  # the largest and the smallest name
        raise OutOfStepError(f"{what}: processes differ; process {rank()} has {words}")
    return message[2:]


def summed(value: float) -> float:
    """The sum of a number over the processes, on all of them."""
    if world() == 1:
        return value
    total = torch.tensor([value], dtype=torch.float64, device=_device())
    distributed.all_reduce(total)
    return float(total)


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors in the given order, like with like, up to ``BUCKET`` bytes each."""
    for _, alike in groupby(gradients, key=lambda g: (g.dtype, g.device)):
        bucket: list[Tensor] = []
        for gradient in alike:
            bucket.append(gradient)
            if sum(g.nbytes for g in bucket) >= BUCKET:
                yield bucket
                bucket = []
        if bucket:
            yield bucket


@torch.no_grad()
def reduce_gradients(parameters: Sequence[nn.Parameter], what: str, drawn: str, finite: bool) -> bool:
    """Sum gradients over the processes once all passes of a step are propagated; whether all losses were finite.

    A parameter that no pass used on any process keeps no gradient, as with one process: the optimiser leaves it alone.
    Every process must have drawn the same (``drawn``), else OutOfStepError on all of them. Losses are weighted before
    (by rows of the share over rows of the batch), so the sum is the mean's gradient. Why not DDP: docs/decisions/0008.
    """
    if world() == 1:
        return finite
    flags = torch.tensor([not finite, *(p.grad is not None for p in parameters)], dtype=torch.int64)
    broken, *used = _compare(what, drawn, flags).tolist()
    if broken:
        return False
    reached = [p for p, flag in zip(parameters, used, strict=True) if flag]
    for parameter in reached:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets(p.grad for p in reached if p.grad is not None):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        distributed.all_reduce(flat)
        for gradient, total in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(total.view_as(gradient))
    return True
