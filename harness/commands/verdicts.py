"""The verbs whose exit code is a verdict: claims, compare, regress; and figures, which remakes what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands import options
from harness.commands.options import ResultsFolder, SuiteName
from harness.commands.output import complain
from harness.reports import report as reports
from harness.reports.report import EVERYTHING
from harness.suite import Suite

verbs = typer.Typer()

Folder = Annotated[Path, typer.Argument(help="A folder of results, such as results/quick.")]


@verbs.command("claims")
def show_claims(name: SuiteName, results: ResultsFolder = options.RESULTS) -> None:
    """Judge the claims beside a suite by its points. Exit code 0: all supported, 1: one refuted, 3: some undecided."""
    from harness.reports.report_data import ReportData
    from harness.reports.verdicts import claim_file, claims

    given = options.load(name)
    data = ReportData.of(options.results_of(results / given.name, given), given)
    verdicts = reports.judge_claims(data, given, options.suite_path(name))
    if verdicts is None:
        raise options.AskError(f"{name}: there is no {claim_file.beside(options.suite_path(name))}")
    typer.echo("\n".join(claims.lines(verdicts)))
    raise typer.Exit(claims.exit_code(verdicts))


@verbs.command()
def compare(
    a: Folder,
    b: Folder,
    across_code: Annotated[
        bool, typer.Option("--across-code", help="Compare points of different code too: it is what is compared.")
    ] = False,
) -> None:
    """B minus A, paired by method, data set, seed and budget; what is not comparable is told with its reason."""
    from harness.reports.verdicts import compare as comparing

    found = comparing.compare(options.results_of(a), options.results_of(b), across_code=across_code)
    typer.echo("\n".join(comparing.lines(found)))


@verbs.command()
def regress(
    now: Folder,
    baseline: Annotated[Path, typer.Option(help="The results that must not be lost.")],
    margin: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Accuracy that may be lost; a point is 0.01.")
    ] = 0.01,
) -> None:
    """Is anything worse than the baseline? Exit code 0: no, 1: worse or missing, 2: not comparable."""
    from harness.reports.verdicts import regress as regressing

    verdicts = regressing.regress(options.results_of(baseline), options.results_of(now), margin)
    typer.echo("\n".join(regressing.lines(verdicts)))
    raise typer.Exit(regressing.exit_code(verdicts))


@verbs.command()
def figures(
    name: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="A suite; left out with --all.")] = None,
    results: ResultsFolder = options.RESULTS,
    every: Annotated[bool, typer.Option("--all", help="Every suite that has results.")] = False,
) -> None:
    """Tables, figures and page of a suite again, from what is kept in results/ alone: the same bytes every time."""
    if (name is None) != every:
        raise options.AskError("name a suite, or give --all")
    names = [name] if name is not None else _with_results(results)
    for one in names:
        _remake(options.load(one), options.suite_path(one), results)


def _with_results(results: Path) -> list[str]:
    suites = sorted(path.stem for path in Path("suites").glob("*.toml") if not path.name.endswith(".claims.toml"))
    found = [name for name in suites if (results / name / "points.csv").is_file()]
    if not found:
        raise options.AskError(f"no suite in suites/ has a points.csv in {results}/")
    return found


def _remake(given: Suite, path: Path, results: Path) -> None:
    from harness.reports.figures import figures as drawing

    folder = results / given.name
    options.refuse_changed(folder)
    data = reports.read(folder, given)
    built = reports.build(data, folder, given, path, EVERYTHING)
    drawn = drawing.write_figures(data, folder)
    for file in (*built.files, *drawn.files):
        typer.echo(file)
    for figure, why in drawn.skipped:
        complain(f"{given.name}: {figure} is not drawn: {why}")
