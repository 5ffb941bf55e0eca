"""The verbs that look after a store: why, verify, merge, gc."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.records import upkeep
from harness.records.store import Store
from harness.records.upkeep import Conflicts
from harness.verbs import asking
from harness.verbs import why as reasons
from harness.verbs.asking import DataRoot, Results, Runs, SuiteName, complain

verbs = typer.Typer()


@verbs.command()
def why(
    name: SuiteName,
    cell: Annotated[str, typer.Argument(help="The cell's id, or the beginning of it.")],
    results: Results = asking.RESULTS,
    runs: Runs = asking.RUNS,
    data: DataRoot = None,
) -> None:
    """Say of one cell: its status, the end of its log, and the command that runs it again."""
    given = asking.load(name, data)
    store, cells = asking.store_of(given, results), asking.planned(given, runs)
    typer.echo(reasons.why(store, cell, cells, runs / given.name, name, _how(results, runs, data)), nl=False)


@verbs.command()
def verify(name: SuiteName, results: Results = asking.RESULTS) -> None:
    """Read every byte of a suite's store and say what is wrong. Exit code 1 if anything is."""
    store = asking.store_of(asking.load(name), results)
    faults = upkeep.verify(store)
    for fault in faults:
        complain(str(fault))
    typer.echo(f"{store.root}: {len(store.ids())} cells, {len(faults)} faults")
    if faults:
        raise typer.Exit(asking.FAILED)


@verbs.command()
def merge(
    target: Annotated[Path, typer.Argument(help="The store that is written, such as results/quick.")],
    sources: Annotated[list[Path], typer.Argument(help="Stores that are read, such as copies from other machines.")],
    on_conflict: Annotated[
        Conflicts, typer.Option(help="Cells that differ: refuse all, keep ours, or take theirs.")
    ] = "refuse",
) -> None:
    """Bring the cells of several stores of one suite into one. Exit code 2, and nothing written, on a conflict."""
    merged = upkeep.merge(
        Store(target, warn=asking.warn), [Store(path, warn=asking.warn) for path in sources], on_conflict
    )
    for met in (*merged.of("damaged"), *merged.of("conflict")):
        complain(f"{met.kind}: {met}")
    counts = ", ".join(f"{len(merged.of(kind))} {kind}" for kind in ("new", "better", "same", "conflict", "damaged"))
    typer.echo(f"{target}: {len(merged.written)} cells written ({counts})")
    if merged.of("conflict") and on_conflict == "refuse":
        complain("nothing was merged: choose with --on-conflict ours or theirs")
        raise typer.Exit(asking.REFUSED)
    if merged.of("damaged"):
        raise typer.Exit(asking.FAILED)
    typer.echo("`eavit-bench run` on the suite rewrites its points, table and plots; it runs nothing that is there")


@verbs.command()
def gc(
    name: SuiteName,
    results: Results = asking.RESULTS,
    runs: Runs = asking.RUNS,
    data: DataRoot = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this it is only listed.")] = False,
) -> None:
    """List, or remove, what no plan names: cells of older recipes or code, quarantine, what killed runs left."""
    given = asking.load(name, data)
    store = asking.store_of(given, results)
    wanted = {cell.id for cell in asking.planned(given, runs)}
    with store.leases() as leases:
        found = upkeep.rubbish(store, wanted, runs / given.name, leases)
        gone = upkeep.remove(store, found, leases) if yes else []
    for left in found:
        typer.echo(f"{'removed' if left in gone else 'kept   ' if yes else 'may go '}  {left.path}: {left.reason}")
    typer.echo(f"{len(gone)} of {len(found)} removed" if yes else f"{len(found)} may go; remove them with --yes")


def _how(results: Path, runs: Path, data: Path | None) -> list[str]:
    """The options that a command has to repeat to mean the same store."""
    options = [("--results", results, asking.RESULTS), ("--runs", runs, asking.RUNS), ("--data", data, None)]
    return [word for option, value, default in options if value != default for word in (option, str(value))]
