"""Prices: from records of this machine, by medians; unknown stays unknown; the wall time as the engine will take it."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from typing import Any

import pytest

from harness import plan
from harness.execution.due import waiting
from harness.forecast import forecast, makespan
from harness.forecast.forecast import BETWEEN, START, Estimate, Range, around, estimate, lines
from harness.forecast.history import Past, past_of, pasts
from harness.plan import Cell
from harness.results import index
from harness.results.record import Spent
from tests.harness import small

HERE, THERE = "here", "there"


def cells_of(**changes: Any) -> tuple[Cell, ...]:
    given = small.suite(**changes)
    return plan.cells(given, small.prints(given))


def took(cell: Cell, seconds: float = 10.0, machine: str | None = HERE, workers: int = 2, **changes: Any) -> Past:
    made = Past(dict(cell.content), seconds, 4e12, 12.0, machine, workers, stepping=8.0, step_macs=3e12, fit=200)
    return replace(made, **changes)


def priced(cells: tuple[Cell, ...], past: list[Past], **changes: Any) -> forecast.Price:
    return estimate(cells, [cell.id for cell in cells], past, HERE, changes.pop("workers", 2), **changes)


# --- where numbers come from


def test_minutes_are_the_median_of_replicates_and_their_range_holds_all_of_them() -> None:
    cells = cells_of(seeds=[0, 1, 2])
    found = priced(cells, [took(cells[0], 60), took(cells[1], 66), took(cells[2], 90)])
    (line,) = found.lines
    assert (line.cells, line.hits, line.misses, line.source, line.note) == (3, 0, 3, "records", "")
    assert line.minutes is not None
    assert line.minutes.mid == pytest.approx(3 * 66 / 60)
    assert line.minutes.low < 3 and line.minutes.high > 4.5
    assert line.macs is not None and line.macs.mid == 3 * 4e12
    assert line.mib is not None and line.mib.mid == 12.0
    assert found.mib is not None and found.mib.mid == 24.0  # two at once


def test_fewer_records_give_a_wider_range() -> None:
    spreads = []
    for count in (1, 3, 9):
        found = around([10.0] * count, 0.25)
        assert found is not None and found.low < found.mid == 10.0 < found.high
        spreads.append(found.high - found.low)
    assert spreads == sorted(spreads, reverse=True) and len(set(spreads)) == 3
    assert around([], 0.25) is None


def test_what_is_there_costs_nothing() -> None:
    cells = cells_of(seeds=[0, 1])
    found = estimate(cells, [cells[1].id], [took(cells[0], 60)], HERE, 1)
    assert [(line.hits, line.misses) for line in found.lines] == [(1, 1)]
    assert found.lines[0].minutes is not None and found.lines[0].minutes.mid == 1.0
    none = estimate(cells, [], [took(cells[0], 60)], HERE, 1)
    assert none.lines[0].source is None and none.minutes is None and none.unknown == 0
    assert lines(none)[-1] == "nothing to run"


def test_another_machine_tells_macs_and_disk_but_no_minutes() -> None:
    cells = cells_of()
    for machine in (THERE, None):
        (line,) = (found := priced(cells, [took(cells[0], machine=machine)])).lines
        assert (line.minutes, line.source, line.note) == (None, "unknown", "no record of this machine")
        assert line.macs is not None and line.macs.mid == 4e12
        assert line.mib is not None
        assert found.minutes is None and found.unknown == 1
        assert found.unsure == {("steady", "digits")}
    both = priced(cells, [took(cells[0], 10), took(cells[0], 90, machine=THERE)]).lines[0].minutes
    assert both is not None and both.mid == 10 / 60 and both.high < 0.5


def test_a_machine_without_a_name_knows_nothing() -> None:
    cells = cells_of()
    assert estimate(cells, [cells[0].id], [took(cells[0], machine=None)], None, 2).minutes is None


def test_unknown_stays_unknown_beside_what_is_known() -> None:
    cells = cells_of(methods=[{"use": "m:a"}, {"use": "m:b"}])
    found = priced(cells, [took(cells[0], 60)])
    assert found.unknown == 1 and found.unsure == {("b", "digits")}
    assert found.minutes is not None and found.minutes.mid == pytest.approx((60 + START.mid + BETWEEN.mid) / 60)
    assert found.lines[1].macs is None
    *table, wall, unknown = lines(found)
    assert wall.startswith("1 cells, 2 at once: ")
    assert unknown.startswith("1 cells unknown and not in these minutes: plan --probe")
    assert "unknown: no record of this machine" in table[2] and "?" in table[2]


def test_records_with_as_many_cells_at_once_are_preferred_and_others_said() -> None:
    cells = cells_of()
    past = [took(cells[0], 10, workers=2), took(cells[0], 30, workers=8)]
    alike, other = (priced(cells, past, workers=n).lines[0] for n in (8, 4))
    assert alike.minutes is not None and alike.minutes.mid == 0.5 and alike.note == ""
    assert other.minutes is not None and other.note == "with 2 or 8 at once"
    assert other.minutes.low < 0.7 * 10 / 60 and other.minutes.high > 1.4 * 0.5


def test_a_changed_option_or_data_set_is_another_price() -> None:
    before = cells_of(methods=[{"use": "m:a", "options": {"x": 1}}], budgets=[0.5, 1.0])
    for changes in ({"methods": [{"use": "m:a", "options": {"x": 2}}]}, {"threads": 2}, {"budgets": [0.1, 1.0]}):
        now = cells_of(**{"methods": [{"use": "m:a", "options": {"x": 1}}], "budgets": [0.5, 1.0], **changes})
        assert priced(now, [took(before[0])]).lines[0].source == "unknown"


def test_edited_code_widens() -> None:
    (cell,) = cells_of()
    edited = replace(cell, content={**cell.content, "code": {"backbone": "new", "method": "new"}})
    (new,), (old,) = priced((edited,), [took(cell)]).lines, priced((cell,), [took(cell)]).lines
    assert (new.source, old.source) == ("older records", "records")
    assert new.minutes is not None and old.minutes is not None
    assert new.minutes.mid == old.minutes.mid and new.minutes.high > old.minutes.high


def test_another_schedule_or_set_scales_what_counts_steps_alone() -> None:
    (cell,) = cells_of(schedule={"epochs": 2.0})
    (longer,) = cells_of(schedule={"epochs": 6.0})
    (line,) = priced((longer,), [took(cell, 10.0)]).lines
    assert line.source == "scaled" and line.minutes is not None and line.macs is not None
    assert line.minutes.mid == pytest.approx((2 + 3 * 8) / 60)
    assert line.macs.mid == pytest.approx(1e12 + 3 * 3e12)
    assert line.minutes.high > 1.5 * line.minutes.mid
    (larger,) = cells_of(datasets=[{"name": "mnist5k", "fit": 400}], schedule={"epochs": 2.0})
    assert priced((larger,), [took(cell)]).lines[0].minutes == Range(*(pytest.approx(x) for x in _scaled_by(2)))
    (other_batch,) = cells_of(schedule={"epochs": 6.0, "batch": 8})
    assert priced((other_batch,), [took(cell)]).lines[0].source == "unknown"


def test_what_only_an_index_told_is_not_scaled() -> None:
    (cell,), (longer,) = cells_of(schedule={"epochs": 2.0}), cells_of(schedule={"epochs": 6.0})
    assert priced((longer,), [took(cell, stepping=None)]).lines[0].source == "unknown"


def _scaled_by(factor: float) -> tuple[float, float, float]:
    mid = (2 + factor * 8) / 60
    return mid * 0.75 * 0.6, mid, mid * 1.25 * 1.7


def test_nothing_is_scaled_to_a_set_of_unknown_size() -> None:
    (cell,) = cells_of()
    (whole,) = cells_of(datasets=[{"name": "mnist5k"}])
    assert priced((whole,), [took(cell)]).lines[0].source == "unknown"
    other = replace(took(whole), identity={**whole.content, "method": {"use": "m:z", "options": {}}}, fit=400)
    assert priced((whole,), [took(cell), other]).lines[0].source == "scaled"


def test_records_go_before_a_probe_and_a_probe_before_what_is_scaled() -> None:
    (cell,), (longer,) = cells_of(schedule={"epochs": 2.0}), cells_of(schedule={"epochs": 6.0})
    probed = {("steady", "digits"): Estimate(Range(5, 6, 7), None, Range(1, 1, 1), "probe")}
    assert priced((cell,), [took(cell)], probed=probed).lines[0].source == "records"
    line = priced((longer,), [took(cell)], probed=probed).lines[0]
    assert (line.source, line.minutes) == ("probe", Range(5, 6, 7).times(1 / 60))
    assert line.mib == Range(1, 1, 1)
    failed = {("steady", "digits"): Estimate(None, None, None, "unknown", "the probe gave nothing: nan")}
    assert priced((cell,), [], probed=failed).lines[0].note == "the probe gave nothing: nan"


def test_pasts_are_records_that_ran_to_the_end() -> None:
    (cell,) = cells_of()
    good = small.record_of(cell).model_copy(
        update={"environment": {"machine": HERE, "workers": 3}, "data": {"sizes": {"fit": 7}}, "disk_mib": 2.5}
    )
    ledger = {**good.ledger, "search": Spent(seconds=9.0, forward_macs=5e12)}
    (past,) = pasts([good.model_copy(update={"ledger": ledger}), good.model_copy(update={"status": "timeout"})])
    assert (past.machine, past.workers, past.fit, past.mib) == (HERE, 3, 7, 2.5)
    assert (past.macs, past.step_macs, past.stepping) == (8e12, 3e12, 1.5)
    assert past_of(index.summary(good), cell.content) == replace(
        past, identity=cell.content, macs=3e12, stepping=None, step_macs=0.0, fit=None
    )
    (resumed,) = pasts([good.model_copy(update={"attempts": 2})])
    assert resumed.machine is None  # its seconds are of its last part alone


# --- wall time


def brute_force(todo: list[Cell], seconds: dict[str, float], workers: int, tick: float) -> float:
    """Time in ticks, everything asked again at each."""
    left, ends, now = list(todo), dict[str, float](), 0.0
    behind = {cell.id: sum(_waits(cell.id, other, todo) for other in todo) for cell in todo}
    while True:
        ends = {cell: end for cell, end in ends.items() if end > now + tick / 2}
        while len(ends) < workers:
            busy = {cell.id for cell in left} | set(ends)
            ready = [cell for cell in left if not busy & set(cell.needs)]
            if not ready:
                break
            chosen = max(ready, key=lambda cell: (behind[cell.id], -todo.index(cell)))
            left.remove(chosen)
            ends[chosen.id] = now + seconds[chosen.id]
        if not left and not ends:
            return now
        now += tick


def _waits(need: str, cell: Cell, todo: list[Cell]) -> bool:
    there = {other.id: other for other in todo}
    return need in cell.needs or any(_waits(need, there[n], todo) for n in cell.needs if n in there)


def test_the_schedule_equals_one_played_tick_by_tick() -> None:
    methods = [{"use": f"m:{name}"} for name in "abc"]
    methods += [{"use": "m:d", "after": ["b"]}, {"use": "m:e", "after": ["d", "a"]}]
    draw = random.Random(3)
    for trial in range(40):
        cells = cells_of(methods=methods, seeds=[0, 1])
        todo = [cell for cell in cells if draw.random() < 0.8]
        seconds = {cell.id: float(draw.randint(1, 9)) for cell in todo}
        workers = draw.randint(1, 4)
        expected = brute_force(todo, seconds, workers, 1.0)
        assert makespan.makespan(todo, seconds, waiting(todo), workers) == pytest.approx(expected), trial


def test_simple_schedules_by_hand() -> None:
    cells = cells_of(methods=[{"use": "m:a"}, {"use": "m:b"}, {"use": "m:c", "after": ["b"]}])
    seconds = dict(zip([cell.id for cell in cells], [4.0, 1.0, 5.0], strict=True))
    assert makespan.makespan(cells, seconds, waiting(cells), 1) == 10  # b first: c waits for it
    assert makespan.makespan(cells, seconds, waiting(cells), 2) == 6
    assert makespan.makespan(cells, seconds, waiting(cells), 9) == 6
    assert makespan.makespan((), {}, {}, 2) == 0


def test_wall_time_grows_with_each_side_and_counts_imports_once() -> None:
    cells = cells_of(seeds=[0, 1, 2, 3])
    found = forecast.wall(cells, {cell.id: Range(8, 10, 14) for cell in cells}, 2)
    assert found.mid == pytest.approx(START.mid + 2 * (10 + BETWEEN.mid))
    assert found.low < found.mid < found.high
    assert found.high == pytest.approx(START.high + 2 * (14 + BETWEEN.high))


# --- how it is told


def test_the_table_is_aligned_and_the_price_is_json() -> None:
    cells = cells_of(methods=[{"use": "m:a"}, {"use": "m:long_name"}], seeds=[0, 1])
    found = priced(cells, [took(cells[0], 30), took(cells[1], 45)])
    told = lines(found)
    starts = [line.index("records" if "records" in line else "unknown") for line in told[1:3]]
    assert starts == [told[0].index("from")] * 2
    assert told[0].split() == ["method", "data", "set", "cells", "hits", "misses", "min", "TMACs", "MiB", "from"]
    assert told[3].split()[:4] == ["all", "4", "0", "4"]
    assert json.loads(json.dumps(found.as_dict()))["lines"][0]["minutes"]["mid"] == 1.0


def test_ten_thousand_cells_are_priced_in_half_a_second() -> None:
    methods = [{"use": f"m:m{n}"} for n in range(9)] + [{"use": "m:after", "after": ["m0"]}]
    datasets = [{"name": f"set {n}", "source": "digits", "fit": 100 + n} for n in range(10)]
    cells = cells_of(methods=methods, datasets=datasets, seeds=list(range(100)))
    past = [took(cell, 10.0 + number % 7) for number, cell in enumerate(cells)]
    began = time.process_time()
    found = estimate(cells, [cell.id for cell in cells], past, HERE, 8)
    seconds = time.process_time() - began
    assert len(cells) == 10_000 and found.unknown == 0
    assert seconds < 1.0  # 0.3 s on a quiet machine
