"""``eavit-bench``: the verbs. Each reads a suite, does one thing and says where the result lies."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from harness import check as deep
from harness import engine, plan, plugins, points, record, suite
from harness import report as reports
from harness.engine import Settings, Summary
from harness.nearest import choices
from harness.plan import Cell
from harness.plugins import PluginError
from harness.progress import watching
from harness.record import USABLE, Record
from harness.store import Store, StoreError
from harness.suite import Suite, SuiteError

INTERRUPTED = 130  # as shells count a program ended by Ctrl-C

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Elastic Vision Transformers, compared.",
)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="A suite's file, or its bare name in suites/.")]
Results = Annotated[Path, typer.Option(help="Where records and reports are kept, one folder a suite.")]
Runs = Annotated[Path, typer.Option(help="Where logs and checkpoints lie while cells run.")]
DataRoot = Annotated[Path | None, typer.Option("--data", help="Data root. Default: EAVIT_DATA, else ./data.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Only this method; may be given again.")]
DataSets = Annotated[list[str] | None, typer.Option("--dataset", help="Only this data set; may be given again.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="Only this seed; may be given again.")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Run cells again that failed.")]
Force = Annotated[bool, typer.Option("--force", help="Run cells again that are there.")]
RESULTS, RUNS = Path("results"), Path("runs")


class AskError(ValueError):
    """Something on the command line that is not in the suite."""


def main() -> None:
    """The console script. What a person can mend is told in a paragraph, without a traceback; exit code 2."""
    sys.path.append(str(Path.cwd()))  # a suite may name a module that lies beside it
    try:
        app()
    except (SuiteError, StoreError, PluginError, AskError, reports.ReportError) as error:
        typer.echo(str(error), err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("eavit-bench"))
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


@app.command("plan")
def show_plan(name: SuiteName, results: Results = RESULTS, retry_failed: Retry = False, force: Force = False) -> None:
    """List all cells of a suite: which are there (hit) and which would run (miss)."""
    given = _load(name)
    cells = plan.cells(given)
    kept = _store(given, results).records(cell.id for cell in cells)
    miss = {cell.id for cell in engine.missing(cells, kept, retry_failed, force)}
    for cell in cells:
        state = kept[cell.id].status if cell.id in kept else "missing"
        typer.echo(f"{'miss' if cell.id in miss else 'hit ':<5}{cell.id}  {state:<11}  {cell.title}")
    typer.echo(f"{given.name}: {len(cells)} cells, {len(cells) - len(miss)} hit, {len(miss)} to run")


@app.command()
def run(
    name: SuiteName,
    results: Results = RESULTS,
    runs: Runs = RUNS,
    data: DataRoot = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cells at once. Default: cores / threads.")] = None,
    method: Methods = None,
    dataset: DataSets = None,
    seed: Seeds = None,
    retry_failed: Retry = False,
    force: Force = False,
) -> None:
    """Run what is missing of a suite, then write points, table and plots."""
    given = _load(name)
    if data is not None:
        os.environ["EAVIT_DATA"] = str(data.resolve())
    store = _store(given, results)
    store.prepare()
    cells = _chosen(given, method, dataset, seed)
    kept = store.records(cell.id for cell in cells)
    if engine.missing(cells, kept, retry_failed, force):
        _refuse(given, name)
    count = workers or engine.default_workers(given.threads)
    settings = Settings(
        runs=runs / given.name,
        workers=count,
        retry_failed=retry_failed,
        force=force,
        commit=record.commit(Path(__file__).resolve().parent),
        warn=lambda text: typer.echo(f"warning: {text}", err=True),
    )
    signal.signal(signal.SIGTERM, _interrupt)
    with watching(count, typer.echo) as watcher:
        summary = engine.run(given, cells, store, settings, watcher)
    _finish(given, cells, store, summary, runs / given.name, name)


@app.command()
def report(name: SuiteName, results: Results = RESULTS) -> None:
    """Write table and plots again, from points.csv alone."""
    given = _load(name)
    _show(reports.build(results / given.name, given, len(plan.cells(given))))


@app.command()
def status(name: SuiteName, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Count the cells of a suite by status, and say why some failed."""
    given = _load(name)
    cells = plan.cells(given)
    kept = _store(given, results).records(cell.id for cell in cells)
    counts = Counter(kept[cell.id].status if cell.id in kept else "missing" for cell in cells)
    typer.echo(f"{given.name}: {len(cells)} cells: " + ", ".join(f"{n} {state}" for state, n in counts.most_common()))
    for line in _complaints(cells, kept, {}, runs / given.name):
        typer.echo(line)


@app.command("list")
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


@app.command()
def check(name: SuiteName, data: DataRoot = None) -> None:
    """Check a suite to the bottom: imports, options, data. Tells all faults at once."""
    if data is not None:
        os.environ["EAVIT_DATA"] = str(data.resolve())
    given = _load(name)
    found = [*deep.faults(given, name), *deep.data_faults(given, name, typer.echo)]
    for fault in found:
        typer.echo(fault.text, err=True)
    if found:
        raise typer.Exit(1)
    typer.echo(f"{name}: no fault; {len(plan.cells(given))} cells")


def suite_path(name: str) -> Path:
    """``quick`` means suites/quick.toml; whatever looks like a path, or is one, is a path."""
    path = Path(name)
    return path if path.suffix == ".toml" or len(path.parts) > 1 or path.is_file() else Path("suites") / f"{name}.toml"


def _load(name: str) -> Suite:
    return suite.load(suite_path(name))


def _store(given: Suite, results: Path) -> Store:
    return Store(results / given.name, warn=lambda text: typer.echo(f"warning: {text}", err=True))


def _chosen(
    given: Suite, methods: Sequence[str] | None, datasets: Sequence[str] | None, seeds: Sequence[int] | None
) -> tuple[Cell, ...]:
    """The cells asked for and, with them, those they need."""
    _known("--method", methods, [method.name for method in given.methods])
    _known("--dataset", datasets, [dataset.name for dataset in given.datasets])
    _known("--seed", [str(seed) for seed in seeds or ()], [str(seed) for seed in given.seeds])
    cells = plan.cells(given)
    asked: set[str] = set()
    for cell in reversed(cells):  # users before what they need
        named = (not methods or cell.method in methods) and (not datasets or cell.dataset in datasets)
        if (named and (not seeds or cell.seed in seeds)) or cell.id in asked:
            asked |= {cell.id, *cell.needs}
    return tuple(cell for cell in cells if cell.id in asked)


def _known(option: str, words: Iterable[str] | None, allowed: Sequence[str]) -> None:
    strange = [word for word in words or () if word not in allowed]
    if strange:
        raise AskError("\n".join(f"{option} {word}: not in this suite; {choices(word, allowed)}" for word in strange))


def _refuse(given: Suite, name: str) -> None:
    """Stop before any work if the suite cannot be right; warn where only some cells are lost."""
    found = deep.faults(given, str(suite_path(name)))
    for fault in found:
        typer.echo(fault.text if fault.fatal else f"warning: {fault.text}", err=True)
    if any(fault.fatal for fault in found):
        typer.echo("nothing was run", err=True)
        raise typer.Exit(2)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _finish(given: Suite, cells: Sequence[Cell], store: Store, summary: Summary, runs: Path, name: str) -> None:
    planned = plan.cells(given)
    others = {cell.id for cell in planned} - {cell.id for cell in cells}
    known = {**store.records(others), **summary.records}
    points.write(store.root / "points.csv", points.rows(planned, known))
    points.write_records(store.root / "records.jsonl", planned, known)
    _show(reports.build(store.root, given, len(planned)))
    bad = _complaints(cells, summary.records, summary.lost, runs)
    for line in bad:
        typer.echo(line, err=True)
    hits = len(cells) - len(set(summary.ran))
    typer.echo(f"{given.name}: {len(summary.ran)} cells run, {hits} kept, {store.root / 'points.csv'}")
    if summary.interrupted:
        typer.echo(f"interrupted; go on with: eavit-bench run {name}", err=True)
        raise typer.Exit(INTERRUPTED)
    if any(cell.id not in summary.records or summary.records[cell.id].status not in USABLE for cell in cells):
        typer.echo(f"some cells failed; run them again with: eavit-bench run {name} --retry-failed", err=True)
        raise typer.Exit(1)


def _complaints(cells: Iterable[Cell], kept: Mapping[str, Record], lost: Mapping[str, str], runs: Path) -> list[str]:
    """A line for each cell that is not simply good, with where to look."""
    lines = []
    for cell in cells:
        found = kept.get(cell.id)
        if cell.id in lost:
            lines.append(f"failed: {cell.title}: {lost[cell.id]}")
        elif found is not None and found.status not in ("ok", "unreachable"):
            log = runs / cell.id / "log.txt"
            look = f"; look: {log}" if log.exists() else ""
            lines.append(f"{found.status}: {cell.title}: {found.reason}{look}")
    return lines


def _show(built: reports.Built) -> None:
    typer.echo(built.text)
    for path in built.files:
        typer.echo(path)


if __name__ == "__main__":
    main()
