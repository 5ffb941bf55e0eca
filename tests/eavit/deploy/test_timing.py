"""The quiet protocol: interleaved, medians of undisturbed calls, and a busy machine is called busy."""

import itertools
import time
from types import SimpleNamespace

import pytest

from eavit.deploy import timing as module
from eavit.deploy.timing import Timing, time_calls


class Clock:
    """A clock that calls move on, and a count of interruptions."""

    def __init__(self, monkeypatch):
        self.now, self.switches, self.order = 0.0, 0, []
        for name in ("perf_counter", "process_time"):
            monkeypatch.setattr(module.time, name, lambda: self.now)
        monkeypatch.setattr(module.resource, "getrusage", lambda who: SimpleNamespace(ru_nivcsw=self.switches))

    def call(self, name, seconds, disturbed=0):
        """A call that is interrupted, and five times slower, every so many calls."""
        count = 0

        def run():
            nonlocal count
            count += 1
            self.order.append(name)
            hit = disturbed and count % disturbed == 0
            self.switches += bool(hit)
            self.now += seconds * (5 if hit else 1)

        return run


def test_medians_are_those_of_the_calls(monkeypatch):
    clock = Clock(monkeypatch)
    timings = time_calls({"slow": clock.call("slow", 0.02), "fast": clock.call("fast", 0.001)}, 1.0)
    assert {name: round(t.median_ms, 6) for name, t in timings.items()} == {"slow": 20.0, "fast": 1.0}
    assert not any(t.busy for t in timings.values())


def test_repeats_are_interleaved(monkeypatch):
    clock = Clock(monkeypatch)
    time_calls({"a": clock.call("a", 0.01), "b": clock.call("b", 0.01)}, 1.0)
    timed = clock.order[6:]
    turns = sum(one != other for one, other in itertools.pairwise(timed))
    assert turns >= module.FEWEST_ROUNDS


def test_interrupted_calls_are_left_out_and_counted(monkeypatch):
    clock = Clock(monkeypatch)
    (timing,) = time_calls({"a": clock.call("a", 0.01, disturbed=10)}, 1.0).values()
    assert timing.median_ms == pytest.approx(10.0)
    assert timing.spread == pytest.approx(0, abs=1e-9)
    assert 0 < timing.disturbed < 0.2
    assert not timing.busy


def test_a_machine_that_makes_calls_wait_is_called_busy(monkeypatch):
    clock = Clock(monkeypatch)
    (timing,) = time_calls({"a": clock.call("a", 0.01, disturbed=2)}, 1.0, threads=2).values()
    assert timing.busy
    (timing,) = time_calls({"a": clock.call("a", 0.01, disturbed=2)}, 1.0, threads=1).values()
    assert not timing.busy, "one thread is timed by the processor, which does not wait"


def test_a_machine_that_always_interrupts_still_gives_a_number(monkeypatch):
    clock = Clock(monkeypatch)
    (timing,) = time_calls({"a": clock.call("a", 0.01, disturbed=1)}, 1.0, threads=2).values()
    assert timing.median_ms == pytest.approx(50.0)
    assert timing.busy


def test_spread_alone_makes_a_machine_busy():
    assert Timing(1.0, 0.5, 10, 0.0).busy
    assert not Timing(1.0, 0.05, 10, 0.0).busy


def test_real_calls_are_timed():
    (timing,) = time_calls({"sleep": lambda: time.sleep(0.002)}, 0.05, threads=2).values()
    assert 1.9 < timing.median_ms < 200
    (timing,) = time_calls({"sleep": lambda: time.sleep(0.002)}, 0.001).values()
    assert timing.median_ms < 1.9, "processor time does not go on while nothing runs"
