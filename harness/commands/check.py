"""Check of a suite, also before each run: a child process builds what it names and reports all faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import picture_plugins
from harness.commands.output import complain
from harness.data import locations
from harness.data.locations import PROJECT, DataError
from harness.jobs.call import CallError, call_each
from harness.jobs.fork_server import ForkServer
from harness.plan import named_code
from harness.suite import Suite
from harness.toml import key_path

ENTRY = "harness.evaluation.suite_check:check_part"
DEADLINE = 120.0  # seconds for importing and building plug-ins
READING = 3600.0  # seconds for building what is of this project, and for reading data sets
OWN = "eavit."  # how the names of modules of this project begin

Part = tuple[str | int, ...]


@dataclass(frozen=True)
class Checked:
    """Lines about a suite, each with file and key path. ``fatal``: faults for which no cell can be right.

    ``losses``: faults that cost some cells; ``cards``: those of the methods that can be built and have one;
    ``hanging``: why the cells of a method need not be started, since it cannot be built before a deadline.
    """

    fatal: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cards: dict[str, Any] = field(default_factory=dict)
    hanging: dict[str, str] = field(default_factory=dict)


def check_suite(suite: Suite, where: str, *, with_data: bool = False, server: ForkServer | None = None) -> Checked:
    """Build what the suite names, and with ``with_data`` read its data sets, in a child. ``where``: the file's name.

    ``server``: forks the child, which then need not import what the server has.
    """
    checked = Checked()
    parts: list[Part] = [("schedule",), ("backbone",), *(("methods", index) for index in range(len(suite.methods)))]
    parts += [("metrics", index) for index in range(len(suite.metrics))]
    failures = picture_plugins.make_missing(suite.datasets, complain) if with_data else {}
    for index, entry in enumerate(suite.datasets):
        if entry.name in failures:
            checked.losses.append(f"{where}: datasets[{index}]: {failures[entry.name]}")
            continue
        try:
            locations.source_files(entry.source, entry.path)
            parts += [("datasets", index)] if with_data else []
        except DataError as error:
            named = locations.with_dataset_name(entry.name, entry.source, error)
            checked.losses.append(f"{where}: datasets[{index}]: {named}")
    answers = _answers(suite, parts, server)
    checked.fatal.extend(_lines(where, {part: answer["faults"] for part, answer in answers.items() if answer["fatal"]}))
    checked.losses.extend(
        _lines(where, {part: answer["faults"] for part, answer in answers.items() if not answer["fatal"]})
    )
    checked.warnings.extend(_lines(where, {part: answer["warnings"] for part, answer in answers.items()}))
    for part, answer in answers.items():
        checked.notes.extend(answer["notes"])
        if answer["card"]:
            checked.cards[suite.methods[int(part[1])].name] = answer["card"]
        if answer.get("late"):
            checked.hanging[suite.methods[int(part[1])].name] = f"its check was {answer['late']}; not started"
    return checked


def _lines(where: str, texts: Mapping[Part, list[str]]) -> list[str]:
    """One line for each text, with the places of all parts that it is said of."""
    places: dict[str, list[str]] = {}
    for part, said in texts.items():
        for text in said:
            places.setdefault(text, []).append(key_path(part))
    return [f"{where}: {', '.join(named)}: {text}" for text, named in places.items()]


def _answers(suite: Suite, parts: list[Part], server: ForkServer | None) -> dict[Part, Mapping[str, Any]]:
    """Answers in the order of ``parts``. Plug-ins of strangers, which may hang, are built apart and in less time."""
    text = suite.model_dump_json()
    own = {
        ("methods", index)
        for index, method in enumerate(suite.methods)
        if all(use.startswith(OWN) for use in (method.use, *named_code(method.options)))
    }
    ours = own | {("schedule",), ("backbone",)}
    ours = ours if suite.backbone.use.startswith(OWN) else set()  # all methods are tried with the backbone
    strange = [part for part in parts if part[0] != "datasets" and part not in ours]
    answers: dict[Part, Mapping[str, Any]] = {}
    memory = None if suite.memory_gib is None else 1024 * suite.memory_gib  # as a cell has
    for group, deadline in ((strange, DEADLINE), ([part for part in parts if part not in strange], READING)):
        requests = [{"suite": text, "part": list(part)} for part in group]
        given = call_each(ENTRY, requests, deadline, PROJECT, memory, server, suite.threads)
        for part, answer in zip(group, given, strict=True):
            answers[part] = _lost(answer, part, suite.memory_gib) if isinstance(answer, CallError) else answer
    return {part: answers[part] for part in parts}


def _lost(error: CallError, part: Part, memory_gib: float | None) -> dict[str, Any]:
    """The answer of a part that ended its process: a plug-in that exits or hangs costs its own cells."""
    text = ": ".join([f"the process that checked it failed: {error}", *error.log.splitlines()[-1:]])
    text += "" if memory_gib is None else f" (within memory_gib = {memory_gib:g})"
    answer = {"faults": [text], "fatal": part[0] == "backbone", "warnings": [], "notes": [], "card": {}}
    return answer | {"late": str(error)} if error.late and part[0] == "methods" else answer
