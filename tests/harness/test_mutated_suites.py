"""Suites with random faults: never a traceback, never an acceptance of what cannot run."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import plan, suite
from harness.evaluation import execute, suite_check
from harness.results.record import USABLE
from harness.suite import Suite, SuiteError
from harness.sweep.cell_job import CellJob
from tests.harness import small
from tests.harness.small import FAKES

SHIPPED = sorted(path for path in Path("suites").glob("*.toml") if not path.name.endswith(".claims.toml"))
PIECES = [
    *("[", "]", "{", "}", "=", '"', "'", "\n", "#", ",", ".", "-1", "1e999", "nan", "0x", "true", "\\", "\0", "\x1b"),
    *("\ufeff", "ø", "[[", "]]", '"""', "2020-01-01", "9" * 400, "name = 'x'\n", "[schedule]\n", " " * 50),
]


def faults(read: Any, *words: Any) -> tuple[str, ...]:
    try:
        assert isinstance(read(*words), Suite)
        return ()
    except SuiteError as error:
        return error.faults


def is_sound(given: Suite) -> bool:
    """What a plan relies on, said again in other words."""
    budgets, seeds, methods = given.budgets, given.seeds, [method.name for method in given.methods]
    return (
        list(budgets) == sorted(set(budgets)) and all(0 < budget <= 1 for budget in budgets)
        and len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)
        and len(set(methods)) == len(methods) and {name for m in given.methods for name in m.after} <= set(methods)
        and len(given.input.mean) == len(given.input.std) == given.input.channels
        and len(plan.cells(given, small.prints(given))) == plan.count(given)
    )  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_texts_with_pieces_changed_are_suites_or_reported_in_lines(path: Path, tmp_path: Path) -> None:
    draw, text, file = random.Random(path.stem), path.read_text(), tmp_path / "x.toml"
    accepted = 0
    for _ in range(100):
        mutated = text
        for _ in range(draw.randint(1, 3)):
            at, length = draw.randrange(len(mutated)), draw.choice([0, 0, 1, 1, 5, 40])
            mutated = mutated[:at] + draw.choice(["", *PIECES]) + mutated[at + length :]
        file.write_bytes(mutated.encode("utf-8", "surrogatepass"))
        found = faults(suite.load, file)
        assert all(line.startswith(f"{file}") and line.isprintable() and len(line) < 2000 for line in found), found
        assert found or is_sound(suite.load(file)), mutated
        accepted += not found
    assert 0 < accepted < 95  # neither all nor none, or the mutations say nothing


WORDS = ["", " ", "x", "\n", "é" * 200, "a:b", "os:system", f"{FAKES}:steady", f"{FAKES}:no_method", "digits", "no"]
NUMBERS = [0, 1, 2, -1, 0.0, 0.5, 1.0, 1.5, 20, 1e-300, 1e300, 2**63, 2**64, 10**400, float("nan"), float("inf")]
OTHERS: list[Any] = [True, None, [], [0], ["x"], {}, {"x": 1}, [[1]], [0.5, 0.25], [1, 1]]


def places(raw: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    return [place for key, value in inner for place in [(*at, key), *places(value, (*at, key))]]


def mutated(draw: random.Random) -> dict[str, Any]:
    """A right suite with one place taken away, misspelt, or of another value, or with a key too many."""
    raw: Any = copy.deepcopy(small.raw(
        schedule={"epochs": 1.0, "batch": 8, "precision": "no"}, threads=1, memory_gib=4.0,
        methods=[{"use": f"{FAKES}:steady", "options": {"tag": "a"}}, {"use": f"{FAKES}:follower", "name": "next",
                 "options": {"of": "steady"}, "after": ["steady"]}],
    ))  # fmt: skip
    # what a method does without the choices of another one only the method knows
    *above, key = draw.choice([place for place in places(raw) if not {"after", "of"} & set(place)])
    holder = raw
    for step in above:
        holder = holder[step]
    way = draw.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.3 and isinstance(key, str):
        holder[key + draw.choice(["s", "_", "\x1b", "é"])] = holder.pop(key)
    elif way < 0.4 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = draw.choice(draw.choice([WORDS, NUMBERS, OTHERS]))
    return raw


def test_what_is_accepted_and_checked_runs(tmp_path: Path) -> None:
    """Every fault that would fail a cell is told by the suite's own check or by that of its parts."""
    draw, refused, checked, ran = random.Random(7), 0, 0, 0
    for number in range(550):
        raw = mutated(draw)
        found = faults(suite.parse, raw, "x.toml")
        assert all(line.startswith("x.toml: ") and line.isprintable() and len(line) < 2000 for line in found), found
        if found:
            refused += 1
            continue
        given = suite.parse(raw, "x.toml")
        assert is_sound(given), raw
        if check_of(given):
            checked += 1
        elif ran < 40:
            ran += 1
            assert statuses(given, tmp_path / str(number)) <= USABLE, raw
    assert refused > 200 and checked > 5 and ran > 20, (refused, checked, ran)


def test_the_largest_seed_runs(tmp_path: Path) -> None:
    given = suite.parse(small.raw(seeds=[2**63 - 1]), "x.toml")
    assert not check_of(given) and statuses(given, tmp_path) <= USABLE


def check_of(given: Suite) -> list[str]:
    parts = [["schedule"], ["backbone"], *(["methods", i] for i in range(len(given.methods))), ["datasets", 0]]
    answers = [suite_check.check_part({"suite": given.model_dump_json(), "part": part}) for part in parts]
    assert json.loads(json.dumps(answers)) == answers
    return [fault for answer in answers for fault in answer["faults"]]


def statuses(given: Suite, folder: Path) -> set[str]:
    """Of the cells of the first seed, run in this process."""
    found, choices = set(), dict[str, dict[str, str]]()
    for cell in plan.cells(given, small.prints(given)):
        if cell.seed != given.seeds[0]:
            continue
        content = {name: value for name, value in cell.content.items() if name not in ("code", "data")}
        given_choices = {name: choices[name] for name in given.method(cell.method).after}
        job = CellJob(cell=replace(cell, content=content), suite=given, given=given_choices)
        record = execute.run_cell(job, folder / cell.id, lambda phase, done, total: None).record
        choices[cell.method] = record.choices()
        found.add(record.status if record.status in USABLE else f"{record.status}: {record.reason}")
    return found
