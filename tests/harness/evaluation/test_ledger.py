"""Ledgers: sums by phase, and no way to spend twice or nowhere."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation.ledger import CellLedger, LedgerError

spending = st.tuples(
    st.sampled_from(["prepare", "train", "search"]), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 99)
)


def seconds_of(ledger: CellLedger) -> float:
    return sum(cost.seconds for cost in ledger.phases.values())


@given(st.lists(spending))
def test_phases_add_up(entries: list[tuple[str, int, int, int]]) -> None:
    ticks = itertools.count()
    ledger = CellLedger(clock=lambda: next(ticks))
    for phase, forward, backward, steps in entries:
        with ledger.phase(phase):
            ledger.add(forward_macs=forward, steps=steps)
            ledger.add(backward_macs=backward, images=2 * steps)
    assert sum(cost.macs for cost in ledger.phases.values()) == sum(f + b for _, f, b, _ in entries)
    assert seconds_of(ledger) == len(entries)
    for name, spent in ledger.phases.items():
        mine = [entry for entry in entries if entry[0] == name]
        assert spent.steps == sum(entry[3] for entry in mine)
        assert spent.images == 2 * spent.steps
        assert spent.seconds == len(mine)


def test_a_phase_inside_a_phase_is_refused() -> None:
    ledger = CellLedger()
    with pytest.raises(LedgerError, match="'b' opened inside phase 'a'"), ledger.phase("a"), ledger.phase("b"):
        pass
    with ledger.phase("b"):
        ledger.add(steps=1)
    assert ledger.phases["b"].steps == 1


def test_spending_outside_a_phase_is_refused() -> None:
    with pytest.raises(LedgerError, match="no phase is open"):
        CellLedger().add(steps=1)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_only_finite_numbers_from_zero_up_are_spent(wrong: float) -> None:
    ledger = CellLedger()
    with ledger.phase("train"), pytest.raises(LedgerError, match="forward_macs"):
        ledger.add(forward_macs=wrong)


def test_seconds_of_a_failed_phase_are_kept() -> None:
    ticks = iter([1.0, 4.0])
    ledger = CellLedger(clock=lambda: next(ticks))
    with pytest.raises(RuntimeError), ledger.phase("train"):
        raise RuntimeError
    assert seconds_of(ledger) == 3.0


def test_seconds_outlive_the_process_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, kept = [0.0], tmp_path / "ledger.json"
    first = CellLedger(clock=lambda: now[0], file=kept)
    with first.phase("prepare"):
        now[0] = 2.0
    monkeypatch.setattr(first, "_next_write", 0.0)
    with first.phase("train"):
        first.add(steps=5)
        now[0] = 5.0
        first.tick()
        now[0] = 6.0
        first.tick()  # not due again: this second is lost with the process
        told = kept.read_text()
    kept.write_text(told)
    again = CellLedger(clock=lambda: now[0], file=kept)
    with again.phase("train"):
        now[0] = 6.5
    assert {name: (spent.seconds, spent.steps) for name, spent in again.phases.items()} == {
        "prepare": (2.0, 0),
        "train": (3.5, 0),
    }
    assert seconds_of(CellLedger(file=kept)) == 5.5


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"train": "x"}', '{"train": NaN}', '{"train": -1}'])
def test_seconds_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    assert seconds_of(CellLedger(file=tmp_path / "ledger.json")) == 0


def test_a_disk_that_is_full_costs_no_cell_its_ledger(tmp_path: Path) -> None:
    ledger = CellLedger(file=tmp_path / "no" / "folder.json")
    with ledger.phase("train"):
        ledger.add(steps=1)
    assert ledger.phases["train"].steps == 1
