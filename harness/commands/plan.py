"""The verb plan: the cells of a suite, and what running them will cost."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import typer

from harness.commands.open_suite import OpenSuite, open_suite
from harness.commands.options import SuiteName, Where, Which, with_option_groups
from harness.commands.output import complain
from harness.commands.progress import watching
from harness.forecast import history, probe, table
from harness.forecast.forecast import Forecast, forecast
from harness.results import record
from harness.sweep import pending

verbs = typer.Typer()


@verbs.command("plan")
@with_option_groups
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
    opened = open_suite(name, where)
    cells, settings = opened.chosen(which), opened.settings(which)
    summaries = opened.store.summaries(cell.id for cell in cells)
    miss = {cell.id for cell in pending.missing(cells, summaries, settings)}
    states = {cell.id: summaries[cell.id].status if cell.id in summaries else "missing" for cell in cells}
    lines = [f"{'miss' if c.id in miss else 'hit ':<5}{c.id}  {states[c.id]:<11}  {c.title}\n" for c in cells]
    typer.echo("".join(lines if cells_too else []), nl=False)
    expected = _forecast(opened, miss, settings.workers)
    if measure and expected.uncertain:
        with watching(settings.workers, complain) as watcher:
            failed = probe.probe(opened.suite, opened.prints, expected.uncertain, opened.runs.parent, settings, watcher)
        for (method, dataset), why in failed.items():
            complain(f"{method} · {dataset}: not measured: {why}")
        expected = _forecast(opened, miss, settings.workers)
    typer.echo("\n".join(table.lines(expected)))
    typer.echo(f"{opened.suite.name}: {len(cells)} cells, {len(cells) - len(miss)} hit, {len(miss)} to run")
    for line in opened.committed_lines(summaries):
        typer.echo(line)


def _forecast(opened: OpenSuite, miss: Collection[str], workers: int) -> Forecast:
    methods = {cell.method for cell in opened.cells if cell.id in miss}
    folders = (opened.folder.parent, probe.folder(opened.runs.parent))
    past = [cost for folder in folders for cost in history.read_history(folder, methods)]
    past += history.read_committed(opened.folder.parent, methods)
    return forecast(opened.cells, miss, past, record.machine_id(), workers, opened.prints.fit)
