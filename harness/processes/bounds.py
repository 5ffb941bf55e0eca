"""What a cell may take and takes: memory of all its processes, disk of its folder. Linux tells; elsewhere nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

MIB = 1024.0 * 1024.0
SHARE = 0.9  # of the memory there is: the rest is the system's and the engine's
FIRST, LOOK, WEIGH = 0.1, 1.0, 5.0  # seconds between two looks at memory, at first and later, and at disk
EFFORT = 20.0  # a look that takes long is taken less often: this times what it took passes between two

Broken = tuple[Literal["oom", "failed"], str]  # status and reason


class Process(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int
    born: str  # in ticks of the kernel: a number that is given again has another birth


def machine_mib() -> float | None:
    """Memory that cells may take together: the machine's or its cgroup's, whichever is less, minus a tenth."""
    limits = [*_total(), *_cgroup_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    return SHARE * min(limits) / MIB if limits else None


def _total() -> list[float]:
    try:
        return [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    except (ValueError, OSError):
        return []


def _cgroup_limits(own: Path, mount: Path) -> list[float]:
    """Limits of the groups this process is in and of those around them: version 2 (``0::/path``) and version 1."""
    found = []
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            text = _text(folder / name).strip()
            found += [float(text)] if text.isdigit() else []  # version 2 says "max" where there is none
            if folder == base:
                break
    return found


def limit_data(mib: float) -> None:
    """Bound the data of this process and of those it starts: what would go over it is refused, and can say so."""
    most = int(mib * MIB)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def folder_mib(folder: Path) -> float:
    """Blocks on the disk of all files below; links are not followed, what vanishes meanwhile counts nothing."""
    total, todo = 0, [str(folder)]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total / MIB


def family(root: int) -> list[Process]:
    """The process, its group and session, all they started, and the groups and sessions of these."""
    every = list(_processes())
    found: dict[int, Process] = {}
    heads, before = {root}, -1
    while len(found) > before:
        before = len(found)
        for one in every:
            if heads & {one.pid, one.parent, one.group, one.session}:
                found[one.pid] = one
                heads.add(one.pid)
    return list(found.values())


def _processes() -> Iterator[Process]:
    if not os.path.isdir("/proc/self"):  # noqa: PTH112
        return
    for name in os.listdir("/proc"):  # noqa: PTH208  # read every second: no objects
        if name.isdigit() and (text := _text(Path("/proc", name, "stat"))):
            rest = text.rpartition(")")[2].split()  # a name may hold spaces and brackets
            if rest[0] != "Z":
                yield Process(int(name), int(rest[1]), int(rest[2]), int(rest[3]), rest[19])


def memory_mib(processes: list[Process]) -> float:
    """What they really take: pages they share with others by their share, where the kernel tells it."""
    total = 0.0
    for one in processes:
        lines = _text(Path("/proc", str(one.pid), "smaps_rollup")).splitlines()
        share = next((line.split()[1] for line in lines if line.startswith("Pss:")), None)
        total += float(share) / 1024 if share is not None else _resident(one.pid)
    return total


def _resident(pid: int) -> float:
    words = _text(Path("/proc", str(pid), "statm")).split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / MIB if words else 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass
class Watch:
    """Looks now and then at the processes that came from ``root`` and at ``folder``."""

    root: int
    folder: Path
    memory: float | None = None  # MiB it may take
    disk: float | None = None
    peak_mib: float | None = None
    disk_mib: float | None = None
    _groups: dict[int, str] = field(default_factory=dict)  # group -> birth of its leader
    _due: dict[str, float] = field(default_factory=dict)

    def look(self) -> Broken | None:
        """Which bound is broken, if one is. Costs nothing most of the times it is asked."""
        broken = None
        if (now := time.monotonic()) >= self._due.get("memory", now):
            broken = self._memory()
            age = now - self._due.setdefault("began", now)
            self._due["memory"] = _next(now, min(LOOK, max(FIRST, age)))  # short cells have a peak too
        if broken is None and (now := time.monotonic()) >= self._due.setdefault("disk", now + LOOK):
            broken = self.weigh()
            self._due["disk"] = _next(now, WEIGH)
        return broken

    def weigh(self) -> Broken | None:
        now = folder_mib(self.folder)
        self.disk_mib = max(now, self.disk_mib or 0.0)
        if self.disk is None or now <= self.disk:
            return None
        return "failed", f"disk: its folder took {now:.0f} MiB, {self.disk:.0f} allowed"

    def _memory(self) -> Broken | None:
        members = family(self.root)
        if not members:
            return None
        self._groups.update(_groups(members))
        taken = memory_mib(members)
        self.peak_mib = max(taken, self.peak_mib or 0.0)
        if self.memory is None or taken <= self.memory:
            return None
        return "oom", f"memory: its processes took {taken:.0f} MiB, {self.memory:.0f} allowed (peak {taken:.0f} MiB)"

    def kill(self, number: signal.Signals) -> None:
        """Signal the group of ``root`` and the groups that were seen to come from it, whoever leads them by now."""
        now = {one.pid: one.born for one in _processes()}
        seen = {**self._groups, **_groups(family(self.root)), self.root: now.get(self.root, "")}
        for group, born in seen.items():
            if now.get(group, born) == born and group != os.getpgrp():  # else the number has another owner by now
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)


def _groups(members: list[Process]) -> dict[int, str]:
    leaders = {one.pid: one.born for one in members}
    return {one.group: leaders[one.group] for one in members if one.group in leaders}


def _next(began: float, least: float) -> float:
    now = time.monotonic()
    return now + max(least, EFFORT * (now - began))
