"""The verbs that run the cells of a suite and count them: run, status."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import options
from harness.commands.check import check_suite
from harness.commands.open_suite import OpenSuite, open_smoke, open_suite, record_owner
from harness.commands.options import CellLimits, CommandError, Machines, SuiteName, Where, Which, with_option_groups
from harness.commands.output import complain, show_report, warn
from harness.commands.progress import watching
from harness.jobs.files import FULL, write_atomic
from harness.jobs.fork_server import ForkServer
from harness.jobs.local import LocalExecutor
from harness.plan import Cell
from harness.reports import report as reports
from harness.results import kept_models, points, record
from harness.results.cell_files import StoreError
from harness.results.record import USABLE, Record
from harness.results.results import records_of
from harness.smoke import few_cells
from harness.sweep import executors, pending, sweep
from harness.sweep.pending import Settings
from harness.sweep.sweep import Summary

if TYPE_CHECKING:
    from harness.jobs.ray_executor import RayExecutor

NAMED = 3  # cells in one message
GOOD = frozenset({"ok", "unreachable"})
SMOKE = "a smoke: drawn images and a tiny random ViT; no number of it is a result, and most cells are suspicious"

verbs = typer.Typer()


@verbs.command()
@with_option_groups
def run(
    name: SuiteName,
    where: Where,
    which: Which,
    limits: CellLimits,
    machines: Machines,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the adapted models of the cells that run, for `eavit choose`."),
    ] = False,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Try the suite in a minute or two: drawn images, tiny model; into runs/smoke."),
    ] = False,
) -> None:
    """Run the missing cells of a suite, then write points, tables and plots. Exit code 1 if a cell failed."""
    opened = open_smoke(name, where) if smoke else open_suite(name, where)
    if keep and machines.engine == "ray":
        raise CommandError("--keep needs --engine local: nodes of a cluster send back records, not models")
    settings = replace(opened.settings(which, limits), keep=keep)
    with closing(executors.on_this_machine(opened.suite, settings)) as local:
        run_opened(opened, which, settings, machines, local, smoke=smoke)


def run_opened(
    opened: OpenSuite, which: Which, settings: Settings, machines: Machines, local: LocalExecutor, *, smoke: bool
) -> None:
    """Run the missing cells and write the reports; typer.Exit unless all went well. ``local``: stays open."""
    opened = replace(opened, server=local.server)
    store = opened.store
    store.prepare()
    record_owner(opened.folder, opened.file)
    cells = opened.chosen(which)
    if smoke:
        typer.echo(SMOKE)
        cells, settings = few_cells(cells), replace(settings, force=True)
    if pending.missing(cells, store.summaries(cell.id for cell in cells), settings):
        settings = replace(settings, unstarted=_check(opened, local.server))
    on_cluster = machines.engine == "ray"
    machine = closing(_cluster(opened, settings, machines)) if on_cluster else nullcontext(local)
    signal.signal(signal.SIGTERM, _interrupt)
    with machine as executor, watching(executor.slots, typer.echo) as watcher:
        summary = sweep.run(opened.suite, cells, store, settings, watcher, executor)
    has_space = _write_reports(opened, cells, summary, quiet=smoke)
    expected = USABLE if smoke else GOOD
    for line in _faulty(cells, summary.records, summary.lost, opened.runs, expected):
        complain(line)
    if settings.keep:
        _show_models(opened, cells, summary)
    typer.echo(_counted(opened, cells, summary))
    _exit(opened, cells, summary, has_space)


@verbs.command()
@with_option_groups
def status(name: SuiteName, where: Where) -> None:
    """Count the cells of a suite by status, and list those that failed with the reason."""
    opened = open_suite(name, where)
    cells = opened.cells
    records = opened.store.records(cell.id for cell in cells)
    counts = Counter(records[cell.id].status if cell.id in records else "missing" for cell in cells)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    typer.echo(f"{opened.suite.name}: {len(cells)} cells: {states}")
    for line in opened.committed_lines(records):
        typer.echo(line)
    for line in _faulty(cells, records, {}, opened.runs):
        typer.echo(line)


def _cluster(opened: OpenSuite, settings: Settings, machines: Machines) -> RayExecutor:
    if machines.address is None:
        raise CommandError("--engine ray needs --address: HOST:PORT of a cluster, auto, or local")
    insecure = machines.insecure_cluster
    return executors.on_ray(machines.address, opened.suite, settings, insecure=insecure, tell=complain)


def _check(opened: OpenSuite, server: ForkServer | None) -> dict[str, str]:
    """Exit before any work if no cell can be right; warn where only some are lost. Keeps the cards of the methods and
    returns those whose cells would run into their timeouts, with the reason.
    """
    checked = check_suite(opened.suite, str(opened.file), server=server)
    for line in (*checked.losses, *checked.warnings):
        warn(line)
    if checked.fatal:
        complain("\n".join([*checked.fatal, "nothing was run"]))
        raise typer.Exit(options.REFUSED)
    cards = json.dumps(checked.cards, indent=1, ensure_ascii=False, sort_keys=True)
    write_atomic(opened.folder / "cards.json", f"{cards}\n".encode())
    return checked.hanging


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write_reports(opened: OpenSuite, cells: Iterable[Cell], summary: Summary, *, quiet: bool) -> bool:
    """Write points, records and report. False where the disk is full; finished cells are kept all the same."""
    planned = {cell.id for cell in opened.cells}
    known = {**opened.store.records(planned - {cell.id for cell in cells}), **summary.records}
    if planned - known.keys():
        known = {**_committed(opened.folder), **known}
    try:
        points.write_points(opened.folder / "points.csv", points.point_rows(opened.cells, known))
        points.write_records(opened.folder / "records.jsonl", opened.cells, known)
        idle = not summary.ran and not summary.elsewhere and not summary.recovered
        built = reports.current_report(opened.folder, opened.suite, opened.file) if idle else None
        if built is None:
            built = reports.write_report(opened.folder, opened.suite, opened.file)
        if not quiet:
            show_report(built.overview, built.files)
    except OSError as error:
        if error.errno not in FULL:
            raise
        complain(f"{opened.folder}: the disk is full: points and report were not written; finished cells are kept")
        return False
    return True


def _committed(folder: Path) -> dict[str, Record]:
    """Records of earlier runs, whose cells need not be there, as in a fresh clone; none from a damaged file."""
    try:
        return records_of(folder)
    except StoreError as error:
        warn(f"{error}; it is written again, from the cells that are there")
        return {}


def _counted(opened: OpenSuite, cells: Iterable[Cell], summary: Summary) -> str:
    others = [f", {len(summary.elsewhere)} run elsewhere"] if summary.elsewhere else []
    others += [f", {len(summary.recovered)} taken from {opened.runs}"] if summary.recovered else []
    kept = {cell.id for cell in cells} - {*summary.ran, *summary.elsewhere, *summary.recovered}
    ran = f"{opened.suite.name}: {len(summary.ran)} cells run{''.join(others)}"
    return f"{ran}, {len(kept)} kept, {opened.folder / 'points.csv'}"


def _exit(opened: OpenSuite, cells: Iterable[Cell], summary: Summary, has_space: bool) -> None:
    again = f"eavit-bench run {opened.name}"
    if summary.interrupted:
        complain(f"interrupted; continue with: {again}")
        raise typer.Exit(options.INTERRUPTED)
    if summary.out_of_time:
        complain(f"stopped by --max-hours; continue with: {again}")
        raise typer.Exit(options.OUT_OF_TIME)
    states = [summary.records[cell.id].status if cell.id in summary.records else "missing" for cell in cells]
    failed = [state for state in states if state not in USABLE]
    if failed:
        stubborn = any(state not in (*record.AGAIN, "missing") for state in failed)
        complain(f"some cells failed; run them again with: {again}" + " --retry-failed" * stubborn)
    if failed or not has_space:
        raise typer.Exit(options.FAILED)


def _show_models(opened: OpenSuite, cells: Iterable[Cell], summary: Summary) -> None:
    """Print where the models of usable cells are kept, why others are not, and what to do about these."""
    usable = [cell for cell in cells if cell.id in summary.records and summary.records[cell.id].status in USABLE]
    earlier = []
    for cell in usable:
        fault = kept_models.fault_of_model(opened.runs, cell.id)
        if fault is None:
            earlier.append(cell)
        elif fault:
            complain(f"not kept: {cell.title}: {fault}")
        else:
            typer.echo(f"kept: {cell.title}: {kept_models.model_folder(opened.runs, cell.id)}")
    if earlier:
        titles = "; ".join(cell.title for cell in earlier[:NAMED]) + "; ..." * (len(earlier) > NAMED)
        complain(
            f"{len(earlier)} finished cells have no kept model, for they ran without --keep: {titles}; "
            f"run them again with: eavit-bench run {opened.name} --keep --force (some: --method, --dataset, --seed)"
        )


def _faulty(
    cells: Iterable[Cell],
    records: Mapping[str, Record],
    lost: Mapping[str, str],
    runs: Path,
    expected: Collection[str] = GOOD,
) -> list[str]:
    """One line for each cell whose status is not among the ``expected`` ones, with the path of its log."""
    lines = []
    for cell in cells:
        entry = records.get(cell.id)
        if cell.id in lost:
            lines.append(f"failed: {cell.title}: {lost[cell.id]}")
        elif entry is not None and entry.status not in expected:
            log = runs / cell.id / "log.txt"
            look = f"; log: {log}" if log.exists() else ""
            lines.append(f"{entry.status}: {cell.title}: {entry.reason} ({cell.id}){look}")
    return lines
