"""The verbs that write reports from what results/ holds: report, figures, leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import options
from harness.commands.open_suite import SUITES, OpenSuite, open_suite
from harness.commands.options import CommandError, ResultsFolder, SuiteName, Where
from harness.commands.output import complain, show_report
from harness.reports import report as reports
from harness.reports import stamp
from harness.reports.report import EVERYTHING, FIGURES

if TYPE_CHECKING:
    from harness.reports.report_data import ReportData

verbs = typer.Typer()


@verbs.command()
def report(
    name: SuiteName,
    results: ResultsFolder = options.RESULTS,
    html: Annotated[bool, typer.Option("--html", help="Also one self-contained page, report.html.")] = False,
) -> None:
    """Write tables and plots again from results/ alone, unless what is there was made of them by this program."""
    opened = open_suite(name, Where(results))
    opened.refuse_changed()
    of, forms = (opened.folder, opened.suite, opened.file), EVERYTHING if html else FIGURES
    built = reports.current_report(*of, forms) or reports.write_report(*of, forms)
    show_report(built.overview, built.files)


@verbs.command()
def figures(
    name: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="A suite, unless --all is given.")] = None,
    results: ResultsFolder = options.RESULTS,
    every: Annotated[bool, typer.Option("--all", help="Every suite in suites/ that has results.")] = False,
) -> None:
    """Write tables, figures and page of a suite from results/ alone, always the same bytes, unless they are there."""
    if (name is None) != every:
        raise CommandError("figures: give either a suite or --all")
    for one in [name] if name is not None else _with_results(results):
        _write_figures(open_suite(one, Where(results)))


@verbs.command()
def leaderboard(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites. Default: all in suites/ with results.")
    ] = None,
    results: ResultsFolder = options.RESULTS,
) -> None:
    """Write one page that joins several suites: the main table of each, with links to its own report."""
    opened = [open_suite(name, Where(results)) for name in names or _with_results(results)]
    typer.echo(reports.write_leaderboard(results, {one.file: one.suite for one in opened}))


def _with_results(results: Path) -> list[str]:
    suites = sorted(path.stem for path in SUITES.glob("*.toml") if not path.name.endswith(".claims.toml"))
    names = [name for name in suites if (results / name / "points.csv").is_file()]
    if not names:
        raise CommandError(f"no suite in {SUITES}/ has a points.csv in {results}/")
    return names


def _write_figures(opened: OpenSuite) -> None:
    opened.refuse_changed()
    suite, home = (opened.folder, opened.suite, opened.file), opened.folder / stamp.FIGURES
    sources = stamp.digest_of_sources(*suite)
    built, drawn = reports.current_report(*suite, EVERYTHING), stamp.read_stamp(home, sources)
    if built is None or drawn is None:
        data = reports.read_report_data(opened.folder, opened.suite)
        built = built or reports.write_report(*suite, EVERYTHING, data)
        drawn = drawn or _draw(data, opened.folder, sources)
    for file in (*built.files, *(home / name for name in drawn.files)):
        typer.echo(file)
    for figure, why in drawn.shown["skipped"]:
        complain(f"{opened.suite.name}: {figure} is not drawn: {why}")


def _draw(data: ReportData, folder: Path, sources: str) -> stamp.Stamp:
    """Draw the figures; their stamp shows those that cannot be drawn, with the reasons."""
    from harness.reports.figures.figures import write_figures

    drawn = write_figures(data, folder)
    return stamp.write_stamp(folder / stamp.FIGURES, sources, drawn.files, {"skipped": drawn.skipped})
