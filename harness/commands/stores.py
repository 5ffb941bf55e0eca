"""The verbs that look into a store and after it: why, verify, merge, gc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from harness.commands import lookup, options
from harness.commands import why as reasons
from harness.commands.options import ResultsFolder, SuiteName, Where
from harness.commands.output import complain, warn
from harness.results import maintenance
from harness.results.maintenance import Conflicts
from harness.results.results import read_records
from harness.results.store import Store

verbs = typer.Typer()


@dataclass(frozen=True)
class Number:
    """Options that name a number of a table."""

    method: Annotated[list[str] | None, typer.Option(help="Points of this method; may be given again.")] = None
    dataset: Annotated[list[str] | None, typer.Option(help="Points of this data set; may be given again.")] = None
    seed: Annotated[list[int] | None, typer.Option(help="Points of this seed; may be given again.")] = None
    budget: Annotated[list[float] | None, typer.Option(help="Points of this budget: 0.2; may be given again.")] = None

    @property
    def filters(self) -> lookup.Filters:
        return lookup.Filters(self.method or (), self.dataset or (), self.seed or (), self.budget or ())


@verbs.command()
@options.spread
def why(
    name: SuiteName,
    where: Where,
    number: Number,
    cell: Annotated[str | None, typer.Argument(metavar="[CELL]", help="The cell's id, or the beginning of it.")] = None,
) -> None:
    """Say of one cell: its status, the end of its log, and the command that runs it again. Or, without a cell but with
    --method, --dataset, --seed, --budget: which points and cells a number of the tables is made of, and that command.
    """
    if (cell is None) != bool(number.filters):
        raise options.AskError(
            "why: give a cell's id, or some of --method, --dataset, --seed and --budget for the points behind a number"
        )
    given = options.load(name, where.data)
    folder = where.results / given.name
    if cell is None:
        results = options.results_of(folder, given)
        points = lookup.select(results.points, number.filters, str(folder / "points.csv"))
        typer.echo(lookup.describe(points, results.records, name), nl=False)
        return
    kept = read_records(folder)  # kept without their cells, as in a fresh clone
    store, cells = options.store_of(given, where.results), options.planned(given, where.runs)
    typer.echo(reasons.why(store, cell, cells, where.runs / given.name, name, _how(where), kept), nl=False)


@verbs.command()
def verify(name: SuiteName, results: ResultsFolder = options.RESULTS) -> None:
    """Read every byte of a suite's store and say what is wrong. Exit code 1 if anything is."""
    store = options.store_of(options.load(name), results)
    faults = maintenance.verify(store)
    for fault in faults:
        complain(str(fault))
    typer.echo(f"{store.root}: {len(store.ids())} cells, {len(faults)} faults")
    if faults:
        raise typer.Exit(options.FAILED)


@verbs.command()
def merge(
    target: Annotated[Path, typer.Argument(help="The store that is written, such as results/quick.")],
    sources: Annotated[list[Path], typer.Argument(help="Stores that are read, such as copies from other machines.")],
    on_conflict: Annotated[
        Conflicts, typer.Option(help="Cells that differ: refuse all, keep ours, or take theirs.")
    ] = "refuse",
) -> None:
    """Bring the cells of several stores of one suite into one. Exit code 2, and nothing written, on a conflict."""
    merged = maintenance.merge(Store(target, warn=warn), [Store(path, warn=warn) for path in sources], on_conflict)
    for met in (*merged.of("damaged"), *merged.of("conflict")):
        complain(f"{met.kind}: {met}")
    counts = ", ".join(f"{len(merged.of(kind))} {kind}" for kind in ("new", "better", "same", "conflict", "damaged"))
    typer.echo(f"{target}: {len(merged.written)} cells written ({counts})")
    if merged.of("conflict") and on_conflict == "refuse":
        complain("nothing was merged: choose with --on-conflict ours or theirs")
        raise typer.Exit(options.REFUSED)
    if merged.of("damaged"):
        raise typer.Exit(options.FAILED)
    typer.echo("`eavit-bench run` on the suite rewrites its points, table and plots; it runs nothing that is there")


@verbs.command()
@options.spread
def gc(
    name: SuiteName,
    where: Where,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this it is only listed.")] = False,
) -> None:
    """List, or remove, what no plan names: cells of older recipes or code, quarantine, what killed runs left."""
    given = options.load(name, where.data)
    store = options.store_of(given, where.results)
    wanted = {cell.id for cell in options.planned(given, where.runs)}
    found = maintenance.rubbish(store, wanted, where.runs / given.name)
    gone = maintenance.remove(store, found) if yes else []
    for left in found:
        typer.echo(f"{'removed' if left in gone else 'kept   ' if yes else 'may go '}  {left.path}: {left.reason}")
    typer.echo(f"{len(gone)} of {len(found)} removed" if yes else f"{len(found)} may go; remove them with --yes")


def _how(where: Where) -> list[str]:
    """The options that a command has to repeat to mean the same store."""
    given, usual = vars(where), vars(Where())
    return [word for name, value in given.items() if value != usual[name] for word in (f"--{name}", str(value))]
