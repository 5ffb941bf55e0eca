"""Probes: short cells in children of their own, and what a forecast makes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import fingerprints, plan
from harness.commands.progress import Lines, Tally
from harness.forecast import history, probe
from harness.forecast.forecast import Forecast, forecast
from harness.plan import Prints
from harness.results import record
from harness.suite import Suite
from harness.sweep.pending import Settings
from tests.harness import small

PACED = "tests.harness.paced"
METHODS = [
    {"name": "paced", "use": f"{PACED}:paced", "options": {"step": 0.02}},
    {"name": "picky", "use": f"{PACED}:picky", "options": {"least": 100}},
    {"name": "copied", "use": f"{PACED}:copied", "options": {"of": "paced"}, "after": ["paced"]},
]


def paced_suite(**changes: Any) -> Suite:
    given = {
        "methods": METHODS,
        "schedule": {"epochs": 20.0, "batch": 8},  # 20 * 25 steps of 20 ms: 10 s
        "datasets": [{"name": "digits", "fit": 200, "select": 60, "test": 100}],
        "seeds": [4, 5],
    }
    return small.suite(**{**given, **changes})


@pytest.fixture(scope="module")
def prints(tmp_path_factory: pytest.TempPathFactory) -> Prints:
    return fingerprints.prints_of(paced_suite(), tmp_path_factory.mktemp("cache"))


class Probed:
    def __init__(self, runs: Path, prints: Prints) -> None:
        self.runs, self.prints, self.said = runs, prints, list[str]()

    def run(self, *methods: str, **changes: Any) -> dict[tuple[str, str], str]:
        pairs = {(method, "digits") for method in methods}
        settings = Settings(self.runs / "small", workers=2, warn=self.said.append)
        watcher = Lines(Tally(2), self.said.append)
        return probe.probe(paced_suite(**changes), self.prints, pairs, self.runs, settings, watcher)

    def forecast(self) -> Forecast:
        cells = plan.cells(paced_suite(), self.prints)
        past = history.read_history(probe.folder(self.runs), {"paced", "picky", "copied"})
        return forecast(cells, {cell.id for cell in cells}, past, record.machine_id(), 2, self.prints.fit)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory, prints: Prints) -> tuple[Probed, dict[tuple[str, str], str]]:
    made = Probed(tmp_path_factory.mktemp("runs"), prints)
    return made, made.run("paced", "picky", "copied")


def test_a_probe_finds_what_the_whole_cell_takes(probed: Any) -> None:
    paced = probed[0].forecast().pairs[0].each
    assert paced.source == "shorter or longer runs"
    assert 8 < paced.seconds.mid < 30.0  # 10 s of sleeping alone, on a machine that may be very busy
    assert paced.macs.mid == pytest.approx(7e6 * 500)


def test_a_probe_that_fails_is_reported_with_its_reason_and_stays_unknown(probed: Any) -> None:
    made, failed = probed
    assert failed == {("picky", "digits"): "failed: ValueError: too short: 40 steps"}
    assert made.forecast().pairs[1].each.source.startswith("unknown")


def test_a_method_that_needs_another_is_given_its_choices(probed: Any) -> None:
    assert probed[0].forecast().pairs[2].each.seconds is not None


def test_what_was_measured_is_not_measured_again(probed: Any) -> None:
    made, _ = probed
    made.said.clear()
    assert made.run("paced", "copied") == {}
    assert made.said == []


def test_the_schedules_have_few_steps_and_one_seed(prints: Prints) -> None:
    suites = [(s.schedule.epochs, s.seeds, [c.method for c in cells])
              for s, cells in probe.short_runs(paced_suite(), prints, {("copied", "digits")})]  # fmt: skip
    assert suites == [(8 / 25, (4,), ["paced", "copied"]), (40 / 25, (4,), ["paced", "copied"])]


def test_a_schedule_that_is_shorter_than_a_probe_is_not_made_longer(prints: Prints) -> None:
    short = paced_suite(schedule={"epochs": 0.5, "batch": 8})
    assert [s.schedule.epochs for s, _ in probe.short_runs(short, prints, ())] == [8 / 25, 0.5]


@pytest.mark.parametrize(("whole", "short"), [(5.0, 5.0), (60.0, 10.0), (2880.0, 288.0)])
def test_a_short_cell_may_take_a_tenth_of_what_a_long_one_may(whole: float, short: float, prints: Prints) -> None:
    short_suites = probe.short_runs(paced_suite(timeout_minutes=whole), prints, ())
    assert [s.timeout_minutes for s, _ in short_suites] == [short, short]


def test_data_that_cannot_be_read_is_not_probed(prints: Prints) -> None:
    assert list(probe.short_runs(paced_suite(), small.prints(paced_suite()), {("paced", "digits")})) == []


def test_planning_imports_no_torch() -> None:
    code = "import sys, harness.commands.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
