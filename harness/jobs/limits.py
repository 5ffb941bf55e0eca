"""Limits of jobs: the memory of all their processes and the disk of their folders, measured now and then."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from harness.jobs.job import JobLimits

MIB = 1024.0 * 1024.0
SHARE = 0.9  # of the memory there is: the rest is for the system and for the process that runs the jobs
FIRST, MEMORY, DISK = 0.1, 1.0, 5.0  # seconds between two measurements: of memory at first and later, of disk
EFFORT = 20.0  # a measurement that takes long is made less often: between two, this times what it took

Exceeded = tuple[Literal["oom", "failed"], str]  # status and reason


def machine_mib() -> float:
    """Memory that jobs may take together: the machine's or its cgroup's, whichever is less, minus a tenth."""
    limits = cgroup_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return SHARE * min([float(psutil.virtual_memory().total), *limits]) / MIB


def cgroup_limits(groups: Path, mount: Path) -> list[float]:
    """Bytes allowed by the groups this process is in and by those around them: version 2 (``0::/path``) and 1."""
    limits = []
    for line in _text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            text = _text(folder / name).strip()
            limits += [float(text)] if text.isdigit() else []  # version 2 says "max" where there is none
            if folder == base:
                break
    return limits


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def folder_mib(folder: Path) -> float:
    """Disk blocks of all files in ``folder``; links are not followed, files that vanish meanwhile do not count."""
    total, pending = 0, [str(folder)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total / MIB


def memory_mib(process: psutil.Process) -> float:
    """Memory of one process; pages that it shares count in part, where the system tells."""
    try:
        used = process.memory_full_info()
        return float(getattr(used, "pss", used.rss)) / MIB
    except psutil.AccessDenied:
        return float(process.memory_info().rss) / MIB
    except psutil.Error:
        return 0.0


@dataclass
class UsageMonitor:
    """Measures the descendants of the process ``supervisor`` and a folder, and remembers the most that they took."""

    supervisor: int
    folder: Path
    limits: JobLimits
    peak_mib: float | None = None
    disk_mib: float | None = None
    _seen: set[psutil.Process] = field(default_factory=set)
    _due: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def check(self) -> Exceeded | None:
        """The limit that is exceeded, if one is. Measures only where enough time has passed."""
        age = time.monotonic() - self._began
        memory_pause = min(MEMORY, max(FIRST, age))  # short jobs have a peak too
        exceeded = self._measure("memory", 0.0, memory_pause, self.check_memory)
        return exceeded or self._measure("disk", MEMORY, DISK, self.check_disk)

    def _measure(self, what: str, first: float, pause: float, check: Callable[[], Exceeded | None]) -> Exceeded | None:
        began = time.monotonic()
        if began < self._due.setdefault(what, self._began + first):
            return None
        exceeded = check()
        now = time.monotonic()
        self._due[what] = now + max(pause, EFFORT * (now - began))
        return exceeded

    def check_memory(self) -> Exceeded | None:
        try:
            members = psutil.Process(self.supervisor).children(recursive=True)
        except psutil.Error:
            return None
        self._seen.update(members)
        used, limit = round(sum(map(memory_mib, members)), 1), self.limits.memory_mib
        self.peak_mib = max(used, self.peak_mib or 0.0)
        if limit is None or used <= limit:
            return None
        return "oom", f"memory: its processes took {used:.0f} MiB, {limit:.0f} allowed (peak {used:.0f} MiB)"

    def check_disk(self) -> Exceeded | None:
        used, limit = folder_mib(self.folder), self.limits.disk_mib
        self.disk_mib = max(used, self.disk_mib or 0.0)
        if limit is None or used <= limit:
            return None
        return "failed", f"disk: its folder took {used:.0f} MiB, {limit:.0f} allowed"

    def kill_seen(self) -> None:
        """Kill the processes that were seen and outlived their supervisor, which something else has killed."""
        for process in self._seen:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)  # psutil knows a process from a later one of the same number
