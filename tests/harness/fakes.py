"""Methods and backbones for tests: real enough to be counted, adapted in no time; and some that misbehave."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from harness.data.locations import DataError
from harness.protocol import Split, Task

WIDTHS = (2, 8, 16, 32)


class Tiny(nn.Module):
    """Two layers: flattened images (b, pixels) to ``width`` features to logits. MACs: width * (pixels + classes)."""

    def __init__(self, pixels: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Linear(pixels, width, bias=False)
        self.head = nn.Linear(width, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.tanh(self.features(images.flatten(1))))


def backbone(num_classes: int, pixels: int = 64, width: int = 32) -> nn.Module:
    return Tiny(pixels, width, num_classes)


@dataclass(frozen=True)
class Width:
    k: int

    def __str__(self) -> str:
        return f"w{self.k}"


class Family:
    """The first k features of the backbone, each with a head fitted by least squares."""

    def __init__(self, task: Task) -> None:
        self.task, self.full = task, task.backbone()
        images, labels = whole(task.fit)
        with torch.no_grad():
            self.features = torch.tanh(self.full.features(images.flatten(1))).double()
        several = labels.ndim == 2
        self.targets = labels.double() - 0.5 if several else one_hot(labels, task.fit.num_classes).double() - 0.1

    def select(self, budget: float) -> Width | None:
        fitting = [k for k in WIDTHS if k / WIDTHS[-1] <= budget]
        return Width(fitting[-1]) if fitting else None

    def module(self, choice: Width) -> nn.Module:
        kept = self.features[:, : choice.k]
        eye = torch.eye(choice.k, dtype=torch.float64)
        head = torch.linalg.solve(kept.T @ kept + 1e-3 * eye, kept.T @ self.targets)
        module = Tiny(self.full.features.in_features, choice.k, self.targets.shape[1])
        with torch.no_grad():
            module.features.weight.copy_(self.full.features.weight[: choice.k])
            module.head.weight.copy_(head.T.float())
        return module.eval()

    def report(self) -> Mapping[str, Any]:
        return {"widths": WIDTHS, "loss": float("nan"), "share": np.float64(0.5)}


def whole(split: Split) -> tuple[Tensor, Tensor]:
    images, labels = zip(*split.batches(64), strict=True)
    return torch.cat(images), torch.cat(labels)


@dataclass
class Fake:
    """``before`` is called with the task first; ``make`` gives what adapt answers."""

    name: str
    make: Callable[[Task], Any] = Family
    before: Callable[[Task], object] = lambda task: None

    def adapt(self, task: Task) -> Any:
        with task.ledger.phase("train"):
            self.before(task)
            task.progress("train", 1, 2)
            task.ledger.add(forward_macs=10.0, backward_macs=20.0, images=len(task.fit), steps=3)
            return self.make(task)


def steady(seconds: float = 0.0, tag: str = "") -> Fake:
    """A good method that takes its time."""
    return Fake("steady", before=lambda task: time.sleep(seconds))


def follower(of: str) -> Fake:
    """Answers what the method ``of`` answered, from ``task.given``."""

    class Following(Family):
        def select(self, budget: float) -> Width | None:
            key = self.task.given[of].get(budget)
            return None if key is None else Width(int(key[1:]))

    return Fake("follower", make=Following)


def keeper(how: str = "") -> Fake:
    """Can write what it adapted; ``how``: fails at it, as with this message."""

    class Keeper(Family):
        def save(self, folder: Path, task: Task, about: Mapping[str, Any]) -> None:
            folder.mkdir()
            (folder / "weights").write_text(f"{about['origin']['dataset']} of {len(about['classes'])} classes")
            if how:
                raise ValueError(how)

    return Fake("keeper", make=Keeper)


def greedy() -> Fake:
    """Over every budget but the full one."""

    class Greedy(Family):
        def select(self, budget: float) -> Width | None:
            return Width(WIDTHS[-1])

    return Fake("greedy", make=Greedy)


def nothing() -> Fake:
    class Nothing(Family):
        def select(self, budget: float) -> Width | None:
            return None

    return Fake("nothing", make=Nothing)


def blind() -> Fake:
    """One class for every image."""

    class Blind(Family):
        def module(self, choice: Width) -> nn.Module:
            module = super().module(choice)
            nn.init.zeros_(module.head.weight)
            return module

    return Fake("blind", make=Blind)


def moody() -> Fake:
    """Its answers depend on what else is in the batch."""

    class Centred(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images - 0.9 * images.mean(0, keepdim=True))

    class Moody(Family):
        def module(self, choice: Width) -> nn.Module:
            module = Centred(self.full.features.in_features, choice.k, self.targets.shape[1])
            module.load_state_dict(super().module(choice).state_dict())
            return module

    return Fake("moody", make=Moody)


def infinite() -> Fake:
    """A module whose logits are no numbers."""

    class Infinite(Family):
        def module(self, choice: Width) -> nn.Module:
            module = super().module(choice)
            nn.init.constant_(module.head.weight, float("nan"))
            return module

    return Fake("infinite", make=Infinite)


def breaks(how: str) -> Fake:
    """Fails in adapt in the way that ``how`` names."""
    ways: dict[str, Callable[[Task], object]] = {
        "value": lambda task: _raise(ValueError(f"no luck in {Path.cwd()}/deep/file.txt")),
        "nan": lambda task: _raise(FloatingPointError("loss is nan at step 3")),
        "memory": lambda task: _raise(MemoryError("no more")),
        "cpu_memory": lambda task: torch.empty(2**46),
        "data": lambda task: _raise(DataError("class 3 is empty")),
        "leak": lambda task: _peek(),
        "exit0": lambda task: sys.exit(0),
        "exit3": lambda task: os._exit(3),
        "segfault": lambda task: ctypes.string_at(0),
        "sigkill": lambda task: os.kill(os.getpid(), signal.SIGKILL),
        "negative": lambda task: task.ledger.add(forward_macs=-1.0),
        "hoard": lambda task: torch.zeros(2**31, dtype=torch.uint8),
        "full": lambda task: Path("/dev/full").write_text("x"),
        "hang": lambda task: _hang(task.workdir),
        "litter": lambda task: _litter(),
    }
    return Fake("breaks", before=ways[how])


class _Stuck(torch.utils.data.Dataset[int]):
    """Data that never comes, in a worker of its own."""

    def __init__(self, told: Path) -> None:
        self.told = told

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        self.told.write_text(f"{os.getppid()} {os.getpid()}")
        time.sleep(60)
        return index


def _hang(place: Path) -> None:
    list(torch.utils.data.DataLoader(_Stuck(place / "pids"), num_workers=1))


def resumes() -> Fake:
    """Two phases of 0.4 s; killed in the middle of the second one when it runs first. Its answer counts the steps."""

    def train(task: Task) -> None:
        count = task.workdir / "steps"
        for step in range(int(count.read_text()) if count.exists() else 0, 4):
            time.sleep(0.2)
            count.write_text(str(step + 1))
            task.progress("train", step + 1, 4)
            if step == 2 and not (task.workdir / "killed").exists():
                (task.workdir / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)

    class Resumes(Fake):
        def adapt(self, task: Task) -> Any:
            if not (task.workdir / "prepared").exists():
                with task.ledger.phase("prepare"):
                    time.sleep(0.4)
                (task.workdir / "prepared").touch()
            return super().adapt(task)

    return Resumes("resumes", before=train)


def together() -> Fake:
    """Several processes that sum their numbers."""
    found: dict[str, Any] = {}

    def train(task: Task) -> None:
        group = torch.distributed
        group.init_process_group("gloo")
        number = torch.tensor([1.0 + group.get_rank()])
        group.all_reduce(number)
        found.update(sum=number.item(), address=os.environ["MASTER_ADDR"], scratch=Path.cwd().name)
        group.barrier()
        group.destroy_process_group()

    class Together(Family):
        def report(self) -> Mapping[str, Any]:
            return found

    return Fake("together", make=Together, before=train)


def _raise(error: Exception) -> None:
    raise error


def _peek() -> None:
    from harness.data import loading
    from harness.suite import DataSet, Input

    loading.load_dataset(DataSet(name="digits", fit=50, select=20, test=20), Input(size=8, channels=1)).test("")


def _litter() -> None:
    Path("litter.txt").write_text("here")
    subprocess.Popen(["sleep", "60"])
    random.seed(1)
    torch.manual_seed(1)


class Unreadable(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no text")


KEYS = {
    "newline": "a\nb", "escape": "\x1b[2Ja", "formula": "=1+1", "long": "k" * 5_000_000, "surrogate": "a\ud800",
    "empty": "", "space": " a", "direction": "a\u202eb",
}  # fmt: skip
MESSAGES = {
    "newline": "a\r\nb,c", "escape": "\x1b]0;title\x07a", "formula": "=HYPERLINK(1)", "long": "k" * 5_000_000,
    "surrogate": "a\ud800", "direction": "a\u202eb",
}  # fmt: skip


def strange_key(kind: str) -> Fake:
    """Choices whose key is one of KEYS, or cannot be read."""

    class Strange:
        def __str__(self) -> str:
            return KEYS[kind] if kind in KEYS else str(Unreadable())

    class Keyed(Family):
        def select(self, budget: float) -> Any:
            return Strange()

    return Fake("strange_key", make=Keyed)


def strange_message(kind: str, error: str = "ValueError") -> Fake:
    """Raises an exception with one of MESSAGES, or one that has no text."""
    kinds = {"ValueError": ValueError, "FloatingPointError": FloatingPointError}
    raised = Unreadable() if kind == "unreadable" else kinds[error](MESSAGES[kind])
    return Fake("strange_message", before=lambda task: _raise(raised))


def strange_report(kind: str) -> Fake:
    """A good method whose report cannot be kept."""

    def deep(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return {"deep": value}

    reports: dict[str, Callable[[], Any]] = {
        "raises": lambda: _raise(Unreadable()),
        "exits": lambda: sys.exit(0),
        "deep": lambda: deep(100_000),
        "deeper_than_kept": lambda: deep(200),
        "large": lambda: {"a": "x" * 5_000_000},
        "no_mapping": lambda: 3,
        "tuple_keys": lambda: {("a", 1): 2},
    }

    class Reporting(Family):
        def report(self) -> Any:
            return reports[kind]()

    return Fake("strange_report", make=Reporting)


def threaded(seconds: float) -> Fake:
    """A good method that leaves a thread running."""
    return Fake(
        "threaded", before=lambda task: threading.Thread(target=time.sleep, args=(seconds,), name="l\neft").start()
    )


def no_method() -> object:
    return object()


not_callable = 3
