"""``plan --probe``: cells of unknown cost, run twice with few steps, so that a forecast has two points of a line.

The short cells are ordinary cells in an ordinary store below ``runs/.cache/probe``: what ran once is not run again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from harness import plan
from harness.plan import Cell, Prints
from harness.results.record import USABLE
from harness.results.store import Store
from harness.suite import Suite
from harness.sweep import sweep
from harness.sweep.pending import Settings
from harness.sweep.sweep import Watcher

STEPS = (8, 40)  # of the two schedules; with fewer, some stages of a method have none
LIMIT = 10.0  # minutes that one short cell may take, or a tenth of what a whole one may


def folder(runs: Path) -> Path:
    """Folder of the stores of short cells, one for each suite. ``runs``: that of all suites."""
    return runs / ".cache" / "probe"


def probe(
    suite: Suite, prints: Prints, pairs: Collection[tuple[str, str]], runs: Path, settings: Settings, watcher: Watcher
) -> dict[tuple[str, str], str]:
    """Run the short cells of ``pairs`` of method and data set. Those that failed, with the reason."""
    store = Store(folder(runs) / suite.name, settings.warn)
    store.prepare()
    settings = replace(
        settings, runs=store.root / "runs", retry_failed=True, force=False, only_missing=False, max_hours=None
    )
    failed: dict[tuple[str, str], str] = {}
    for short, cells in short_runs(suite, prints, pairs):
        summary = sweep.run(short, cells, store, settings, watcher)
        if summary.interrupted:
            raise KeyboardInterrupt
        summaries = store.summaries(cell.id for cell in cells).values()  # puts them into the index, for forecasts
        failed |= {(s.method, s.dataset): f"{s.status}: {s.reason}" for s in summaries if s.status not in USABLE}
    return failed


def short_runs(
    suite: Suite, prints: Prints, pairs: Collection[tuple[str, str]]
) -> Iterator[tuple[Suite, tuple[Cell, ...]]]:
    """Short suites, one for each data set and number of steps, with their cells of ``pairs`` and what these need.

    Of the first seed; nothing where the data cannot be read.
    """
    for dataset in suite.datasets:
        images = prints.fit.get(dataset.name)
        for steps in STEPS if images else ():
            epochs = min(suite.schedule.epochs, steps / suite.schedule.per_epoch(images or 1))
            changes = {
                "datasets": (dataset,),
                "seeds": suite.seeds[:1],
                "schedule": suite.schedule.model_copy(update={"epochs": epochs}),
                "timeout_minutes": min(suite.timeout_minutes, max(LIMIT, suite.timeout_minutes / 10)),
            }
            short = suite.model_copy(update=changes)
            cells = plan.cells(short, prints)
            wanted = {method for method, name in pairs if name == dataset.name}
            yield short, plan.with_needs(cells, {cell.id for cell in cells if cell.method in wanted})
