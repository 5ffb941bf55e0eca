"""A suite of many short cells whose modules import no torch: what it names is asked for its signature and never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HEAD = """
name = "{name}"
budgets = [0.25, 1.0]
seeds = {seeds}
timeout_minutes = 1
[backbone]
use = "tests.faults.light:backbone"
[input]
size = 8
channels = 1
"""
DATA = """
[[datasets]]
name = "digits{number}"
source = "digits"
fit = {fit}
select = 60
test = 100
"""
METHOD = """
[[methods]]
name = "m{number}"
use = "tests.faults.light:Method"
options = {{ number = {number} }}
after = {after}
"""


def suite(folder: Path, name: str, methods: int, datasets: int, seeds: int, after: bool = True) -> Path:
    """The suite's file; with ``after`` the last method is given what the first one chose."""
    text = HEAD.format(name=name, seeds=list(range(seeds)))
    text += "".join(DATA.format(number=n, fit=200 + n) for n in range(datasets))
    for n in range(methods):
        text += METHOD.format(number=n, after=["m0"] if after and 0 < n == methods - 1 else [])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def backbone(num_classes: int) -> Any:
    raise NotImplementedError


class Method:
    def __init__(self, number: int) -> None:
        self.name = f"m{number}"

    def adapt(self, task: Any) -> Any:
        raise NotImplementedError
