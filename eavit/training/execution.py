"""Device, precision and number of images at once of models outside the training loop. The same as in it, so that
preparation and search take neither another device nor more memory than training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from eavit.model.inputs import pieces_of
from eavit.training.distributed import world

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def accelerator_of(precision: str) -> Accelerator:
    """Device and precision of this process; ValueError where it has no device for the precision."""
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("schedule: precision='fp16' needs a GPU and this machine has none; use 'bf16' or 'no'")
    world()  # joins a process group, if there is one to join, before accelerate looks for it
    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process; each fit has its own
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=precision)


@dataclass(frozen=True, slots=True)
class Execution:
    """``precision`` and ``micro_batch`` as a schedule has them."""

    precision: str = "no"
    micro_batch: int = 0  # most images at once; 0: as many as a batch has

    @classmethod
    def of(cls, schedule: Mapping[str, Any]) -> Execution:
        """Execution by a suite's [schedule] table."""
        return cls(schedule.get("precision", "no"), schedule.get("micro_batch", 0))

    @property
    def for_gradients(self) -> Execution:
        """Execution of a backward pass without a scaled loss, whose gradients are too small for float16."""
        return replace(self, precision="no") if self.precision == "fp16" else self

    @property
    def device(self) -> torch.device:
        """Device on which a fit of this schedule trains."""
        device: torch.device = accelerator_of(self.precision).device
        return device

    def autocast(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Run the model in this precision on the device where it is; in full precision nothing is changed."""
        if self.precision == "no":
            return nullcontext()
        return torch.autocast(next(model.parameters()).device.type, DTYPES[self.precision])

    def pieces(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The images and labels of all batches in pieces that may run at once."""
        for images, labels in batches:
            yield from pieces_of(images, labels, self.micro_batch)


PLAIN = Execution()  # float32, all images of a batch at once
