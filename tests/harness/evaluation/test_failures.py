"""Status and reason of every kind of exception."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from harness.data.loading import LeakError
from harness.data.locations import DataError
from harness.evaluation.failures import ChangedError, error_message, failure_status


class Skips(RuntimeError):
    skips = True


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("a  b\n c"), "failed", "ValueError: a b c"),
        (ValueError(), "failed", "ValueError"),
        (FloatingPointError(), "nan", "a value was not finite"),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "disk: [Errno 28] No space left on device"),
        (RuntimeError("x" * 5000 + " No space left on device"), "failed", "disk: xxx"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom", "OSError: [Errno 12]"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom", "OutOfMemoryError: CUDA out of memory (peak "),
        (MemoryError(), "oom", "MemoryError (peak "),
        (ChangedError("code: x"), "failed", "code: x"),
        (LeakError("no"), "failed", "leak: no"),
        (DataError("no"), "skipped", "data: no"),
        (Skips("place the weights"), "skipped", "Skips: place the weights"),
    ],
)
def test_every_exception_has_a_status_and_a_reason(error: Exception, status: str, reason: str) -> None:
    found = failure_status(error)
    assert found[0] == status
    assert found[1].startswith(reason)
    assert len(found[1]) < 1100


def test_a_message_has_no_absolute_path() -> None:
    assert error_message(ValueError(f"{Path.home()}/deep/file.txt is gone")) == "…/file.txt is gone"
