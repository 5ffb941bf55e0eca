"""Interrupts wait until what is under way is complete; the second one does not."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from harness.jobs.interrupts import deferred_interrupts


def interrupted(times: int) -> list[str]:
    """What is done of some work that is interrupted, and of what follows it."""
    done: list[str] = []
    with contextlib.suppress(KeyboardInterrupt):
        with deferred_interrupts():
            for number in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                done.append(f"work {number}")
        done.append("what follows")
    return done


def test_an_interrupt_is_raised_when_the_work_is_complete() -> None:
    assert interrupted(0) == ["what follows"]
    assert interrupted(1) == ["work 0"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_is_raised_at_once() -> None:
    assert interrupted(2) == ["work 0"]


def test_without_an_interrupt_and_in_other_threads_nothing_happens() -> None:
    done: list[str] = []

    def work() -> None:
        with deferred_interrupts():
            done.append("work")

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"] * 2
