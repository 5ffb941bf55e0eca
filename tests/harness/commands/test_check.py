"""Checks of suites: every part in a child, every fault with file and key path, a bad plug-in costs its own cells."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.commands import check
from harness.commands.check import Checked, check_suite
from tests.harness import small
from tests.harness.commands import in_process
from tests.harness.small import FAKES

LIGHT = "tests.harness.commands.checked:check_part"


def test_each_part_says_its_own_and_none_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ENTRY", LIGHT)
    monkeypatch.setattr(check, "DEADLINE", 5.0)
    methods = [{"use": f"a.b:m{n}"} for n in range(6)]
    found = check_suite(small.suite(methods=methods), "x.toml")
    died = "the process that checked it failed"
    assert found == Checked(
        fatal=["x.toml: methods[4]: one", "x.toml: methods[4]: two"],
        losses=[
            f"x.toml: methods[1]: {died}: exit code 0 without a result: a last word",
            f"x.toml: methods[2]: {died}: KeyboardInterrupt: KeyboardInterrupt",
            f"x.toml: methods[3]: {died}: not done after 5 s",
            "x.toml: methods[5]: three",
        ],
        warnings=["x.toml: methods[0]: budgets 0.2 cannot be reached"],
        cards={"m0": {"title": "Good"}},
        hanging={"m3": "its check was not done after 5 s; not started"},
    )


def test_data_that_is_not_there_is_reported_without_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ENTRY", LIGHT)
    sets = [{"name": "x", "source": "folder", "path": str(tmp_path / "no")}]
    found = check_suite(small.suite(datasets=sets), "x.toml", with_data=True)
    assert len(found.losses) == 1
    assert found.losses[0].startswith('x.toml: datasets[0]: data set "x" (source "folder"): path = ')


PLUGINS = {
    "exits_at_import": "import os; os._exit(0)",
    "leaves_at_import": "raise SystemExit(0)",
    "exits_in_factory": "import sys\nclass M:\n    adapt = print\n    def __init__(self): sys.exit(0)",
    "fails_in_factory": "class M:\n    adapt = print\n    def __init__(self): raise RuntimeError('no luck')",
    "says_nothing": "def M(): raise SystemExit",
}


def test_real_plug_ins_end_their_own_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in PLUGINS.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    uses = [*(f"{name}:M" for name in PLUGINS), "os:system", "no_such_plugin:x", f"{FAKES}:steady"]
    methods: list[dict[str, Any]] = [{"use": use, "name": f"m{n}"} for n, use in enumerate(uses)]
    found = check_suite(small.suite(methods=methods), "x.toml", with_data=True)
    lines = dict(line.removeprefix("x.toml: ").split(": ", 1) for line in (*found.losses, *found.fatal))
    said = {place: text for places, text in lines.items() for place in places.split(", ")}
    assert "exit code 0 without a result" in said["methods[0]"]
    assert "SystemExit: 0" in said["methods[1]"] and "SystemExit: 0" in said["methods[2]"]
    assert said["methods[3]"] == "RuntimeError: no luck"
    assert "no such module" in said["methods[6]"]
    assert [line.split(": ")[1] for line in found.fatal] == ["methods[4]", "methods[5]"]
    assert "does not say that it makes a method" in said["methods[4]"]
    assert "standard library" in said["methods[5]"]
    assert "methods[7]" not in said
    assert found.notes == ["digits: 10 classes; fit 200, select_a 30, select_b 30, test 100"]
    assert not set(PLUGINS) & set(sys.modules)


def test_a_metric_of_a_suite_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process.patch(monkeypatch)
    made = "tests.harness.made_metrics"
    metrics = [
        {"use": f"{made}:share_right"},
        {"use": f"{made}:untold"},
        {"use": f"{made}:raises", "options": {"k": 1}},
    ]
    found = check_suite(small.suite(metrics=metrics), "x.toml")
    assert [line.split(": ")[1] for line in found.fatal] == ["metrics[1]", "metrics[2]"]
    assert "does not say that it is a metric" in found.fatal[0] and "options.k: unknown option" in found.fatal[1]


def test_a_selector_of_another_package_is_checked_before_a_run_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, list[int]]] = []

    def noted(entry: str, requests: list[dict[str, Any]], deadline: float, *more: object) -> list[Any]:
        seen.append((deadline, [each["part"][1] for each in requests if each["part"][0] == "methods"]))
        return in_process.called_each(entry, requests)

    monkeypatch.setattr(check, "call_each", noted)
    selects = ("uniform", "tests.eavit.selection.made_selectors:smallest", "nowhere:x", "unifrm", "time:sleep")
    methods = [
        {"use": "eavit.methods:hydravit", "name": f"m{n}", "options": {"select": select}}
        for n, select in enumerate(selects)
    ]
    tables: dict[str, Any] = {"backbone": {"use": "eavit.weights:pico_letters"}, "input": {"size": 24, "channels": 1}}
    found = check_suite(small.suite(methods=methods, **tables), "x.toml")
    assert seen == [(check.DEADLINE, [1, 2, 4]), (check.READING, [0, 3])]
    assert [line.split(": ")[1] for line in found.fatal] == ["methods[2]", "methods[3]", "methods[4]"]
    assert "option select='nowhere:x': nowhere cannot be imported" in found.fatal[0]
    assert "or module:name of a selector of yours; nearest: uniform" in found.fatal[1]
    assert found.losses == []


def test_one_fault_of_many_parts_is_one_line_and_memory_is_bounded_as_in_a_cell() -> None:
    """The memory is too small for the checks' own imports, so every part has the same fault."""
    found = check_suite(
        small.suite(memory_gib=0.05, methods=[{"use": "eavit.methods:matformer"}]), "x.toml", with_data=True
    )
    (fatal,), losses = found.fatal, found.losses
    assert fatal.startswith("x.toml: backbone: the process that checked it failed")
    assert len(losses) < 3 and "methods[0]" in losses[0] + losses[-1]
    assert all(line.endswith("(within memory_gib = 0.05)") for line in (fatal, *losses))


def test_quick_is_checked_in_seconds() -> None:
    from harness import suite

    began = time.process_time()
    found = check_suite(suite.load("suites/quick.toml"), "quick", with_data=True)
    assert (found.fatal, found.losses) == ([], [])
    assert len(found.notes) == 2 and set(found.cards) == {m.name for m in suite.load("suites/quick.toml").methods}
    assert time.process_time() - began < 2  # of this process; the child needs about 5 s on a quiet machine
