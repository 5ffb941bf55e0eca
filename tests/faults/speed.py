"""``python -m tests.faults.speed [--cells N] [--repeat N]``: how fast ten thousand cells are planned and found again.

Medians over whole processes, from their start to their end. On a machine that others keep busy (a load of three
quarters of its cores) their own CPU seconds are held against the bars. Exit code 1 if a bar is missed, if a cached run
imports torch or starts a process, or if two runs on one store train a cell twice.
"""

from __future__ import annotations

import argparse
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from harness.commands.open_suite import open_suite
from harness.commands.options import Where
from harness.results.cell_files import Outcome
from harness.results.store import Store
from tests.faults import light
from tests.faults.storm import MEMORY, Runs, environment, lay_out
from tests.harness import small

PLAN, CACHED = 2.0, 10.0  # seconds
METHODS, DATASETS = 10, 10
WATCHED = """
import sys
started = []
def hook(event, given):
    if event == "subprocess.Popen" and "git" not in str(given[0]):
        started.append(str(given[1]))
sys.addaudithook(hook)
sys.argv[0] = "eavit-bench"
from harness import cli
try:
    cli.main()
finally:
    heavy = sorted({"torch", "torchvision", "timm"} & sys.modules.keys())
    print("WATCHED", *heavy, *started, file=sys.stderr)
"""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--place", type=Path, help="the folder to work in; default: memory, else the temporary one")
    asked = parser.parse_args(words)
    given = asked.place or (MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
    place = Path(tempfile.mkdtemp(prefix="speed-", dir=given))
    try:
        missed = [*cached(place / "many", asked.cells, asked.repeat), *shared(place / "shared")]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for miss in missed:
        print(f"  ! {miss}")
    print("FAILED" if missed else "all bars hold")
    return int(bool(missed))


def cached(place: Path, cells: int, repeat: int) -> list[str]:
    suite = light.suite(place, "many", METHODS, DATASETS, cells // (METHODS * DATASETS), after=False)
    missed: list[str] = []
    busy = os.getloadavg()[0] > 0.75 * (os.cpu_count() or 1)
    print(f"load {os.getloadavg()[0]:.1f}: the bars are of {'CPU' if busy else 'wall'} seconds", flush=True)
    bench(place, "plan", suite.name)  # reads the data sets, once
    missed += told("plan, nothing there", PLAN, [bench(place, "plan", suite.name) for _ in range(repeat)], busy)
    fill(place, suite)
    missed += told("plan, all there, first time", None, [bench(place, "plan", suite.name)], busy)
    missed += told("plan, all there", PLAN, [bench(place, "plan", suite.name) for _ in range(repeat)], busy)
    took = [bench(place, "run", suite.name, missed=missed) for _ in range(repeat)]
    return [*missed, *told("run, all there", CACHED, took, busy)]


@dataclass(frozen=True)
class Took:
    wall: float
    cpu: float


def told(what: str, bar: float | None, times: Sequence[Took], busy: bool) -> list[str]:
    wall, cpu = (statistics.median(seconds) for seconds in zip(*map(astuple, times), strict=True))
    limit = "" if bar is None else f", bar {bar:g} s"
    print(f"{what:<28}{wall:6.2f} s, {cpu:.2f} s of CPU ({len(times)} times{limit})", flush=True)
    judged = cpu if busy else wall
    return [] if bar is None or judged < bar else [f"{what}: {judged:.2f} s, the bar is {bar:g} s"]


def bench(place: Path, verb: str, suite: str, missed: list[str] | None = None) -> Took:
    """One whole process with its children. With ``missed``: that it imported and started nothing is looked at too."""
    command = [sys.executable, *(["-m", "harness.cli"] if missed is None else ["-c", WATCHED]), verb, suite]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command, cwd=place, env=environment("speed", place), capture_output=True, text=True, check=False
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    took = Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    if done.returncode:
        raise RuntimeError(f"{verb}: exit code {done.returncode}: {done.stderr[-2000:]}")
    if missed is not None:
        seen = done.stderr.partition("WATCHED")[2].strip()
        missed += [f"{verb}: imported or started {seen}"] if seen else []
    return took


def fill(place: Path, suite: Path) -> None:
    """Whole cells, written by the store, without waiting for the disk."""
    opened = open_suite(str(suite), Where(place / "results", place / "runs"))
    store, flush = opened.store, os.fsync
    os.fsync = lambda handle: None
    try:
        for cell in opened.cells:
            record = small.record_of(cell)
            store.write(Outcome(record, {point.budget: b"\xfe\x00" for point in record.points}))
    finally:
        os.fsync = flush


def shared(place: Path) -> list[str]:
    """Two runs at once on one store, undisturbed."""
    lay_out(place)
    runs = Runs(place, secrets.token_hex(8), 0)
    began = time.monotonic()
    codes = [process.wait() for process in [runs.start(), runs.start()]]
    took = time.monotonic() - began
    names = [path.name for path in (place / "marks").iterdir()]
    twice = [name for name in names if name.startswith(("again-", "beside-"))]
    starts = sum(name.rpartition(".")[2].isdigit() for name in names)
    done = len(Store(place / "results" / "storm").ids())
    print(f"two runs, one store          {took:6.2f} s, {done} cells, {starts} trainings, {len(twice)} duplicate")
    return [
        *(f"two runs: exit code {code}: {runs.said(number + 1)}" for number, code in enumerate(codes) if code),
        *([f"two runs: {starts} trainings of {done} cells"] if starts != done else []),
        *(f"two runs: {name}" for name in twice),
    ]


if __name__ == "__main__":
    sys.exit(main())
