"""Random SIGKILLs over many short cells: cells, supervisors, fork servers and runs die at operations and moments.

Each storm has a store of its own, worked on by one run or by two at once, each started again when it dies. After the
quota of kills one undisturbed run ends the work, and what is left is judged.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.results import maintenance
from harness.results.store import Store
from tests.faults import light, moments

ROOT = Path(__file__).resolve().parents[2]
SUITE, METHODS, SEEDS = "storm", 3, 30
MEMORY = Path("/dev/shm")  # kills do not depend on the disk below, and waiting for one is most of the time otherwise
SHARE = 0.85  # of the starts of a cell that die
OF_A_RUN = frozenset({"train_seconds", "latency_ms"})
TAG = "EAVIT_FAULTS"  # every process that a program here starts has it in its environment
PROBED = re.compile("[a-z0-9_]{8}")  # by which Python's tempfile asks whether a folder can be written
GOOD_ENDS = (0, 1, -signal.SIGKILL)
PATIENCE = 5.0  # seconds until everything that a killed run started must be gone
STUCK = 900.0


@dataclass
class Tally:
    """What was done and what came of it; all but ``kills``, ``starts`` and ``runs`` must stay empty."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    runs: int = 0
    corrupt: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        named = {"corrupt": self.corrupt, "duplicate": self.duplicates, "process left": self.processes}
        named |= {"file left": self.files, "points": self.points, "end": self.ends}
        return [f"{name}: {text}" for name, texts in named.items() for text in texts]


def environment(tag: str, place: Path) -> dict[str, str]:
    temp = place / "tmp"
    temp.mkdir(exist_ok=True)
    fixed = {TAG: tag, "PYTHONPATH": str(ROOT), "TMPDIR": str(temp), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return {**os.environ, **fixed}


class Runs:
    """``run`` of the command line in one place, by one process or several, that die and are started again."""

    def __init__(self, place: Path, tag: str, seed: int, cells: str = "light") -> None:
        self.place, self.tag, self.draw, self.cells = place, tag, random.Random(seed), cells
        self.number = 0

    def start(self, at: int = 0, torn: bool = False) -> subprocess.Popen[bytes]:
        self.number += 1
        log = (self.place / f"run{self.number}.log").open("wb")
        words = [self.cells, str(at), "torn" if torn else "whole", str(self.place / "kills")]
        command = [sys.executable, "-m", "tests.faults.victim", *words, "run", f"{SUITE}.toml", "--workers", "3"]
        with log:
            return subprocess.Popen(
                command, cwd=self.place, env=environment(self.tag, self.place), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def said(self, number: int) -> str:
        return (self.place / f"run{number}.log").read_text(errors="replace").strip()[-300:]


class Slot:
    """One run at a time, each with a death of its own: at an operation, at a moment, or none."""

    def __init__(self, runs: Runs) -> None:
        self.runs, self.process, self.moment, self.number = runs, None, 0.0, 0
        self.process: subprocess.Popen[bytes] | None

    def step(self, tally: Tally) -> bool:
        """Start the run, or end it, as its time has come; whether it found nothing more to do."""
        draw = self.runs.draw
        if self.process is None:
            kind = draw.random()
            self.moment = time.monotonic() + (draw.uniform(0.2, 3.0) if kind < 0.25 else STUCK)
            at = draw.randint(1, 40) if kind < 0.4 else draw.randint(1, 2000)
            self.process = self.runs.start(0 if kind < 0.25 or kind > 0.96 else at, draw.random() < 0.5)
            self.number = self.runs.number
            tally.runs += 1
            return False
        if self.process.poll() is None and time.monotonic() > self.moment:
            self.process.kill()
            tally.kills["run moment"] += 1
            self.process.wait()
        if (code := self.process.poll()) is None:
            return False
        if code not in GOOD_ENDS:
            tally.ends.append(f"exit code {code}: {self.runs.said(self.number)}")
        self.process = None
        return code == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def storm(place: Path, calm: Path, tag: str, seed: int, quota: int, runners: int) -> Tally:
    """Kill at least ``quota`` times, or until all cells are done; then end the work and judge."""
    lay_out(place, calm)
    tally, runs = Tally(), Runs(place, tag, seed)
    (place / "chaos.json").write_text(json.dumps({"seed": seed, "share": SHARE}))
    slots, until = [Slot(runs) for _ in range(runners)], time.monotonic() + STUCK
    try:
        while killed(place, tally) < quota and not sum(slot.step(tally) for slot in slots):
            strike(place, slots, runs.draw, tally)
            time.sleep(0.02)
            if time.monotonic() > until:
                tally.ends.append(f"{quota} kills were not reached in {STUCK:.0f} s")
                break
    finally:
        for slot in slots:
            if slot.process is not None and slot.process.poll() is None:
                tally.kills["run moment"] += 1
            slot.kill()
    (place / "chaos.json").unlink()
    tally.kills += Counter((place / "kills").read_text().splitlines())
    judge(place, calm, tag, runs, tally)
    return tally


def lay_out(place: Path, calm: Path | None = None) -> None:
    light.suite(place, SUITE, METHODS, 1, SEEDS)
    (place / "marks").mkdir()
    (place / "kills").touch()
    if calm is not None:
        shutil.copytree(calm / "runs" / ".cache", place / "runs" / ".cache")


def undisturbed(place: Path, tag: str) -> None:
    lay_out(place)
    process = Runs(place, tag, 0).start()
    if process.wait() != 0:
        raise RuntimeError((place / "run1.log").read_text())


def killed(place: Path, tally: Tally) -> int:
    return tally.kills.total() + (place / "kills").read_bytes().count(b"\n")


def strike(place: Path, slots: Sequence[Slot], draw: random.Random, tally: Tally) -> None:
    """Now and then kill a cell, its supervisor or a fork server from outside."""
    if draw.random() > 0.04:
        return
    newest = sorted(place.glob("marks/*.[0-9]*"), key=lambda mark: -mark.stat().st_mtime_ns)[:4]
    for mark in newest:
        named = dict(zip(("cell", "supervisor", "fork server"), mark.read_text().split(), strict=False))
        if len(named) < 3 or moments.pid_of(named["cell"]) is None:
            continue
        kind = draw.choices(list(named), (8, 1, 1))[0]
        pid = moments.pid_of(named[kind])
        if pid is None or pid in {slot.process.pid for slot in slots if slot.process}:
            continue  # it ended meanwhile, or the cell is no fork: the parent of its supervisor is the run
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            tally.kills[f"{kind} moment"] += 1
        return


def judge(place: Path, calm: Path, tag: str, runs: Runs, tally: Tally) -> None:
    root = place / "results" / SUITE
    tally.processes += left_processes(tag)
    tally.corrupt += [str(fault) for fault in maintenance.verify(Store(root))]
    code = runs.start().wait()
    if code:
        tally.ends.append(f"the undisturbed run ended with {code}: {runs.said(runs.number)}")
    tally.corrupt += [str(fault) for fault in maintenance.verify(Store(root))]
    tally.processes += left_processes(tag)
    bench(place, tag, "gc", f"{SUITE}.toml", "--yes")
    tally.files += left_files(place)
    tally.points += differences(root / "points.csv", calm / "results" / SUITE / "points.csv")
    marks = sorted(path.name for path in (place / "marks").iterdir())
    tally.starts = sum(name.rpartition(".")[2].isdigit() for name in marks)
    tally.duplicates += [name for name in marks if name.startswith(("again-", "beside-"))]
    tally.processes += [name for name in marks if name.startswith("orphan-")]


def bench(place: Path, tag: str, *words: str) -> str:
    command = [sys.executable, "-m", "harness.cli", *words]
    done = subprocess.run(
        command, cwd=place, env=environment(tag, place), capture_output=True, text=True, check=False, timeout=STUCK
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def left_processes(tag: str) -> list[str]:
    """Processes that a run of this program started, still there after a while."""
    until = time.monotonic() + PATIENCE
    while (found := list(tagged(tag))) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def tagged(tag: str) -> Iterable[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"{TAG}={tag}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    yield f"{entry.name} {(entry / 'cmdline').read_bytes().decode(errors='replace')[:200]!r}"
            except OSError:
                continue


def left_files(place: Path) -> list[str]:
    """What killed writers left and nobody took away. Cells that are done need no work folder and no lock."""
    found = [path for folder in ("results", "runs") for path in (place / folder).rglob("*") if temporary(path)]
    found += (place / "results" / SUITE / "locks").iterdir()
    found += [path for path in (place / "runs" / SUITE).glob("*") if path.is_dir()]
    found += [path for path in (place / "tmp").iterdir() if not PROBED.fullmatch(path.name)]
    return sorted(str(path.relative_to(place)) for path in found)


def temporary(path: Path) -> bool:
    return ".tmp" in path.name or path.name.startswith(".probe-")


def differences(found: Path, wanted: Path) -> list[str]:
    """Rows that are not the same, seconds and latency aside."""
    if not found.exists():
        return [f"{found.name} is not there"]
    ours, theirs = rows(found), rows(wanted)
    if len(ours) != len(theirs):
        return [f"{len(ours)} rows, the undisturbed run has {len(theirs)}"]
    return [f"{one} is not {other}" for one, other in zip(ours, theirs, strict=True) if one != other]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name not in OF_A_RUN} for row in csv.DictReader(file)]
