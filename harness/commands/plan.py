"""The verb plan: the cells of a suite, and what running them will cost."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from harness import plan
from harness.commands import options
from harness.commands.options import SuiteName, Where, Which
from harness.commands.output import complain
from harness.commands.progress import watching
from harness.forecast import history, probe, table
from harness.forecast.forecast import Forecast, forecast
from harness.plan import Cell, Prints
from harness.results import record
from harness.results.store import Store
from harness.sweep import pending

verbs = typer.Typer()


@verbs.command("plan")
@options.spread
def show_plan(
    name: SuiteName,
    where: Where,
    which: Which,
    measure: Annotated[
        bool, typer.Option("--probe", help="Measure cells of unknown cost: run each with a few training steps.")
    ] = False,
    cells_too: Annotated[bool, typer.Option("--cells/--no-cells", help="List every cell.")] = True,
) -> None:
    """List the cells of a suite, finished (hit) or to run (miss), and forecast the cost of running them."""
    given = options.load(name, where.data)
    prints = options.prints_of(given, where.runs)
    every = plan.cells(given, prints)
    cells = options.chosen(given, every, which)
    store = options.store_of(given, where.results)
    kept = store.summaries(cell.id for cell in cells)
    settings = options.settings_of(given, where, which)
    miss = {cell.id for cell in pending.missing(cells, kept, settings)}
    for cell in cells if cells_too else ():
        state = kept[cell.id].status if cell.id in kept else "missing"
        typer.echo(f"{'miss' if cell.id in miss else 'hit ':<5}{cell.id}  {state:<11}  {cell.title}")
    expected = _forecast(every, miss, store, where.runs, settings.workers, prints)
    if measure and expected.unsure:
        with watching(settings.workers, complain) as watcher:
            failed = probe.probe(given, prints, expected.unsure, where.runs, settings, watcher)
        for (method, dataset), why in failed.items():
            complain(f"{method} · {dataset}: not measured: {why}")
        expected = _forecast(every, miss, store, where.runs, settings.workers, prints)
    typer.echo("\n".join(table.lines(expected)))
    typer.echo(f"{given.name}: {len(cells)} cells, {len(cells) - len(miss)} hit, {len(miss)} to run")


def _forecast(
    cells: tuple[Cell, ...], miss: Collection[str], store: Store, runs: Path, workers: int, prints: Prints
) -> Forecast:
    methods = {cell.method for cell in cells if cell.id in miss}
    past = [cost for folder in (store.root.parent, probe.folder(runs)) for cost in history.read(folder, methods)]
    return forecast(cells, miss, past, record.machine(), workers, prints.fit)
