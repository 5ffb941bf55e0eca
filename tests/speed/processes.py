"""CPU seconds of whole commands, and the memory of a training step in a process of its own."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.speed.timing import Ratio, cpu_seconds, ratio
from tests.speed.training import Row

ROOT = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, float] = {  # and the seconds that each may take
    "--help": 0.3,
    "plan quick": 0.5,
    "list": 1.0,
    "check quick": 3.0,
    "report quick": 2.0,
    "report quick --html": 4.0,
    "figures quick": 8.0,
}
WRITERS = ("plan", "report", "figures")  # work on a copy of the committed results

MEMORY = """
import re, sys
from dataclasses import replace
from pathlib import Path
import torch
from torch.nn import functional as F
from eavit import Gates
from eavit.model import hard_gates
from tests.speed.backbones import BACKBONES
torch.set_num_threads(1)
timed = BACKBONES[sys.argv[1]]
vit, (images, labels) = timed.vit(), timed.data(timed.batches[-1])
member = vit.backbone.full
gates = Gates.of(member, vit.backbone, next(vit.parameters()))
for part in (gates.embed, gates.heads, gates.mlp):
    part.requires_grad_()
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak begins again, at what is resident now
before = peak()
passes = {
    "masked": lambda: vit(images, gates),
    "hard": lambda: hard_gates.forward(vit, images, replace(gates, reach=member)),
    "dense": lambda: vit(images, member),
}
F.cross_entropy(passes[sys.argv[2]](), labels).backward()
print(peak() - before)
"""


def memory(name: str, rounds: int) -> Iterator[Row]:
    """Peak resident memory that a pass under open gates adds, masked or as stage 2 runs it, over that of a full dense
    one. Linux only.
    """

    def added(kind: str) -> np.ndarray:
        runs = (_run([sys.executable, "-c", MEMORY, name, kind], ROOT) for _ in range(min(rounds, 3)))
        return np.array([float(run.stdout.split()[-1]) for run in runs])

    dense = added("dense")
    for what, kind, target in (("masked step", "masked", None), ("step of stage 2", "hard", 1.05)):
        measured = ratio(added(kind), dense)
        yield Row(f"peak memory of a {what} / dense full (KiB)", name, "largest batch", measured, target)


def commands(rounds: int) -> Iterator[Row]:
    """CPU seconds of commands of `eavit-bench` with their child processes; the ratio is that to one second."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        for name in ("quick", "reference"):
            shutil.copytree(ROOT / "results" / name, results / name)
        for command, target in COMMANDS.items():
            words = command.split()
            if words[0] in WRITERS:
                words += ["--results", str(results)]
            call = {command: lambda words=words: _run([sys.executable, "-m", "harness.cli", *words], ROOT)}
            seconds = cpu_seconds(call, min(rounds, 3), _of_children)[command]
            low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
            yield Row(
                "CPU seconds", "", command, Ratio(float(median), float(low), float(high), float(median), 1.0), target
            )


def _of_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return done
