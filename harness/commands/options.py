"""What the verbs of the command line share: their options, and how a suite, its store and its cells are found."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import fingerprints, plan, suite
from harness.commands.output import complain, warn
from harness.nearest import choices
from harness.plan import Cell, Prints
from harness.reports.report import Built
from harness.results import checksums, record
from harness.results.results import Results
from harness.results.store import Store
from harness.suite import Suite
from harness.sweep.settings import Settings, default_workers

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="A suite's file, or its bare name in suites/.")]
ResultsFolder = Annotated[Path, typer.Option(help="Where records and reports are kept, one folder a suite.")]
Runs = Annotated[Path, typer.Option(help="Where logs, checkpoints and caches lie while cells run.")]
DataRoot = Annotated[Path | None, typer.Option("--data", help="Data root. Default: EAVIT_DATA, else ./data.")]
RESULTS, RUNS = Path("results"), Path("runs")

DONE, FAILED, REFUSED, OUT_OF_TIME = 0, 1, 2, 3  # exit codes of the verbs
INTERRUPTED = 130  # as shells count a program ended by Ctrl-C


@dataclass(frozen=True)
class Where:
    """Options of the verbs that know cells: where all that belongs to them lies."""

    results: ResultsFolder = RESULTS
    runs: Runs = RUNS
    data: DataRoot = None


@dataclass(frozen=True)
class Which:
    """Options of the verbs that plan and run: of which cells, and what of them is to be done."""

    workers: Annotated[int | None, typer.Option(min=1, help="Cells at once. Default: cores / threads.")] = None
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be given again.")] = None
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set; may be given again.")] = None
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; may be given again.")] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run cells again that failed.")] = False
    force: Annotated[bool, typer.Option("--force", help="Run cells again that are there.")] = False
    only_missing: Annotated[
        bool,
        typer.Option("--only-missing", help="Run only cells without a record: not those killed or skipped before."),
    ] = False


@dataclass(frozen=True)
class Limits:
    """Options of run: how much of the machine it may take."""

    max_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after this time; the same command goes on. Exit code 3.")
    ] = None
    memory_gib: Annotated[
        float | None, typer.Option(min=0.1, help="Most memory of one cell. Default: the suite's, else the machine's.")
    ] = None
    disk_gib: Annotated[
        float | None, typer.Option(min=0.01, help="Most disk of one cell while it runs. Default: the suite's.")
    ] = None


def spread(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb as typer takes it: each parameter that is a dataclass becomes one option for each of its fields."""
    parameters = _parameters(verb)
    groups: dict[str, Any] = {each.name: each.annotation for each in parameters if is_dataclass(each.annotation)}

    @wraps(verb)
    def flat(**words: object) -> None:
        made = {
            name: group(**{own.name: words.pop(own.name) for own in fields(group)}) for name, group in groups.items()
        }
        verb(**words, **made)

    options = [
        own for each in parameters for own in (_parameters(groups[each.name]) if each.name in groups else [each])
    ]
    flat.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in options}
    return flat


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


class AskError(ValueError):
    """Something on the command line that cannot be done as it stands."""


def suite_path(name: str) -> Path:
    """``quick`` means suites/quick.toml; whatever looks like a path, or is one, is a path."""
    path = Path(name)
    return path if path.suffix == ".toml" or len(path.parts) > 1 or path.is_file() else Path("suites") / f"{name}.toml"


def load(name: str, data: Path | None = None) -> Suite:
    """The suite; ``data`` becomes the data root of this process and of all that it starts."""
    if data is not None:
        os.environ["EAVIT_DATA"] = str(data.resolve())
    return suite.load(suite_path(name))


def store_of(given: Suite, results: Path) -> Store:
    return Store(results / given.name, warn=warn)


def refuse_changed(folder: Path) -> None:
    """Raise AskError where a file that reports are made of is not as it was written; warn of those made again."""
    faults = checksums.checksum_faults(folder)
    for name, what in faults.items():
        if name not in (*checksums.SOURCES, checksums.NAME):
            warn(f"{folder / name}: {what}; it is written again")
    bad = [f"{folder / name}: {what}" for name, what in faults.items() if name in (*checksums.SOURCES, checksums.NAME)]
    if bad:
        advice = f"`eavit-bench run` writes it again; delete {folder / checksums.NAME} to take it as it is"
        raise AskError("\n".join([*bad, f"nothing was written: {advice}"]))


def results_of(folder: Path, given: Suite | None = None) -> Results:
    """What the folder keeps, of the suite or of all; rows that the suite does not name are a warning."""
    found = Results.read(folder, given)
    for file, what in checksums.checksum_faults(folder).items():
        warn(f"{folder / file}: {what}")
    if len(found.unplanned):
        warn(f"{folder}: not counted: {len(found.unplanned)} rows of points.csv, of cells that the suite does not name")
    return found


def show(built: Built) -> None:
    """A report's table, then where its files lie."""
    typer.echo(built.text)
    for path in built.files:
        typer.echo(path)


def prints_of(given: Suite, runs: Path) -> Prints:
    """What the ids of a suite's cells depend on, read from this machine; missing data is a warning."""
    found = fingerprints.prints_of(given, runs / ".cache" / "prints", tell=complain)
    for name, why in found.missing.items():
        warn(f"data missing, its cells will be skipped: {name}: {why}")
    return found


def planned(given: Suite, runs: Path) -> tuple[Cell, ...]:
    """All cells of a suite."""
    return plan.cells(given, prints_of(given, runs))


def chosen(given: Suite, cells: tuple[Cell, ...], which: Which) -> tuple[Cell, ...]:
    """The cells asked for and, with them, those they need."""
    methods, datasets, seeds = which.method, which.dataset, which.seed
    _known("--method", methods, [method.name for method in given.methods])
    _known("--dataset", datasets, [dataset.name for dataset in given.datasets])
    _known("--seed", [str(seed) for seed in seeds or ()], [str(seed) for seed in given.seeds])
    wanted = {
        cell.id
        for cell in cells
        if (not methods or cell.method in methods)
        and (not datasets or cell.dataset in datasets)
        and (not seeds or cell.seed in seeds)
    }
    return plan.with_needs(cells, wanted)


def _known(option: str, words: Iterable[str] | None, allowed: Sequence[str]) -> None:
    strange = [word for word in words or () if word not in allowed]
    if strange:
        raise AskError("\n".join(f"{option} {word}: not in this suite; {choices(word, allowed)}" for word in strange))


def settings_of(given: Suite, where: Where, which: Which, limits: Limits | None = None) -> Settings:
    """How a run of the suite does its cells, by the options given."""
    limits = limits or Limits()
    if which.only_missing and (which.retry_failed or which.force):
        raise AskError("--only-missing cannot go with --retry-failed or --force")
    return Settings(
        runs=where.runs / given.name,
        workers=which.workers or default_workers(given.threads * given.processes),
        retry_failed=which.retry_failed,
        force=which.force,
        only_missing=which.only_missing,
        max_hours=limits.max_hours,
        memory_gib=limits.memory_gib if limits.memory_gib is not None else given.memory_gib,
        disk_gib=limits.disk_gib if limits.disk_gib is not None else given.disk_gib,
        commit=record.commit(Path(__file__).resolve().parent),
        warn=warn,
    )
