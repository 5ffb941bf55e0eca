"""The verbs that maintain a folder of results: verify, merge, restore, gc."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands import options
from harness.commands.open_suite import open_suite, owner_of
from harness.commands.options import CommandError, ResultsFolder, SuiteName, Where, with_option_groups
from harness.commands.output import complain, warn
from harness.results import maintenance
from harness.results.maintenance import Conflicts
from harness.results.results import records_of
from harness.results.store import Store

verbs = typer.Typer()


@verbs.command()
def verify(name: SuiteName, results: ResultsFolder = options.RESULTS) -> None:
    """Read every byte of a suite's results and check it. Exit code 1 if anything is damaged."""
    store = open_suite(name, Where(results)).store
    faults = maintenance.verify(store)
    for fault in faults:
        complain(str(fault))
    typer.echo(f"{store.root}: {len(store.ids())} cells, {len(faults)} faults")
    if faults:
        raise typer.Exit(options.FAILED)


@verbs.command()
def merge(
    target: Annotated[Path, typer.Argument(help="Folder of results to write, such as results/quick.")],
    sources: Annotated[list[Path], typer.Argument(help="Folders of results to read, as of other machines.")],
    on_conflict: Annotated[
        Conflicts, typer.Option(help="For cells that differ: refuse all, keep ours, or take theirs.")
    ] = "refuse",
) -> None:
    """Merge the cells of several folders of results of one suite. On a conflict exit code 2, and nothing is written."""
    merged = maintenance.merge(Store(target, warn=warn), [Store(path, warn=warn) for path in sources], on_conflict)
    for met in (*merged.of("damaged"), *merged.of("conflict")):
        complain(f"{met.kind}: {met}")
    counts = ", ".join(f"{len(merged.of(kind))} {kind}" for kind in ("new", "better", "same", "conflict", "damaged"))
    typer.echo(f"{target}: {len(merged.written)} cells written ({counts})")
    if merged.of("conflict") and on_conflict == "refuse":
        complain("nothing was merged; choose --on-conflict ours or --on-conflict theirs")
        raise typer.Exit(options.REFUSED)
    if merged.of("damaged"):
        raise typer.Exit(options.FAILED)
    typer.echo("run the suite to write its points, tables and plots again; finished cells are not run again")


@verbs.command()
def restore(name: SuiteName, results: ResultsFolder = options.RESULTS) -> None:
    """Take the committed records of a suite as finished cells, as in a fresh clone; `run` then goes on from there."""
    opened = open_suite(name, Where(results))
    opened.refuse_changed()
    opened.store.prepare()
    made = maintenance.restore(opened.store, {cell.id for cell in opened.cells})
    older = len(records_of(opened.folder).keys() - {cell.id for cell in opened.cells})
    typer.echo(f"{opened.store.root}: {len(made)} cells restored, {older} records are of another plan, code or data")


@verbs.command()
@with_option_groups
def gc(
    name: SuiteName,
    where: Where,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the files. Without it they are only listed.")] = False,
) -> None:
    """List or remove what no plan names: cells of older recipes or code, quarantine, leftovers of killed runs."""
    opened = open_suite(name, where)
    if yes and owner_of(opened.folder) is None:
        raise CommandError(
            f"{opened.folder} does not say which suite file it belongs to, so cells of another suite may lie in it; "
            f"`eavit-bench run {name}` writes that down"
        )
    removable = maintenance.list_removable(opened.store, {cell.id for cell in opened.cells}, opened.runs)
    gone = maintenance.remove(opened.store, removable) if yes else []
    for left in removable:
        what = "can be removed" if not yes else "removed" if left in gone else "kept"
        typer.echo(f"{what}: {left.path}: {left.reason}")
    typer.echo(f"{len(gone)} of {len(removable)} removed" if yes else f"{len(removable)} can be removed with --yes")
