"""``python -m tests.speed.measure [--backbone NAME ...] [--rounds N] [--out FOLDER]``: measured speed against targets.

Every ratio is of two calls that take turns on one thread, in CPU seconds: the median of the rounds' ratios and their
quartiles. Prints the rows and writes results/speed/<machine>.json, where backbones that were not measured keep their
rows, and beside it a table (.md) of those that have a target. A missed target is marked and is no error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.speed import processes, training
from tests.speed.backbones import BACKBONES, Timed
from tests.speed.training import Row

OUT = processes.ROOT / "results" / "speed"
COMMANDS = "commands"
GROUPS = [name for name in BACKBONES if name != "sketch"]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*BACKBONES, COMMANDS]
    parser.add_argument("--backbone", action="append", choices=names, help=f"default: {', '.join([*GROUPS, COMMANDS])}")
    parser.add_argument("--rounds", type=int, help="turns of each call; default: each backbone's own")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON; default: results/speed")
    options = parser.parse_args(words)
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: must be at least 1")
    torch.set_num_threads(1)
    rows: list[Row] = []
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{machine()}.json"
    for name in options.backbone or [*GROUPS, COMMANDS]:
        rounds = options.rounds or (BACKBONES[name].rounds if name in BACKBONES else 3)
        measured = list(_shown(_rows(name, rounds)))
        write(path, name, measured, rounds)
        rows += measured
    missed = sum(row.met is False for row in rows)
    print(f"{missed} of {sum(row.met is not None for row in rows)} targets missed; written: {path}")
    return 0


def _rows(name: str, rounds: int) -> Iterator[Row]:
    if name == COMMANDS:
        yield from processes.commands(rounds)
        return
    timed: Timed = BACKBONES[name]
    for batch in timed.batches:
        yield from training.passes(name, timed, batch, rounds)
    batch = timed.batches[len(timed.batches) // 2]
    for measure in (training.steps, training.stage2, training.searches):
        yield from measure(name, timed, batch, rounds)
    if name in ("sketch", "pico"):
        yield from training.loops(name, timed, batch, rounds)
    if name in ("ViT-S", "ViT-B"):
        yield from processes.memory(name, rounds)


def _shown(rows: Iterator[Row]) -> Iterator[Row]:
    """Print each row when it is measured."""
    for row in rows:
        m, mark = row.measured, {None: " ", True: "+", False: "!"}[row.met]
        target = "" if row.target is None else f"{'>=' if row.at_least else '<='} {row.target:g}"
        print(
            f"{mark} {row.what:<54} {row.backbone:<7}{m.ratio:8.3f} [{m.low:.3f}, {m.high:.3f}] {target:<8} {row.case}"
        )
        sys.stdout.flush()
        yield row


def write(path: Path, name: str, rows: Sequence[Row], rounds: int) -> None:
    """Put the rows of one backbone, or of the commands, in the place of those that the file had."""
    values = json.loads(json.dumps([asdict(row) | {"met": row.met} for row in rows]), parse_float=_rounded)
    setting = {"day": time.strftime("%Y-%m-%d"), "rounds": rounds, "threads": 1, "torch": torch.__version__}
    report: dict[str, Any] = {"machine": {"cpu": processor(), "cores": os.cpu_count()}, "measured": {}}
    if path.exists():
        report = json.loads(path.read_text(encoding="utf-8"))
    report["measured"][name] = setting | {"python": platform.python_version(), "rows": values}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(report), encoding="utf-8")


def table(report: dict[str, Any]) -> str:
    """Rows of the report that have a target, as Markdown."""
    head = ["model", "timed / in turn with", "case", "ratio", "quartiles", "target", "met"]
    lines = ["# Speed", "", "## Ratios against targets", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in (row for group in report["measured"].values() for row in group["rows"] if row["target"] is not None):
        ratio, low, high = (f"{row['measured'][key]:.2f}" for key in ("ratio", "low", "high"))
        target, met = f"{'≥' if row['at_least'] else '≤'} {row['target']:g}", "yes" if row["met"] else "no"
        cells = [row["backbone"], row["what"], row["case"], ratio, f"{low} to {high}", target, met]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _rounded(text: str) -> float:
    return round(float(text), 5)


def processor() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    match = (
        re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE) if info.exists() else None
    )
    return match[1].strip() if match else platform.machine()


def machine() -> str:
    """Name of this kind of machine: its processor and how many cores, no host."""
    return re.sub(r"[^a-z0-9]+", "-", f"{processor()} {os.cpu_count()} cores".lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
