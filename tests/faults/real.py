"""The real EA-ViT on a tiny backbone, which keeps a checkpoint after every step and may be told to die on its way."""

from __future__ import annotations

import json
import os
import random
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from eavit import methods
from eavit.methods import recipe
from eavit.training import train
from harness.protocol import Task
from tests.faults import killing

SUITE = """
name = "storm"
budgets = [0.4, 0.7, 1.0]
seeds = [0, 1, 2, 3, 4]
[backbone]
use = "tests.faults.real:backbone"
[input]
size = 8
channels = 1
[schedule]
epochs = 4.0
batch = 20
[[methods]]
use = "tests.faults.real:ea_vit"
options = { search = { population = 8, generations = 2 } }
[[datasets]]
name = "digits200"
source = "digits"
fit = 200
select = 60
test = 100
[[datasets]]
name = "digits240"
source = "digits"
fit = 240
select = 60
test = 100
"""


def backbone(num_classes: int) -> nn.Module:
    sizes = {"img_size": 8, "patch_size": 2, "embed_dim": 16, "depth": 3, "num_heads": 4, "mlp_ratio": 2.0}
    return VisionTransformer(in_chans=1, num_classes=num_classes, **sizes)


def ea_vit(**options: Any) -> Doomed:
    return Doomed(methods.ea_vit(**options))


class Now:
    """Where the training is, when it is asked for as text."""

    def __init__(self) -> None:
        self.phase = "start"

    def __str__(self) -> str:
        return self.phase


@dataclass
class Doomed:
    """``chaos.json`` of the place: {"seed": int, "calls": most steps of progress that a start may live for}."""

    method: Any

    @property
    def name(self) -> str:
        return str(self.method.name)

    def adapt(self, task: Task) -> Any:
        recipe.Saving = lambda path: train.Saving(path, seconds=0)
        folder = task.workdir.parent
        place, now = folder.parents[2], Now()
        start = begin(place / "marks", folder.name)
        left = -1
        if (place / "chaos.json").exists():
            told = json.loads((place / "chaos.json").read_text())
            left = doom(told, place, folder, now, random.Random(f"{told['seed']} {folder.name} {start}"))

        def progress(phase: str, done: int, total: int) -> None:
            nonlocal left
            now.phase, left = phase, left - 1
            if left == 0:
                with (place / "kills").open("a") as file:
                    file.write(f"{phase} step\n")
                os.kill(os.getpid(), signal.SIGKILL)
            task.progress(phase, done, total)

        return self.method.adapt(replace(task, progress=progress))


def begin(marks: Path, cell: str) -> int:
    number = len(list(marks.glob(f"{cell}.*")))
    (marks / f"{cell}.{number}").touch()
    return number


def doom(told: dict[str, Any], place: Path, folder: Path, now: Now, draw: random.Random) -> int:
    """After how many steps to die; 0: at an operation or a moment, which are arranged here."""
    kind = draw.random()
    if kind < 0.5:
        return draw.randint(1, told["calls"])
    if kind < 0.8:
        killing.at_operation(draw.randint(1, 4 * told["calls"]), folder / "work", place / "kills", now)
    else:
        killing.after(draw.uniform(0.0, 1.0), place / "kills", "some")
    return 0
