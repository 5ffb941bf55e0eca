"""The record of one cell: what was run, what came out, what it cost. Schema 3."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from harness.plan import Cell
from harness.tasks import ACCURACY

SLACK = 1e-9  # budgets of a grid are powers: the largest may be 1 - 1e-16
SCHEMA_VERSION = 3  # a new one needs a step in harness/results/cell_files.py

Status = Literal["ok", "unreachable", "failed", "oom", "nan", "timeout", "killed", "skipped", "suspicious"]
STATUSES: tuple[Status, ...] = get_args(Status)
USABLE = frozenset({"ok", "unreachable", "suspicious"})  # adapted to the end: others may build on its choices
AGAIN = frozenset({"killed", "skipped"})  # says nothing about the method: the next run tries again by itself

STRICT = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Point(BaseModel):
    """The answer to one budget. ``correct`` of ``n`` test images, or, where an image is not just right or wrong, the
    ``scores`` of the whole split by name; MACs are counted; latency is of one image, on CPU.
    """

    model_config = STRICT
    budget: float
    status: Status
    key: str | None = None
    macs: int | None = None
    params: int | None = None
    correct: int | None = None
    n: int | None = None
    scores: dict[str, float] | None = Field(default=None, exclude_if=lambda scores: scores is None)
    latency_ms: float | None = None
    reason: str = ""


class PhaseCost(BaseModel):
    """Totals of one phase of a ledger; MACs are multiply-accumulates, backward ones counted apart."""

    model_config = STRICT
    seconds: float = 0.0
    forward_macs: float = 0.0
    backward_macs: float = 0.0
    images: int = 0
    steps: int = 0

    @property
    def macs(self) -> float:
        return self.forward_macs + self.backward_macs


class Record(BaseModel):
    """``points`` holds one entry a budget, in the suite's order, whatever the status."""

    model_config = STRICT
    schema_version: Literal[3] = 3
    cell: str
    suite: str
    method: str
    dataset: str
    seed: int
    identity: dict[str, JsonValue]
    status: Status
    reason: str = ""
    points: tuple[Point, ...]
    grid: tuple[Point, ...] = ()  # answers to the budgets of the area, ascending; without parameters and latency
    full_macs: int | None = None
    choice_hash: str | None = None  # of all choices, taken before the test split was opened
    data: dict[str, JsonValue] = Field(default_factory=dict)  # fingerprint, sizes and classes of the data set
    given: dict[str, dict[str, str]] = Field(default_factory=dict)  # method -> budget -> key, from needed cells
    ledger: dict[str, PhaseCost] = Field(default_factory=dict)
    diagnostics: dict[str, JsonValue] = Field(default_factory=dict)  # the method's own report()
    environment: dict[str, JsonValue] = Field(default_factory=dict)
    started: str
    finished: str
    seconds: float
    attempts: int = 1  # starts of the cell, this one included, since it was last whole or missing
    peak_mib: float | None = None  # most memory of its process
    disk_mib: float | None = None  # largest size of its work folder: checkpoints

    @property
    def score(self) -> str:
        """Name of the score that the suite is about."""
        return str(self.identity.get("score", ACCURACY))

    def value(self, point: Point) -> float | None:
        """The score of a point."""
        if point.scores is not None:
            return point.scores.get(self.score)
        return point.correct / point.n if point.correct is not None and point.n else None

    @property
    def chance(self) -> float | None:
        """The score of guessing."""
        levels, classes = self.data.get("chance"), self.data.get("classes")
        if isinstance(levels, dict):
            level = levels.get(self.score)
            return level if isinstance(level, float) else None
        return 1 / len(classes) if isinstance(classes, list) and self.score == ACCURACY else None

    def macs_of(self, *phases: str) -> float:
        return sum(self.ledger[phase].macs for phase in phases if phase in self.ledger)

    @property
    def train_macs(self) -> float:
        return self.macs_of(*self.ledger)

    @property
    def train_seconds(self) -> float:
        return sum(cost.seconds for cost in self.ledger.values())

    @property
    def callable(self) -> str:
        """Name of the callable behind the method, whatever the suite calls it; else the method's name."""
        method = self.identity.get("method")
        use = method.get("use") if isinstance(method, Mapping) else None
        return use.rpartition(":")[2] if isinstance(use, str) else self.method

    @property
    def title(self) -> str:
        return f"{self.method} · {self.dataset} · seed {self.seed}"

    @property
    def area(self) -> float | None:
        """Area over all budgets of the grid: :meth:`area_from`."""
        return self.area_from(0.0)

    def area_from(self, budget: float) -> float | None:
        """Mean score of the choices for the budgets of the grid from this one on, an unreachable one counting as
        guessing (0..1). None: there is no grid, or a budget has no answer.
        """
        chance = self.chance
        grid, points = ([p for p in those if p.budget > budget - SLACK] for those in (self.grid, self.points))
        answered = all(point.status in USABLE for point in (*points, *grid))
        if not grid or not answered or chance is None:
            return None
        values = [self.value(point) for point in grid]
        return sum(chance if value is None else value for value in values) / len(values)

    def choices(self) -> dict[str, str]:
        """Budget, as text, to key: what methods that come after this one are given."""
        return {repr(p.budget): p.key for p in self.points if p.key is not None and p.status in USABLE}


def failed_record(
    cell: Cell, status: Status, reason: str, *, began: datetime, environment: Mapping[str, JsonValue]
) -> Record:
    """The record of a cell without results: one empty point a budget, each with the status and the reason."""
    points = tuple(Point(budget=b, status=status, reason=reason) for b in cell.content["budgets"])
    return ended_record(cell, status, reason, points, began=began, environment=environment)


def ended_record(
    cell: Cell,
    status: Status,
    reason: str,
    points: tuple[Point, ...],
    *,
    began: datetime,
    environment: Mapping[str, JsonValue],
    **more: Any,
) -> Record:
    """The record of a cell that ended just now; ``more``: further fields."""
    finished = now()
    return Record(
        cell=cell.id,
        suite=cell.suite,
        method=cell.method,
        dataset=cell.dataset,
        seed=cell.seed,
        identity=dict(cell.content),
        status=status,
        reason=reason,
        points=points,
        environment=dict(environment),
        started=iso_time(began),
        finished=iso_time(finished),
        seconds=round((finished - began).total_seconds(), 3),
        **more,
    )


def now() -> datetime:
    return datetime.now(UTC)


def iso_time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def run_environment(
    threads: int, commit: str | None, *, workers: int | None = None, processes: int = 1
) -> dict[str, JsonValue]:
    """Environment that numbers and times depend on beside the cell. Nothing that names the machine or its user.

    ``workers``: cells that ran at once; ``processes``: of one cell. ``machine`` is alike for machines of one make.
    """
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "timm", "numpy")},
        "platform": f"{platform.system()} {platform.machine()}",
        "machine": machine_id(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "workers": workers,
        "processes": processes,
        "commit": commit,
    }


@cache
def machine_id() -> str:
    """12 digits for the model of CPU, the number of CPUs and the GiB of memory: times compare where they are equal."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    about = f"{_cpu()}|{os.cpu_count()}|{round(memory / 2**30) * 1024}"
    return hashlib.sha256(about.encode("utf-8")).hexdigest()[:12]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit(folder: Path) -> str | None:
    """The git commit of ``folder``, ``+changes`` added where files differ from it; None where git cannot say."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    # Results are what runs write: they do not make the code another one.
    others = ("--", ":/", ":(top,exclude)results")
    return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no", *others) else "")


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
