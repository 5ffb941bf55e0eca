"""The verb why: what is known of one cell, or of a number of a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from harness.commands import why_cell, why_points
from harness.commands.open_suite import open_suite, results_of
from harness.commands.options import CommandError, PointFilters, SuiteName, Where, with_option_groups
from harness.results.results import records_of

verbs = typer.Typer()


@verbs.command()
@with_option_groups
def why(
    name: SuiteName,
    where: Where,
    filters: PointFilters,
    cell: Annotated[str | None, typer.Argument(metavar="[CELL]", help="The cell's id, or its beginning.")] = None,
) -> None:
    """Describe one cell: its status, the end of its log, and the command that runs it again. Without a cell, list the
    points that --method, --dataset, --seed and --budget name: the cells and commits behind a number of a table.
    """
    if (cell is None) != any(asdict(filters).values()):
        raise CommandError("why: give either a cell's id, or some of --method, --dataset, --seed and --budget")
    opened = open_suite(name, where)
    if cell is None:
        results = results_of(opened.folder, opened.suite)
        points = why_points.select(results.points, filters, str(opened.folder / "points.csv"))
        typer.echo(why_points.describe_points(points, results.records, name), nl=False)
        return
    records = records_of(opened.folder)  # kept without their cells, as in a fresh clone
    typer.echo(why_cell.describe_cell(opened, cell, records, _repeated(where)), nl=False)


def _repeated(where: Where) -> list[str]:
    """Options that a command has to repeat to work on the same folders."""
    options, usual = vars(where), vars(Where())
    return [word for name, value in options.items() if value != usual[name] for word in (f"--{name}", str(value))]
