"""The verbs that run the cells of a suite and count them: run, status."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.commands import options
from harness.commands.check import Checked, check_suite
from harness.commands.options import SuiteName, Where, Which
from harness.commands.output import complain, warn
from harness.commands.progress import watching
from harness.jobs.files import FULL, write_atomic
from harness.plan import Cell
from harness.reports import report as reports
from harness.results import points, record
from harness.results.record import USABLE, Record
from harness.results.store import Store
from harness.suite import Suite
from harness.sweep import executors, pending, sweep
from harness.sweep.settings import Settings
from harness.sweep.sweep import Summary

if TYPE_CHECKING:
    from harness.jobs.ray_executor import RayExecutor

verbs = typer.Typer()


@dataclass(frozen=True)
class Machines:
    """Options of a run: on which machines."""

    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Where cells run: this machine, or a Ray cluster.")
    ] = "local"
    address: Annotated[str | None, typer.Option(help="The Ray cluster: HOST:PORT, auto or local.")] = None
    insecure_cluster: Annotated[
        bool, typer.Option("--insecure-cluster", help="Take a cluster that asks for no token.")
    ] = False


@verbs.command()
@options.spread
def run(name: SuiteName, where: Where, which: Which, limits: options.Limits, machines: Machines) -> None:
    """Run what is missing of a suite, then write points, table and plots."""
    given = options.load(name, where.data)
    store = options.store_of(given, where.results)
    store.prepare()
    every = options.planned(given, where.runs)
    cells = options.chosen(given, every, which)
    settings = options.settings_of(given, where, which, limits)
    if pending.missing(cells, store.summaries(cell.id for cell in cells), settings):
        cards = json.dumps(_checked(given, name).cards, indent=1, ensure_ascii=False, sort_keys=True)
        write_atomic(store.root / "cards.json", f"{cards}\n".encode())
    cluster = _cluster(given, settings, machines) if machines.engine == "ray" else None
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with watching(cluster.slots if cluster else settings.workers, typer.echo) as watcher:
            summary = sweep.run(given, cells, store, settings, watcher, cluster)
    finally:
        if cluster is not None:
            cluster.close()
    _finish(given, every, cells, store, summary, settings, name)


@verbs.command()
@options.spread
def status(name: SuiteName, where: Where) -> None:
    """Count the cells of a suite by status, and say why some failed."""
    given = options.load(name, where.data)
    cells = options.planned(given, where.runs)
    kept = options.store_of(given, where.results).records(cell.id for cell in cells)
    counts = Counter(kept[cell.id].status if cell.id in kept else "missing" for cell in cells)
    typer.echo(f"{given.name}: {len(cells)} cells: " + ", ".join(f"{n} {state}" for state, n in counts.most_common()))
    for line in _complaints(cells, kept, {}, where.runs / given.name):
        typer.echo(line)


def _cluster(given: Suite, settings: Settings, machines: Machines) -> RayExecutor:
    if machines.address is None:
        raise options.AskError("--engine ray needs --address: HOST:PORT of a cluster, auto, or local")
    return executors.on_ray(machines.address, given, settings, insecure=machines.insecure_cluster, tell=complain)


def _checked(given: Suite, name: str) -> Checked:
    """Stop before any work if no cell can be right; warn where only some are lost."""
    found = check_suite(given, str(options.suite_path(name)))
    for line in (*found.losses, *found.warnings):
        warn(line)
    if found.fatal:
        for line in found.fatal:
            complain(line)
        complain("nothing was run")
        raise typer.Exit(options.REFUSED)
    return found


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _finish(
    given: Suite,
    every: Sequence[Cell],
    cells: Sequence[Cell],
    store: Store,
    summary: Summary,
    settings: Settings,
    name: str,
) -> None:
    others = {cell.id for cell in every} - {cell.id for cell in cells}
    known = {**store.records(others), **summary.records}
    full = False
    try:
        points.write(store.root / "points.csv", points.rows(every, known))
        points.write_records(store.root / "records.jsonl", every, known)
        idle = not summary.ran and not summary.elsewhere and not summary.recovered
        built = reports.current(store.root, given) if idle else None
        suite_file = options.suite_path(name)
        options.show(built or reports.build(reports.read(store.root, given), store.root, given, suite_file))
    except OSError as error:
        full = error.errno in FULL
        if not full:
            raise
        complain(f"{store.root}: no room for points and report: the disk is full; the cells told as run are kept")
    for line in _complaints(cells, summary.records, summary.lost, settings.runs):
        complain(line)
    elsewhere = f", {len(summary.elsewhere)} run elsewhere" if summary.elsewhere else ""
    elsewhere += f", {len(summary.recovered)} taken from {settings.runs}" if summary.recovered else ""
    hits = len(cells) - len({*summary.ran, *summary.elsewhere, *summary.recovered})
    typer.echo(f"{given.name}: {len(summary.ran)} cells run{elsewhere}, {hits} kept, {store.root / 'points.csv'}")
    if summary.interrupted:
        complain(f"interrupted; go on with: eavit-bench run {name}")
        raise typer.Exit(options.INTERRUPTED)
    if summary.out_of_time:
        complain(f"stopped by --max-hours; go on with: eavit-bench run {name}")
        raise typer.Exit(options.OUT_OF_TIME)
    states = [summary.records[cell.id].status if cell.id in summary.records else "missing" for cell in cells]
    if full or any(state not in USABLE for state in states):
        complain(_advice(states, name))
        raise typer.Exit(options.FAILED)


def _advice(states: Iterable[str], name: str) -> str:
    """Killed and skipped cells are tried again by the next run as it is; others only if told to."""
    stubborn = any(state not in USABLE and state not in (*record.AGAIN, "missing") for state in states)
    return f"some cells failed; run them again with: eavit-bench run {name}" + " --retry-failed" * stubborn


def _complaints(cells: Iterable[Cell], kept: Mapping[str, Record], lost: Mapping[str, str], runs: Path) -> list[str]:
    """A line for each cell that is not simply good, with where to look."""
    lines = []
    for cell in cells:
        found = kept.get(cell.id)
        if cell.id in lost:
            lines.append(f"failed: {cell.title}: {lost[cell.id]}")
        elif found is not None and found.status not in ("ok", "unreachable"):
            log = runs / cell.id / "log.txt"
            look = f"; look: {log}" if log.exists() else ""
            lines.append(f"{found.status}: {cell.title}: {found.reason} ({cell.id}){look}")
    return lines
