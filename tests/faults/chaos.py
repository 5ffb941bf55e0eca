"""``python -m tests.faults.chaos [--kills N] [--seed N] [--place FOLDER] [--only storm|resume]``

Part one: random kills over many short cells, on several stores. Part two: the real EA-ViT killed in its stages. Prints
its figures; exit code 1 if a bar is missed. The same seed draws the same deaths, but the machine's timing is its own.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.faults import resume, storm
from tests.faults.storm import MEMORY, Tally

NAMES = {
    "corrupt": "corrupt cells",
    "duplicates": "duplicate trainings",
    "processes": "processes left",
    "files": "temporary files left",
    "points": "other points",
    "ends": "odd ends",
}
QUOTA = 250  # kills of one store
STORES = 4  # of EA-ViT at most: how many kills a store bears depends on the draws


def main(words: Sequence[str] | None = None) -> int:
    asked = arguments(words)
    print(f"seed {asked.seed}", flush=True)
    given = asked.place or (MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
    place = Path(tempfile.mkdtemp(prefix="faults-", dir=given))
    failed = False
    try:
        if asked.only != "resume":
            failed |= storms(place, asked.seed, asked.kills)
        if asked.only != "storm":
            failed |= stages(place, asked.seed, asked.resumed)
    finally:
        if failed and asked.keep:
            print(f"kept: {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    print("FAILED" if failed else "all bars hold")
    return int(failed)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=1000, help="of short cells and of their runs")
    parser.add_argument("--resumed", type=int, default=30, help="kills of the real EA-ViT")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--place", type=Path, help="the folder to work in; default: memory, else the temporary one")
    parser.add_argument("--only", choices=["storm", "resume"])
    parser.add_argument("--keep", action="store_true", help="leave the stores there if a bar is missed")
    return parser.parse_args(words)


def storms(place: Path, seed: int, kills: int) -> bool:
    """As many stores as it takes; every third has one run at a time, the others two at once."""
    began, tag = time.monotonic(), secrets.token_hex(8)
    calm = place / "calm"
    storm.undisturbed(calm, tag)
    done: list[Tally] = []
    while (count := sum(tally.kills.total() for tally in done)) < kills:
        number = len(done)
        quota = min(QUOTA, kills - count)
        tally = storm.storm(place / f"s{number}", calm, tag, seed + number, quota, 1 if number % 3 == 2 else 2)
        done.append(tally)
        print(f"store {number}: {tally.kills.total()} kills, {len(tally.faults)} faults", flush=True)
    return told("short cells", done, kills, time.monotonic() - began)


def stages(place: Path, seed: int, kills: int) -> bool:
    began = time.monotonic()
    tallies: list[Tally] = []
    while len(tallies) < STORES and (left := kills - sum(tally.kills.total() for tally in tallies)) > 0:
        number = len(tallies)
        tallies.append(resume.resume(place / f"resume{number}", secrets.token_hex(8), seed + number, left))
    return told("EA-ViT", tallies, kills, time.monotonic() - began)


def told(what: str, tallies: Sequence[Tally], wanted: int, seconds: float) -> bool:
    """Print the figures; whether a bar was missed."""
    kills = sum((tally.kills for tally in tallies), Counter[str]())
    faults = [fault for tally in tallies for fault in tally.faults]
    count = {name: sum(len(getattr(tally, name)) for tally in tallies) for name in NAMES}
    made = (
        f"{len(tallies)} stores, {sum(t.runs for t in tallies)} runs, {sum(t.starts for t in tallies)} starts of cells"
    )
    print(f"\n{what}: {kills.total()} kills (bar: {wanted}) in {seconds:.0f} s, {made}")
    print("  " + ", ".join(f"{number} {kind}" for kind, number in kills.most_common()))
    for name, number in count.items():
        print(f"  {NAMES[name]:<22}{number}", flush=True)
    for fault in faults[:20]:
        print(f"  ! {fault[:400]}", flush=True)
    if len(faults) > 20:
        print(f"  ! and {len(faults) - 20} more")
    return bool(faults) or kills.total() < wanted


if __name__ == "__main__":
    sys.exit(main())
