"""The verbs that read what was kept and tell it: report, list, check."""

from __future__ import annotations

import typer

from harness import asking, plan, plugins, suite
from harness import check as deep
from harness import report as reports
from harness.asking import DataRoot, Results, SuiteName, complain

verbs = typer.Typer()


@verbs.command()
def report(name: SuiteName, results: Results = asking.RESULTS) -> None:
    """Write table and plots again, from points.csv alone."""
    given = asking.load(name)
    asking.show(reports.build(results / given.name, given, plan.count(given)))


@verbs.command("list")
def show_list() -> None:
    """List the methods, backbones and data sources that suites can name."""
    for title, module, taking in (
        ("methods", "eavit.methods", None),
        ("backbones", "eavit.weights", "num_classes"),
    ):
        typer.echo(f"{title}:")
        for name, first in plugins.describe(module, taking):
            typer.echo(f"  {module}:{name}" + (f"  {first}" if first else ""))
    typer.echo("data sources:\n  " + ", ".join(suite.SOURCES))


@verbs.command()
def check(name: SuiteName, data: DataRoot = None) -> None:
    """Check a suite to the bottom: imports, options, data. Tells all faults at once."""
    given = asking.load(name, data)
    found = [*deep.faults(given, name), *deep.data_faults(given, name, typer.echo)]
    for fault in found:
        complain(fault.text)
    if found:
        raise typer.Exit(asking.FAILED)
    typer.echo(f"{name}: no fault; {plan.count(given)} cells")
