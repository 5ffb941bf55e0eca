"""Status and reason of a cell that raised an exception."""

from __future__ import annotations

import errno
import resource

import torch

from harness.data.loading import LeakError
from harness.data.locations import DataError
from harness.jobs.logs import scrubbed
from harness.messages import one_line
from harness.results.record import Status

MEMORY_MESSAGES = ("DefaultCPUAllocator: can't allocate", "Cannot allocate memory")


class BackboneError(ValueError):
    """Raised for a backbone that does not fit the suite's [input] or the classes of the data set."""


class ChangedError(ValueError):
    """Raised for code or data that differ from those that the cell was planned with."""


class ProcessesError(ValueError):
    """Raised for a cell in another number of processes than its suite says."""


def failure_status(error: BaseException) -> tuple[Status, str]:
    """Status and reason for an exception raised in a cell; the reason is one printable line."""
    message = error_message(error)
    named = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if isinstance(error, FloatingPointError):
        return "nan", message or "a value was not finite"
    if is_disk_full(error):
        return "failed", f"disk: {message}"
    if _is_out_of_memory(error):
        return "oom", f"{named} (peak {peak_mib():.0f} MiB in this process{_gpu_peak()})"
    if isinstance(error, ChangedError):
        return "failed", message
    if isinstance(error, LeakError):
        return "failed", f"leak: {message}"
    if isinstance(error, DataError):
        return "skipped", f"data: {message}"
    return "skipped" if getattr(error, "skips", False) else "failed", named


def error_message(error: BaseException) -> str:
    """Text of an exception as one printable line without absolute paths."""
    return one_line(scrubbed(_text(error)[:4000]))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as other:  # a stranger's __str__
        return f"its message cannot be read: {type(other).__name__}"


def is_disk_full(error: BaseException) -> bool:
    """Return whether a disk or quota is full; safetensors and torch pass on the system's error as text alone."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in _text(error)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    failed = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return failed or any(message in _text(error) for message in MEMORY_MESSAGES)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def _gpu_peak() -> str:
    if not torch.cuda.is_initialized():
        return ""
    return f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on its GPU"
