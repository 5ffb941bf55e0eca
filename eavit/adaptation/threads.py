"""Threads of an adaptation on processors: one for each physical core, unless the environment or the caller says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from eavit.options import whole

VARIABLE = "OMP_NUM_THREADS"
SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def physical_cores() -> int:
    """Cores that this process may use; two hardware threads of one core count once, where the system tells them."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    usable = os.sched_getaffinity(0)
    files = {cpu: Path(SIBLINGS.format(cpu)) for cpu in usable}
    return len({file.read_text() if file.is_file() else str(cpu) for cpu, file in files.items()})


def default_threads() -> tuple[int, str]:
    """Threads to use, and the reason."""
    stated = os.environ.get(VARIABLE, "")
    if stated.isdecimal() and int(stated):
        return int(stated), f"by {VARIABLE}"
    return physical_cores(), "one for each physical core"


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's threads inside and restore them after."""
    before = torch.get_num_threads()
    torch.set_num_threads(whole("threads", count, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
