"""The verbs whose exit code is a verdict: claims, compare, regress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands import options
from harness.commands.open_suite import open_suite, results_of
from harness.commands.options import CommandError, ResultsFolder, SuiteName, Where
from harness.reports import report as reports
from harness.reports import stamp

verbs = typer.Typer()

Folder = Annotated[Path, typer.Argument(help="A folder of results, such as results/quick.")]


@verbs.command("claims")
def show_claims(name: SuiteName, results: ResultsFolder = options.RESULTS) -> None:
    """Judge the claims in SUITE.claims.toml. Exit code 0: all supported, 1: one refuted, 3: some undecided."""
    from harness.reports.report_data import ReportData
    from harness.reports.verdicts import claims

    opened = open_suite(name, Where(results))
    data = ReportData.of(results_of(opened.folder, opened.suite), opened.suite)
    verdicts = reports.judge_claims_beside(data, opened.suite, opened.file)
    if verdicts is None:
        raise CommandError(f"{name}: there is no {stamp.claims_beside(opened.file)}")
    typer.echo("\n".join(claims.claim_lines(verdicts)))
    raise typer.Exit(claims.claims_exit_code(verdicts))


@verbs.command()
def compare(
    a: Folder,
    b: Folder,
    across_code: Annotated[bool, typer.Option("--across-code", help="Compare points of different code too.")] = False,
) -> None:
    """Compare two folders of results: B minus A, paired by method, data set, seed and budget."""
    from harness.reports.verdicts import compare as comparing

    comparison = comparing.compare(results_of(a), results_of(b), across_code=across_code)
    typer.echo("\n".join(comparing.comparison_lines(comparison)))


@verbs.command()
def regress(
    now: Folder,
    baseline: Annotated[Path, typer.Option(help="Folder of results to compare with.")],
    margin: Annotated[float, typer.Option(min=0.0, max=0.99, help="Accuracy that may be lost.")] = 0.01,
) -> None:
    """Check that nothing is worse than the baseline. Exit code 0: nothing, 1: worse or missing, 2: not comparable."""
    from harness.reports.verdicts import regress as regressing

    verdicts = regressing.regress(results_of(baseline), results_of(now), margin)
    typer.echo("\n".join(regressing.regress_lines(verdicts)))
    raise typer.Exit(regressing.regress_exit_code(verdicts))
