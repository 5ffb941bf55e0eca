"""Check of one plug-in: it is tried, and each rule for its kind gets a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness import picture_plugins, plan, suite
from harness.commands.check import Checked, check_suite
from harness.commands.output import complain
from harness.commands.progress import watching
from harness.data.locations import PROJECT
from harness.evaluation.check_names import DIAGNOSTICS_KEY
from harness.fingerprints import prints_of
from harness.jobs.call import CallError, call
from harness.jobs.processes import temporary_folder
from harness.results.cell_files import Outcome
from harness.results.record import USABLE, Record
from harness.results.store import Store
from harness.suite import Suite, SuiteError
from harness.sweep import sweep
from harness.sweep.pending import Settings

DEADLINE = 300.0  # seconds for importing a plug-in and for making a backbone
MINUTES = 10.0  # that the tiny cell of a method may take
TAIL = 6  # lines of a log that are shown
PICO = "eavit.weights:pico_letters"
FAMILY = "eavit.methods:ea_vit_plus"
SELECTED = "eavit.methods:selected"  # whose submodels a selector of yours chooses
EVALUATIONS = 24  # of that, unless the options say otherwise

Word = Literal["passed", "FAILED", "note"]


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """A rule, whether the plug-in keeps it, and why not or what was seen."""

    word: Word
    rule: str
    reason: str = ""

    def __str__(self) -> str:
        return f"  {self.word:<6}  {self.rule}" + (f": {self.reason}" if self.reason else "")


def check_plugin(use: str, tried: Mapping[str, Any]) -> tuple[str, list[RuleVerdict]]:
    """Kind of the plug-in, and a verdict on each rule.

    ``tried``: ``options`` of the plug-in, and ``size`` and ``channels`` of the images that it is tried with.
    """
    try:
        kind: str = call("harness.conformance:kind_of", use, DEADLINE, PROJECT)
    except CallError as error:
        return "plug-in", [RuleVerdict("FAILED", "it says what it makes", _plain(error))]
    rules = {
        "method": _method,
        "backbone": _backbone,
        "data set": _dataset,
        "listing": _listing,
        "metric": _metric,
        "selector": _selector,
    }
    return kind, list(rules[kind](use, tried))


def _plain(error: CallError) -> str:
    """Message of a call without the type's name that its process put before it."""
    name, colon, text = str(error).partition(": ")
    return text if colon and name.endswith("Error") and name.isidentifier() else str(error)


def _tiny_suite(tried: Mapping[str, Any], **tables: Any) -> Suite:
    """A suite of one small cell."""
    raw = {
        "name": "check",
        "budgets": [0.25, 0.5, 1.0],
        "grid": 9,
        "seeds": [0],
        "timeout_minutes": MINUTES,
        "backbone": {"use": PICO},
        "input": {"size": tried["size"], "channels": tried["channels"]},
        "schedule": {"epochs": 2.0, "batch": 20},
        "datasets": [{"name": "digits", "fit": 200, "select": 60, "test": 100}],
        "methods": [{"use": FAMILY}],
    }
    return suite.parse({**raw, **tables}, "check")


# --- methods --------------------------------------------------------------------------------------------------------


def _method(use: str, tried: Mapping[str, Any]) -> Iterator[RuleVerdict]:
    built = "it is built from its options and takes the backbone"
    try:
        own = _tiny_suite(tried, methods=[{"use": use, "name": "method", "options": tried["options"]}])
    except SuiteError as error:
        yield RuleVerdict("FAILED", built, str(error))
        return
    checked = check_suite(own, use)
    faults = [line.partition(": methods[0]: ")[2] or line for line in (*checked.fatal, *checked.losses)]
    if faults:
        yield RuleVerdict("FAILED", built, "; ".join(faults))
        return
    yield RuleVerdict("passed", built)
    yield from (RuleVerdict("note", line) for line in checked.warnings)
    if not checked.cards:
        yield RuleVerdict("note", "it has no card: tables can not say where it comes from")
    with temporary_folder("check-") as root:
        first, second = (_outcome(own, root / name) for name in ("first", "second"))
    yield from outcome_rules(first, second)


def _outcome(own: Suite, folder: Path) -> Outcome:
    """The outcome of the one cell of a suite, run in a store of its own."""
    store = Store(folder / "results", warn=complain)
    store.prepare()
    cells = plan.cells(own, prints_of(own, folder / "prints"))
    with watching(1, lambda line: None) as watcher:
        sweep.run(own, cells, store, Settings(runs=folder / "runs", workers=1, warn=complain), watcher)
    outcome = store.read(cells[0].id)
    if outcome is None:
        raise KeyboardInterrupt
    return outcome


def outcome_rules(first: Outcome, second: Outcome) -> Iterator[RuleVerdict]:
    """Verdicts on two runs of one cell of a method."""
    record = first.record
    answers = "every budget has a choice within it or none, and the modules give logits"
    if record.status not in USABLE:
        log = " | ".join(first.log.strip().splitlines()[-TAIL:])
        yield RuleVerdict("FAILED", answers, f"{record.status}: {record.reason}" + (f"; log: {log}" if log else ""))
        return
    yield RuleVerdict("passed", answers, "; ".join(_answers(record)))
    bad = [f"{100 * p.budget:.3g} %: {p.reason}" for p in record.grid if p.status not in USABLE]
    yield _verdict("it answers budgets between those of the task", "; ".join(bad[:1]))
    reached = any(point.key is not None for point in record.points)
    yield _verdict("it reaches at least one budget", "" if reached else "all are unreachable")
    checks: Any = record.diagnostics.get(DIAGNOSTICS_KEY, {})
    faults = [f"{name}: {reason}" for name, reason in checks.items() if reason]
    faults += [f"{100 * p.budget:g} %: {p.reason}" for p in record.points if p.status == "suspicious" and p.reason]
    yield _verdict("its answers pass the sanity checks of the bench", "; ".join(dict.fromkeys(faults)))
    macs = "the ledger holds what it spends"
    if record.train_macs > 0:
        yield RuleVerdict("passed", macs, f"{record.train_macs / 1e9:.3g} GMACs in {', '.join(record.ledger)}")
    else:
        yield RuleVerdict("note", f"{macs}: nothing was recorded; right only for a method that computes nothing")
    yield _verdict("the same seed gives the same choices and the same correct images", _difference(first, second))


def _answers(record: Record) -> Iterable[str]:
    for point in record.points:
        right = "" if point.correct is None else f", {point.correct} of {point.n} right"
        yield f"{100 * point.budget:g} %: {point.key or point.status}{right}"


def _difference(first: Outcome, second: Outcome) -> str:
    if second.record.status not in USABLE:
        return f"the second run ended as {second.record.status}: {second.record.reason}"
    for one, other in zip(first.record.points, second.record.points, strict=True):
        if one.key != other.key:
            return f"at {100 * one.budget:g} % {one.key}, then {other.key}: draw from task.seed alone"
        if first.bitmaps.get(one.budget) != second.bitmaps.get(other.budget):
            return f"at {100 * one.budget:g} % other images are right: draw from task.seed alone"
    return ""


def _verdict(rule: str, fault: str) -> RuleVerdict:
    return RuleVerdict("FAILED" if fault else "passed", rule, fault)


# --- backbones, data sets, metrics and selectors ----------------------------------------------------------------------


def _backbone(use: str, tried: Mapping[str, Any]) -> Iterator[RuleVerdict]:
    fits = f"it takes images of {tried['channels']} x {tried['size']} x {tried['size']} and gives logits"
    own = _tiny_suite(tried, backbone={"use": use, "options": tried["options"]})
    checked = check_suite(own, use)
    faults = [line for line in (*checked.fatal, *checked.losses) if ": methods[0]: " not in line]
    if faults:
        yield RuleVerdict("FAILED", fits, "; ".join(line.removeprefix(f"{use}: backbone: ") for line in faults))
        return
    yield RuleVerdict("passed", fits)
    refused = [line.partition(": methods[0]: ")[2] for line in (*checked.fatal, *checked.losses)]
    if refused:
        yield RuleVerdict("note", f"methods of eavit cannot adapt it: {'; '.join(refused)}")
    else:
        yield RuleVerdict("passed", "methods of eavit can adapt it")
    request = {"use": use, "options": tried["options"]}
    try:
        names = call("harness.conformance:differing_weights", request, DEADLINE, PROJECT)
        fault = f"other values of {', '.join(names[:3])} ({len(names)} in all)" if names else ""
    except CallError as error:
        fault = _plain(error)
    yield _verdict("its weights are the same each time, whatever the seed and the number of classes", fault)


def _dataset(use: str, tried: Mapping[str, Any]) -> Iterator[RuleVerdict]:
    made = "it makes pictures of splits and classes"
    with temporary_folder("check-") as root:
        folders = [root / "first", root / "second"]
        try:
            counts, digests = zip(*(_pictures(use, tried["options"], folder) for folder in folders), strict=True)
        except CallError as error:
            yield RuleVerdict("FAILED", made, _plain(error))
            return
        yield RuleVerdict("passed", made, f"{counts[0]} pictures")
        fault = "" if digests[0] == digests[1] else "two calls gave other pictures: use a seed of its own"
        yield _verdict("it makes the same pictures each time", fault)
        own = _tiny_suite(tried, datasets=[{"name": "set", "source": "folder", "path": str(folders[0])}])
        checked = check_suite(own, use, with_data=True)
    yield from _divided(checked)


def _divided(checked: Checked) -> Iterator[RuleVerdict]:
    lines = [line for line in (*checked.fatal, *checked.losses) if ": datasets[0]: " in line]
    faults = [line.partition(": datasets[0]: ")[2] for line in lines]
    seen = "; ".join(note.removeprefix("set: ") for note in checked.notes)
    divided = "it can be divided into fit, select and test"
    yield RuleVerdict("FAILED", divided, "; ".join(faults)) if faults else RuleVerdict("passed", divided, seen)
    yield from (RuleVerdict("note", line.partition(": datasets[0]: ")[2] or line) for line in checked.warnings)


def _listing(use: str, tried: Mapping[str, Any]) -> Iterator[RuleVerdict]:
    listed = "its files are there and it lists their images and labels"
    request = {"use": use, "options": tried["options"], "path": None}
    try:
        states = [call("harness.data.listings:describe_listing", request, DEADLINE, PROJECT) for _ in range(2)]
    except CallError as error:
        yield RuleVerdict("FAILED", listed, _plain(error))
        return
    yield RuleVerdict("passed", listed, states[0]["summary"])
    yield _verdict("it lists the same each time", "" if states[0] == states[1] else "two calls gave other lists")
    entry = {"name": "set", "use": use, "source": "listing", "options": tried["options"], "reading": "disk"}
    yield from _divided(check_suite(_tiny_suite(tried, datasets=[entry]), use, with_data=True))


def _metric(use: str, tried: Mapping[str, Any]) -> Iterator[RuleVerdict]:
    numbers = "it takes its options and gives a number for drawn outputs"
    request = {"use": use, "options": tried["options"]}
    try:
        answers = call("harness.conformance:metric_trials", request, DEADLINE, PROJECT)
    except CallError as error:
        yield RuleVerdict("FAILED", numbers, _plain(error))
        return
    first = answers["first"]
    yield _of_answer(numbers, first)
    if "value" not in first:
        return
    yield _verdict("it gives the same number each time", "" if answers["second"] == first else "another one, then")
    other = answers["order"].get("value", math.nan)
    same = math.isclose(other, first["value"], rel_tol=1e-6, abs_tol=1e-9)
    yield _verdict("the order of the images does not matter", "" if same else f"{other:.6g} in another order")
    for which in ("right", "wrong"):
        yield _of_answer(f"it gives a number where all images are {which}", answers[which])


def _selector(use: str, tried: Mapping[str, Any]) -> Iterator[RuleVerdict]:
    """Verdicts of trials on drawn accuracies, then of a cell whose method chooses by it."""
    request = {"use": use, "options": tried["options"]}
    try:
        answers = call("eavit.selection.selector_trials:selector_trials", request, DEADLINE, PROJECT)
    except CallError as error:
        yield RuleVerdict("FAILED", "it is called with a problem", _plain(error))
        return
    for rule, seen, fault in answers:
        yield RuleVerdict("FAILED", rule, fault) if fault else RuleVerdict("passed", rule, seen)
        if fault:
            return
    options = {"selector": use, "evaluations": EVALUATIONS, **tried["options"]}
    yield RuleVerdict("note", f"the rest is tried with {SELECTED}, which chooses by it")
    yield from _method(SELECTED, {**tried, "options": options})


def _of_answer(rule: str, answer: Mapping[str, Any]) -> RuleVerdict:
    if "value" in answer:
        return RuleVerdict("passed", rule, f"{answer['value']:.6g}")
    return RuleVerdict("FAILED", rule, answer["reason"])


def _pictures(use: str, options: Mapping[str, Any], folder: Path) -> tuple[int, str]:
    request = {"use": use, "options": options, "folder": str(folder)}
    count = call(picture_plugins.ENTRY, request, picture_plugins.DEADLINE, PROJECT)
    return count, picture_plugins.pictures_digest(folder)
