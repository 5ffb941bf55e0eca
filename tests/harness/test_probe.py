"""Probes: a few steps of a real cell in a child, and the arithmetic from there to the whole of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import plan
from harness.forecast import probing
from harness.forecast.forecast import Estimate, Range
from harness.forecast.probing import Trace, extrapolate, growth
from harness.plan import Cell
from harness.results.store import Outcome, Store
from harness.suite import Suite
from tests.harness import small

PACED = "tests.harness.paced"
Phases = Sequence[tuple[str, int, list[float]]]


def trace(steps: int, full: int, phases: Phases, rest: float = 0.5, **changes: Any) -> Trace:
    """``phases``: name, total, and the seconds before each call."""
    now, calls = 0.0, []
    for phase, total, waits in phases:
        for done, wait in enumerate(waits, 1):
            now += wait
            calls.append((now, phase, done, total))
    return Trace(steps, full, now + rest, changes.pop("mib", 1.0), tuple(calls), **changes)


def course(steps: int, pace: float = 0.1, first: float = 2.0, last: float = 0.3, full: int = 240) -> Trace:
    """Prepare for ``first`` seconds, train, search 7 generations of 1 s, and two models trained one after another."""
    train = [first, *[pace] * (steps - 2), last]
    models = [(f"model-{n}-of-2", steps, [1.0, *[pace / 2] * (steps - 2), last]) for n in (1, 2)]
    return trace(steps, full, [("train", steps, train), ("search", 7, [1.0] * 7), *models])


# --- the arithmetic


def test_phases_that_grow_are_those_whose_total_does() -> None:
    assert growth(course(8), course(24)) == {"train": 0.0, "model-#-of-#": 0.0}


def test_a_phase_that_shows_only_in_the_longer_run_grows() -> None:
    assert growth(trace(8, 99, []), trace(24, 99, [("warm", 1, [0.1])])) == {"warm": 0.0}


def test_a_constant_part_of_a_growing_total_is_found() -> None:
    short, long = (trace(n, 240, [("both", 50 + n, [0.1] * (50 + n))]) for n in (8, 24))
    assert growth(short, long) == {"both": pytest.approx(50)}
    found = extrapolate(long, growth(short, long))
    assert found.seconds is not None
    assert found.seconds.mid == pytest.approx(290 * 0.1 + 0.5)


def test_constant_phases_count_once_and_growing_ones_with_the_steps() -> None:
    found = extrapolate(course(24), growth(course(8), course(24)), [course(8)])
    whole = course(240)
    assert found.seconds is not None
    assert found.seconds.mid == pytest.approx(whole.seconds)
    assert found.seconds.low == pytest.approx(0.8 * whole.seconds)
    assert found.seconds.high == pytest.approx(1.2 * whole.seconds)
    assert (found.source, found.note) == ("probe", "")


def test_a_slow_first_step_and_one_hiccup_do_not_grow() -> None:
    slow = course(24, first=60.0)
    found = extrapolate(slow, growth(course(8), slow))
    assert found.seconds is not None and found.seconds.mid == pytest.approx(course(240, first=60.0).seconds)
    waits = [0.1] * 24
    waits[5] = 30.0
    stuck = trace(24, 240, [("train", 24, waits)])
    found = extrapolate(stuck, {"train": 0.0})
    assert found.seconds is not None
    assert found.seconds.mid == pytest.approx(stuck.seconds + 216 * 0.1, rel=0.1)


def test_steps_that_differ_count_by_their_mean_and_widen_the_range() -> None:
    uneven = trace(24, 2400, [("train", 24, [0.1, 0.1, 0.25] * 8)], rest=0.0)
    found = extrapolate(uneven, {"train": 0.0})
    assert found.seconds is not None and found.seconds.mid == pytest.approx(2400 * 0.15, rel=0.03)
    wild = trace(4, 400, [("train", 4, [0.1, 0.1, 0.29, 0.1])], rest=0.0)
    doubtful = extrapolate(wild, {"train": 0.0})
    assert doubtful.seconds is not None
    assert doubtful.seconds.high / doubtful.seconds.mid > 1.4


def test_calls_that_skip_steps_are_divided_among_them() -> None:
    calls = tuple((float(n), "train", 10 * n, 40) for n in range(5))
    found = extrapolate(Trace(40, 400, 4.0, 0.0, calls), {"train": 0.0})
    assert found.seconds is not None and found.seconds.mid == pytest.approx(40.0)


def test_a_phase_of_one_step_takes_the_pace_of_the_others() -> None:
    short = trace(24, 240, [("warm", 1, [5.0]), ("train", 24, [0.1] * 24)], rest=0.0)
    found = extrapolate(short, {"warm": 0.0, "train": 0.0})
    assert found.seconds is not None and found.seconds.mid == pytest.approx(5 + 24 + 9 * 0.1)


def test_a_schedule_that_was_run_whole_is_not_stretched() -> None:
    whole = replace(course(24), full=24)
    found = extrapolate(whole, {"train": 0.0})
    assert found.seconds is not None and found.seconds.mid == whole.seconds


def test_a_method_that_tells_nothing_is_priced_by_its_ledger_or_with_a_word() -> None:
    silent = trace(24, 240, [("load", 1, [1.0])], rest=4.0, books=((24, 6e6, 3.0), (0, 1e6, 1.0)))
    found = extrapolate(silent, {})
    assert found.seconds is not None and found.seconds.mid == 5.0 + 9 * 3.0
    assert found.seconds.high == 1.5 * found.seconds.mid
    assert found.note == "by its ledger alone"
    nothing = extrapolate(replace(silent, books=()), {})
    assert nothing.seconds is not None and (nothing.seconds.mid, nothing.note) == (5.0, "no steps told")
    assert nothing.seconds.high == 7.5


def test_macs_grow_with_the_steps_of_the_ledger_and_disk_with_what_it_did() -> None:
    phases = [("train", 24, [0.1] * 24)]
    short = trace(24, 240, phases, books=((24, 24e6, 1.0), (0, 5e6, 1.0)), mib=4.0)
    found = extrapolate(short, {"train": 0.0})
    assert found.macs is not None and found.mib is not None
    assert (found.macs.mid, found.mib.mid) == (5e6 + 240e6, 4.0)
    shorter = trace(8, 240, [("train", 8, [0.1] * 8)], books=((8, 16e6, 1.0), (0, 5e6, 1.0)), mib=2.0)
    both = extrapolate(short, {"train": 0.0}, [shorter])
    assert both.macs is not None and both.mib is not None
    assert both.macs.mid == pytest.approx(5e6 + 240 * 40e6 / 32)
    assert both.mib.mid == pytest.approx(4.0 + 216 * 2 / 16)
    staged = replace(short, calls=(*short.calls, (9.0, "second stage", 1, 1)))
    found = extrapolate(staged, {"train": 0.0}, [shorter])
    assert found.mib is not None and found.mib.mid == 4.0  # another stage, another checkpoint: no growth


# --- real children


def paced_suite(**changes: Any) -> Suite:
    given = {
        "methods": [
            {"name": "paced", "use": f"{PACED}:paced"},
            {"name": "silent", "use": f"{PACED}:paced", "options": {"tells": False, "setup": 0.0}},
            {"name": "picky", "use": f"{PACED}:picky", "options": {"least": 100}},
            {"name": "copied", "use": f"{PACED}:copied", "options": {"of": "paced"}, "after": ["paced"]},
            {"name": "orphan", "use": f"{PACED}:copied", "options": {"of": "picky"}, "after": ["picky"]},
        ],
        "schedule": {"epochs": 50.0, "batch": 8},  # 50 * 25 steps of 4 ms: 5 s
        "datasets": [{"name": "digits", "fit": 200, "select": 60, "test": 100}],
        "seeds": [4, 5],
    }
    return small.suite(**{**given, **changes})


def planned(of: Suite) -> tuple[Cell, ...]:
    """Without prints of code and data, which a cell would compare with what is there."""
    cells = plan.cells(of, small.prints(of))
    return tuple(replace(cell, content={**cell.content, "code": None, "data": None}) for cell in cells)


@pytest.fixture(scope="module")
def sounded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Any, Estimate], list[str], Path]:
    runs, told = tmp_path_factory.mktemp("runs"), list[str]()
    suite = paced_suite()
    return probing.probe(suite, planned(suite), runs, 2, told.append, machine="here"), told, runs


def test_a_probe_finds_what_the_whole_cell_would_take(sounded: Any) -> None:
    found, _, _ = sounded
    paced = found[("paced", "digits")]
    assert paced.seconds is not None and paced.macs is not None and paced.mib is not None
    assert 4.9 < paced.seconds.mid < 20.0  # 5 s of sleeping alone, on a machine that may be very busy
    assert paced.macs.mid == pytest.approx(7e6 * 1250)
    assert paced.mib.mid == pytest.approx(1250 / 3 * 100 / 1024, rel=0.2)
    assert (paced.source, paced.note) == ("probe", "")


def test_a_method_that_is_silent_is_priced_by_its_ledger(sounded: Any) -> None:
    silent = sounded[0][("silent", "digits")]
    assert silent.note == "by its ledger alone"
    assert silent.seconds is not None
    assert 4.9 < silent.seconds.mid < 40.0
    assert silent.seconds.high == pytest.approx(1.5 * silent.seconds.mid)


def test_a_probe_that_fails_is_unknown_with_its_reason_and_so_is_who_needs_it(sounded: Any) -> None:
    found, told, _ = sounded
    picky, orphan = found[("picky", "digits")], found[("orphan", "digits")]
    assert (picky.seconds, picky.source) == (None, "unknown")
    assert picky.note == "the probe gave nothing: failed: ValueError: too short: 24 steps"
    assert orphan.seconds is None and "needs picky · digits · seed 4 (failed)" in orphan.note
    assert any("picky · digits, 24 steps: failed" in line for line in told)


def test_a_method_that_comes_after_is_given_what_the_probe_chose(sounded: Any) -> None:
    copied = sounded[0][("copied", "digits")]
    assert copied.seconds is not None


def test_what_was_found_is_kept_and_nothing_else(sounded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _, runs = sounded
    cache = runs / ".cache" / "probe"
    assert {entry.suffix for entry in cache.iterdir()} == {".json"}  # the scratch is gone
    assert len(list(cache.iterdir())) == 3
    asked: list[str] = []
    monkeypatch.setattr(
        probing, "_sounded", lambda suite, cells, fresh, *rest: asked.extend(c.method for c in fresh) or {}
    )
    suite = paced_suite()
    again = probing.probe(suite, planned(suite), runs, 2, print, machine="here")
    assert again == {pair: estimate for pair, estimate in found.items() if estimate.seconds is not None}
    assert asked == ["picky", "orphan"]
    asked.clear()
    only = {("paced", "digits")}
    probing.probe(suite, planned(suite), runs, 2, print, machine="another", wanted=only)
    probing.probe(suite, planned(suite), runs, 1, print, machine="here", wanted=only)
    edited = paced_suite(schedule={"epochs": 51.0, "batch": 8})
    probing.probe(edited, planned(edited), runs, 2, print, machine="here", wanted=only)
    seeds = paced_suite(seeds=[9])
    probing.probe(seeds, planned(seeds), runs, 2, print, machine="here", wanted=only)
    assert asked == ["paced"] * 3  # another seed is no other cost


def test_a_plan_asks_its_store_then_its_neighbours_then_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(root: str, cell: Cell, seconds: float, place: str) -> Store:
        store = Store(tmp_path / "results" / root)
        store.prepare()
        about = {"machine": place, "workers": 2}
        sizes: dict[str, Any] = {"sizes": {"fit": 200}}
        changes = {"environment": about, "seconds": seconds, "data": sizes}
        store.write(Outcome(small.record_of(cell).model_copy(update=changes)))
        store.summaries([cell.id])
        return store

    def source(of: Suite, tell: Any = None) -> tuple[str | None, float]:
        cells = planned(of)
        todo = {cell.id for cell in cells if cell.seed == 5}
        found = probing.price_of(of, cells, todo, store, tmp_path / "runs", 2, tell)
        (line,) = found.lines
        return line.source, round(line.minutes.mid * 60, 3) if line.minutes else 0.0

    monkeypatch.setattr(probing.record, "machine", lambda: "here")
    methods = [{"name": "paced", "use": f"{PACED}:paced"}]
    suite = paced_suite(methods=methods, schedule={"epochs": 2.0, "batch": 8})
    longer = paced_suite(methods=methods, schedule={"epochs": 4.0, "batch": 8}, name="longer")
    store = kept("small", planned(suite)[0], 30.0, "there")
    assert source(suite) == ("unknown", 0.0)
    store = kept("small", planned(suite)[0], 30.0, "here")
    assert source(suite) == ("records", 30.0)
    store = Store(tmp_path / "results" / "longer")
    assert source(longer) == ("scaled", 31.5)  # of 30 s, 1.5 s counted steps
    probed = Estimate(Range(1, 2, 3), None, None, "probe")
    monkeypatch.setattr(probing, "_sounded", lambda *args: {("paced", "digits"): probed})
    assert source(longer, print) == ("probe", 2.0)
    assert source(longer) == ("probe", 2.0)  # found before, and free


def test_a_damaged_entry_of_the_cache_is_found_again(tmp_path: Path) -> None:
    for text in ("", "{", "[]", json.dumps({"seconds": {"low": 1}})):
        (tmp_path / "entry.json").write_text(text)
        assert probing._recall(tmp_path / "entry.json") is None


def test_planning_with_a_probe_imports_no_torch() -> None:
    code = "import sys, harness.forecast.probing, harness.forecast.forecast; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
