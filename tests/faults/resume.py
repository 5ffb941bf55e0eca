"""The real EA-ViT, killed in both stages and in its search, its run killed too; then ended, and its points compared."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

from harness.results import maintenance
from harness.results.store import Store
from tests.faults import real
from tests.faults.storm import STUCK, SUITE, Runs, Tally, bench, differences, killed, left_files, left_processes

CALLS = 25  # steps of progress that a start of a cell lives for at most; a whole cell has about 90


def resume(place: Path, tag: str, seed: int, quota: int) -> Tally:
    calm, disturbed = place / "calm", place / "disturbed"
    lay_out(calm)
    if Runs(calm, tag, seed, "real").start().wait():
        raise RuntimeError((calm / "run1.log").read_text())
    lay_out(disturbed)
    shutil.copytree(calm / "runs" / ".cache", disturbed / "runs" / ".cache")
    tally, runs = Tally(), Runs(disturbed, tag, seed, "real")
    (disturbed / "chaos.json").write_text(json.dumps({"seed": seed, "calls": CALLS}))
    disturb(runs, tally, quota)
    tally.kills += Counter((disturbed / "kills").read_text().splitlines())
    judge(runs, calm, tally)
    return tally


def lay_out(place: Path) -> None:
    (place / "marks").mkdir(parents=True)
    (place / "kills").touch()
    (place / f"{SUITE}.toml").write_text(real.SUITE, encoding="utf-8")


def disturb(runs: Runs, tally: Tally, quota: int) -> None:
    """Run again and again; every third run is killed itself, at some moment."""
    until = time.monotonic() + STUCK
    while killed(runs.place, tally) < quota:
        process = runs.start()
        tally.runs += 1
        moment = time.monotonic() + (runs.draw.uniform(2.0, 8.0) if tally.runs % 3 == 2 else STUCK)
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.02)
        if process.poll() is None:
            process.kill()
            tally.kills["run moment"] += 1
        code = process.wait()
        if code not in (0, 1, -9):  # 0: all cells are there, before so many kills
            tally.ends.append(f"exit code {code}: {runs.said(runs.number)}")
        if code == 0 or time.monotonic() > until:
            break
    (runs.place / "chaos.json").unlink()


def judge(runs: Runs, calm: Path, tally: Tally) -> None:
    place, tag = runs.place, runs.tag
    tally.processes += left_processes(tag)
    if code := runs.start().wait():
        tally.ends.append(f"the undisturbed run ended with {code}: {runs.said(runs.number)}")
    tally.processes += left_processes(tag)
    root = place / "results" / SUITE
    tally.corrupt += [str(fault) for fault in maintenance.verify(Store(root))]
    bench(place, tag, "gc", f"{SUITE}.toml", "--yes")
    tally.files += left_files(place)
    tally.points += differences(root / "points.csv", calm / "results" / SUITE / "points.csv")
    tally.starts = len(list((place / "marks").iterdir()))
