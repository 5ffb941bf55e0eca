"""The verb check, and the check before a run: a child process builds what a suite names and tells all faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import typer

from harness import plan
from harness.commands import options
from harness.commands.options import DataRoot, SuiteName
from harness.commands.output import complain, warn
from harness.data import locations
from harness.data.locations import PROJECT, DataError
from harness.jobs.call import CallError, call_each
from harness.suite import Suite
from harness.toml import key_path

verbs = typer.Typer()
ENTRY = "harness.evaluation.suite_check:check_part"
DEADLINE = 120.0  # seconds for importing and building what a suite names
READING = 3600.0  # seconds for reading its data sets

Part = tuple[str | int, ...]


@dataclass(frozen=True)
class Checked:
    """Lines about a suite, each with file and key path. ``fatal``: faults for which no cell can be right.

    ``losses``: faults that cost some cells; ``cards``: those of the methods that can be built and have one.
    """

    fatal: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cards: dict[str, Any] = field(default_factory=dict)


@verbs.command()
def check(name: SuiteName, data: DataRoot = None) -> None:
    """Check all that a suite names: imports, options, backbone, data. Exit code 1 if anything is wrong."""
    given = options.load(name, data)
    checked = check_suite(given, name, with_data=True)
    for line in checked.notes:
        typer.echo(line)
    for line in checked.warnings:
        warn(line)
    for line in (*checked.fatal, *checked.losses):
        complain(line)
    if checked.fatal or checked.losses:
        raise typer.Exit(options.FAILED)
    typer.echo(f"{name}: no fault; {plan.count(given)} cells")


def check_suite(suite: Suite, where: str, *, with_data: bool = False) -> Checked:
    """Build what the suite names, and with ``with_data`` read its data sets, in a child. ``where``: the file's name."""
    found = Checked()
    built: list[Part] = [("schedule",), ("backbone",), *(("methods", index) for index in range(len(suite.methods)))]
    for part, answer in _answers(suite, built, DEADLINE):
        _sort_in(found, f"{where}: {key_path(part)}", answer)
        if part[0] == "methods" and answer["card"]:
            found.cards[suite.methods[int(part[1])].name] = answer["card"]
    readable: list[Part] = []
    for index, entry in enumerate(suite.datasets):
        try:
            locations.source_files(entry.source, entry.path)
            readable.append(("datasets", index))
        except DataError as error:
            told = locations.with_dataset_name(entry.name, entry.source, error)
            found.losses.append(f"{where}: datasets[{index}]: {told}")
    for part, answer in _answers(suite, readable, READING) if with_data and readable else ():
        _sort_in(found, f"{where}: {key_path(part)}", answer)
    return found


def _answers(suite: Suite, parts: list[Part], deadline: float) -> list[tuple[Part, Mapping[str, Any]]]:
    text = suite.model_dump_json()
    answers = call_each(ENTRY, [{"suite": text, "part": list(part)} for part in parts], deadline, PROJECT)
    return [(p, _lost(a, p) if isinstance(a, CallError) else a) for p, a in zip(parts, answers, strict=True)]


def _lost(error: CallError, part: Part) -> dict[str, Any]:
    """The answer of a part that ended its process: a plug-in that exits or hangs costs its own cells."""
    text = ": ".join([f"the process that checked it failed: {error}", *error.log.splitlines()[-1:]])
    return {"faults": [text], "fatal": part[0] == "backbone", "warnings": [], "notes": [], "card": {}}


def _sort_in(found: Checked, place: str, answer: Mapping[str, Any]) -> None:
    faults = found.fatal if answer["fatal"] else found.losses
    faults.extend(f"{place}: {text}" for text in answer["faults"])
    found.warnings.extend(f"{place}: {text}" for text in answer["warnings"])
    found.notes.extend(answer["notes"])
