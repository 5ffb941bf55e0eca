"""Tracking: what a tracker of accelerate is sent, and that nothing is sent without one."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
import torch
from accelerate.tracking import GeneralTracker

import eavit
from eavit.adaptation.progress import silent
from eavit.adaptation.tracking import TrackedProgress, tracked
from tests.eavit.small import plain


class Notes(GeneralTracker):
    """A tracker as accelerate asks of one's own."""

    name, requires_logging_directory = "notes", False
    tracker = None

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[Any, ...]] = []

    def start(self) -> None:
        self.events.append(("start",))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.events.append(("settings", values))

    def log(self, values: dict[str, float], step: int | None = None, **kwargs: Any) -> None:
        self.events.append(("log", values, step))

    def finish(self) -> None:
        self.events.append(("finish",))


def batch(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randn(12, 1, 4, 4, generator=draw), torch.arange(12) % 3)]


def test_settings_members_and_only_growing_steps_are_sent() -> None:
    notes = Notes()
    elastic = eavit.adapt(
        plain(), batch(0), batch(1), (0.5, 1.0), 1, "hydravit", tracker=notes, progress=False, threads=1
    )
    assert notes.events[0] == ("start",) and notes.events[-1] == ("finish",)
    settings = notes.events[1][1]
    assert settings["method"] == "hydravit" and settings["schedule.epochs"] == 1 and settings["budgets"] == "(0.5, 1.0)"
    assert all(isinstance(value, bool | int | float | str) for value in settings.values())
    logs = notes.events[2:-1]
    assert [step for *_, step in logs] == list(range(len(logs)))
    members = [values for _, values, _ in logs if "member/macs" in values]
    assert [values["member/accuracy"] for values in members] == [member.accuracy for member in elastic.members]


def test_a_phase_is_logged_at_most_once_a_second_and_at_its_end() -> None:
    notes, clock, seen = Notes(), count(0.0, 0.4), []
    progress = TrackedProgress(lambda *words: seen.append(words), notes, lambda: next(clock))
    for done in range(6):
        progress("train", done, 5)
    assert len(seen) == 6
    assert [values["train/share_done"] for _, values, _ in notes.events] == [0.6, 1.0]
    assert [values["train/per_second"] for _, values, _ in notes.events] == pytest.approx([2.5, 2.5])


def test_a_tracker_is_finished_with_the_stack_whatever_happened() -> None:
    notes = Notes()
    stack = ExitStack()
    tracked(silent, notes, {}, stack)
    assert notes.events[-1] == ("settings", {})
    stack.__exit__(RuntimeError, RuntimeError(), None)
    assert notes.events[-1] == ("finish",)
    with ExitStack() as stack:
        assert tracked(silent, None, {}, stack) is silent
