"""Forecasts: medians of records of this machine, unknown where there are none, and the wall time of a run."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest

from harness import plan
from harness.forecast import table
from harness.forecast.forecast import BETWEEN, START, Estimate, Forecast, Range, forecast, scaled, wall_seconds
from harness.forecast.history import PastCost
from harness.jobs.scheduler import dependents
from harness.plan import Cell
from tests.harness import small

HERE, THERE = "here", "there"
FIT = {"digits": 200, "mnist5k": 400}


def cells_of(**changes: Any) -> tuple[Cell, ...]:
    given = small.suite(**changes)
    return plan.cells(given, small.prints(given))


def took(cell: Cell, seconds: float = 10.0, machine: str | None = HERE, workers: int = 2, **changes: Any) -> PastCost:
    images = cell.content["schedule"]["epochs"] * 200
    return replace(
        PastCost(dict(cell.content), seconds, 4e12, 12.0, machine, workers, images, step_seconds=8.0, step_macs=3e12),
        **changes,
    )


def forecast_of(cells: tuple[Cell, ...], past: list[PastCost], workers: int = 2) -> Forecast:
    return forecast(cells, [cell.id for cell in cells], past, HERE, workers, FIT)


def estimate(cells: tuple[Cell, ...], past: list[PastCost], workers: int = 2) -> Estimate:
    each = forecast_of(cells, past, workers).pairs[0].each
    assert each is not None
    return each


def seconds(found: Estimate) -> Range:
    assert found.seconds is not None
    return found.seconds


def test_seconds_are_the_median_of_replicates_and_the_range_holds_all_of_them() -> None:
    cells = cells_of(seeds=[0, 1, 2])
    found = estimate(cells, [took(cells[0], 60), took(cells[1], 66), took(cells[2], 90)])
    assert seconds(found).mid == 66
    assert seconds(found).low < 60 and seconds(found).high > 90
    assert found.source == "records"
    assert (found.macs, found.mib) == (Range(4e12, 4e12, 4e12), Range(12, 12, 12))


def test_more_records_narrow_the_range() -> None:
    cells = cells_of(seeds=list(range(9)))
    found = [seconds(estimate(cells, [took(cell) for cell in cells[:count]])) for count in (1, 3, 9)]
    spreads = [each.high - each.low for each in found]
    assert spreads == sorted(spreads, reverse=True) and len(set(spreads)) == 3


def test_finished_cells_cost_nothing() -> None:
    cells = cells_of(seeds=[0, 1])
    found = forecast(cells, [cells[1].id], [took(cells[0], 60)], HERE, 1, FIT)
    assert [(pair.cells, pair.misses) for pair in found.pairs] == [(2, 1)]
    assert found.seconds is not None and found.seconds.mid == 60 + START + BETWEEN
    nothing = forecast(cells, [], [took(cells[0], 60)], HERE, 1, FIT)
    assert nothing.pairs[0].each is None and nothing.seconds is None and nothing.unknown == 0


def test_another_machine_tells_seconds_in_wide_bounds_and_is_named() -> None:
    cells = cells_of()
    found = forecast_of(cells, [took(cells[0], 60, machine=THERE)])
    each = estimate(cells, [took(cells[0], 60, machine=THERE)])
    assert (seconds(each).low, seconds(each).mid, seconds(each).high) == (20, 60, 180)
    assert each.source == "another machine: records"
    assert found.uncertain == {("steady", "digits")}, "a probe here tells more"
    assert "minutes from another machine were measured there" in "\n".join(table.lines(found))


def test_an_unnamed_machine_tells_macs_and_disk_but_no_seconds() -> None:
    cells = cells_of()
    found = forecast_of(cells, [took(cells[0], machine=None)])
    each = estimate(cells, [took(cells[0], machine=None)])
    assert (each.seconds, each.source) == (None, "unknown: no record")
    assert each.macs is not None and each.macs.mid == 4e12
    assert each.mib is not None
    assert found.seconds is None and found.unknown == 1
    assert found.uncertain == {("steady", "digits")}


def test_seconds_of_another_machine_are_left_out() -> None:
    cells = cells_of()
    found = seconds(estimate(cells, [took(cells[0], 10), took(cells[0], 90, machine=THERE)]))
    assert found.mid == 10 and found.high < 30


def test_a_machine_without_a_name_tells_nothing() -> None:
    cells = cells_of()
    assert forecast(cells, [cells[0].id], [took(cells[0], machine=None)], None, 2, FIT).seconds is None


def test_unknown_cells_are_counted_and_not_in_the_wall_time() -> None:
    cells = cells_of(methods=[{"use": "m:a"}, {"use": "m:b"}])
    found = forecast_of(cells, [took(cells[0], 60)])
    assert found.unknown == 1 and found.uncertain == {("b", "digits")}
    assert found.seconds is not None and found.seconds.mid == pytest.approx(60 + START + BETWEEN)


def test_records_with_as_many_cells_at_once_are_preferred_and_others_named() -> None:
    cells = cells_of()
    past = [took(cells[0], 10, workers=2), took(cells[0], 30, workers=8)]
    same, other = (estimate(cells, past, workers=n) for n in (8, 4))
    assert seconds(same).mid == 30 and same.source == "records"
    assert other.source == "records, 2 or 8 at once"
    assert seconds(other).low < 8 and seconds(other).high > 36


@pytest.mark.parametrize(
    "changes", [{"methods": [{"use": "m:a", "options": {"x": 2}}]}, {"threads": 2}, {"budgets": [0.1, 1.0]}]
)
def test_other_options_have_another_cost(changes: dict[str, Any]) -> None:
    base = {"methods": [{"use": "m:a", "options": {"x": 1}}], "budgets": [0.5, 1.0]}
    before, now = cells_of(**base), cells_of(**{**base, **changes})
    assert estimate(now, [took(before[0])]).seconds is None


def test_records_of_other_code_widen_the_range() -> None:
    (cell,) = cells_of()
    edited = replace(cell, content={**cell.content, "code": {"backbone": "new", "method": "new"}})
    new, old = (estimate((each,), [took(cell)]) for each in (edited, cell))
    assert (new.source, old.source) == ("records of other code", "records")
    assert seconds(new).mid == seconds(old).mid and seconds(new).high > seconds(old).high


def test_two_short_runs_give_a_line() -> None:
    """Both need 2 s outside of steps and 5 s for the first of them; each image then takes 10 ms."""
    short = [cells_of(schedule={"epochs": epochs})[0] for epochs in (0.1, 0.3)]
    past = [
        took(cell, 7 + n / 100, images=n, step_seconds=5 + n / 100) for cell, n in zip(short, (20, 60), strict=True)
    ]
    found = estimate(cells_of(schedule={"epochs": 6.0}), past)
    assert found.source == "shorter or longer runs"
    assert seconds(found).mid == pytest.approx(7 + 1200 / 100)


def test_other_data_scale_what_counts_steps_alone() -> None:
    (cell,) = cells_of(schedule={"epochs": 2.0})
    (larger,) = cells_of(datasets=[{"name": "mnist5k"}], schedule={"epochs": 2.0, "lr": 0.5})
    found = estimate((larger,), [took(cell, 10.0)])
    assert found.source == "other data or schedule"
    assert seconds(found).mid == pytest.approx(2 + 2 * 8)
    assert found.macs is not None and found.macs.mid == pytest.approx(1e12 + 2 * 3e12)
    assert seconds(found).high > 1.5 * seconds(found).mid
    (other_batch,) = cells_of(schedule={"epochs": 2.0, "batch": 8})
    assert estimate((other_batch,), [took(cell)]).seconds is None


def test_nothing_is_scaled_where_the_number_of_images_is_not_known() -> None:
    (cell,), (longer,) = cells_of(schedule={"epochs": 2.0}), cells_of(schedule={"epochs": 6.0})
    assert estimate((longer,), [took(cell, images=None)]).seconds is None
    assert forecast((longer,), [longer.id], [took(cell)], HERE, 2, {}).seconds is None
    assert scaled([], 100) == []


def test_noise_of_runs_of_one_length_is_no_slope() -> None:
    (cell,) = cells_of(schedule={"epochs": 2.0})
    past = [took(cell, step_seconds=s, images=n) for s, n in ((8.0, 400), (2.0, 410))]
    assert all(each.seconds > 10 for each in scaled(past, 800))


# --- wall time


def tick_by_tick(todo: list[Cell], took: dict[str, float], workers: int) -> float:
    """The order of a run, everything asked again at each second: the most waited for cell that is ready comes first."""
    left, ends, now, behind = list(todo), dict[str, float](), 0.0, dependents({cell.id: cell.needs for cell in todo})
    while True:
        ends = {cell: end for cell, end in ends.items() if end > now + 0.5}
        while len(ends) < workers:
            busy = {cell.id for cell in left} | set(ends)
            ready = [cell for cell in left if not busy & set(cell.needs)]
            if not ready:
                break
            chosen = max(ready, key=lambda cell: (behind[cell.id], -todo.index(cell)))
            left.remove(chosen)
            ends[chosen.id] = now + took[chosen.id]
        if not left and not ends:
            return now
        now += 1.0


def test_the_wall_time_is_near_that_of_a_run_played_tick_by_tick() -> None:
    methods = [{"use": f"m:{name}"} for name in "abc"]
    methods += [{"use": "m:d", "after": ["b"]}, {"use": "m:e", "after": ["d", "a"]}]
    draw = random.Random(3)
    for trial in range(40):
        cells = cells_of(methods=methods, seeds=[0, 1])
        todo = [cell for cell in cells if draw.random() < 0.8]
        each, workers = {cell.id: float(draw.randint(10, 90)) for cell in todo}, draw.randint(1, 4)
        found = wall_seconds(todo, {cell: Range(s, s, s) for cell, s in each.items()}, workers)
        expected = tick_by_tick(todo, each, workers)
        assert found.mid - START == pytest.approx(expected, rel=0.3), trial
        if workers == 1:
            assert found.mid - START - BETWEEN * len(todo) == pytest.approx(expected)


def test_simple_schedules_by_hand() -> None:
    cells = cells_of(methods=[{"use": "m:a"}, {"use": "m:b"}, {"use": "m:c", "after": ["b"]}])
    each = {cell.id: Range(s / 2, s, 2 * s) for cell, s in zip(cells, [4.0, 1.0, 5.0], strict=True)}
    for workers, expected in ((1, 10), (2, 6), (9, 6)):
        assert wall_seconds(cells, each, workers).mid == pytest.approx(START + expected, abs=3 * BETWEEN)
    found = wall_seconds(cells, each, 1)
    assert found.high - START == pytest.approx(20 + 3 * BETWEEN) and found.low < found.mid


def test_ten_thousand_cells_are_forecast_in_a_second() -> None:
    methods = [{"use": f"m:m{n}"} for n in range(9)] + [{"use": "m:after", "after": ["m0"]}]
    datasets = [{"name": f"set {n}", "source": "digits", "fit": 100 + n} for n in range(10)]
    cells = cells_of(methods=methods, datasets=datasets, seeds=list(range(100)))
    past = [took(cell, 10.0 + number % 7) for number, cell in enumerate(cells[:2000])]
    began = time.process_time()
    found = forecast_of(cells, past, 8)
    assert len(cells) == 10_000 and found.seconds is not None
    assert time.process_time() - began < 1.0
