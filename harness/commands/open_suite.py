"""A suite as commands work on it: its file and values, its folders of results and of runs, and its cells."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness import fingerprints, picture_plugins, plan, smoke, suite
from harness.commands.named_selectors import with_import_strings
from harness.commands.options import RESULTS, CellLimits, CommandError, Where, Which
from harness.commands.output import complain, warn
from harness.jobs.files import write_atomic
from harness.jobs.fork_server import ForkServer
from harness.messages import choices
from harness.plan import Cell, Prints
from harness.results import checksums, record
from harness.results.results import Results, records_of
from harness.results.store import Store
from harness.suite import Suite, SuiteError
from harness.sweep.pending import Settings, default_workers

SUITES = Path("suites")
OWNER = "suite.json"  # in a folder of results: {"file": path of the suite file, relative to the folder}


@dataclass(frozen=True)
class OpenSuite:
    """``name``: as on the command line. ``folder``: of its results; ``runs``: of its jobs, logs and checkpoints.
    ``server``: forks the processes that read data.
    """

    name: str
    file: Path
    suite: Suite
    folder: Path
    runs: Path
    server: ForkServer | None = None

    @cached_property
    def store(self) -> Store:
        return Store(self.folder, warn=warn)

    @cached_property
    def prints(self) -> Prints:
        """Fingerprints that the ids of the cells depend on, read from this machine; missing data is a warning."""
        failures = picture_plugins.make_missing(self.suite.datasets, complain)
        prints = fingerprints.prints_of(self.suite, self.runs.parent / ".cache" / "prints", complain, self.server)
        for name, why in prints.missing.items():
            warn(f"data missing, its cells will be skipped: {name}: {failures.get(name, why)}")
        return prints

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return plan.cells(self.suite, self.prints)

    def chosen(self, which: Which) -> tuple[Cell, ...]:
        """The cells that the options name and, with them, those that these need."""
        methods, datasets, seeds = which.method, which.dataset, which.seed
        _known("--method", methods, [method.name for method in self.suite.methods])
        _known("--dataset", datasets, [dataset.name for dataset in self.suite.datasets])
        _known("--seed", [str(seed) for seed in seeds or ()], [str(seed) for seed in self.suite.seeds])
        wanted = {
            cell.id
            for cell in self.cells
            if (not methods or cell.method in methods)
            and (not datasets or cell.dataset in datasets)
            and (not seeds or cell.seed in seeds)
        }
        return plan.with_needs(self.cells, wanted)

    def settings(self, which: Which, limits: CellLimits | None = None) -> Settings:
        """Settings of a sweep, by the options and the suite."""
        limits = limits or CellLimits()
        if which.only_missing and (which.retry_failed or which.force):
            raise CommandError("--only-missing cannot go with --retry-failed or --force")
        return Settings(
            runs=self.runs,
            workers=which.workers or default_workers(self.suite.threads * self.suite.processes),
            retry_failed=which.retry_failed,
            force=which.force,
            only_missing=which.only_missing,
            max_hours=limits.max_hours,
            memory_gib=limits.memory_gib if limits.memory_gib is not None else self.suite.memory_gib,
            disk_gib=limits.disk_gib if limits.disk_gib is not None else self.suite.disk_gib,
            commit=record.git_commit(Path(__file__).resolve().parent),
            warn=warn,
        )

    def committed_lines(self, there: Container[str]) -> list[str]:
        """Lines on the records of cells that are not ``there``, as in a fresh clone; empty if there are none."""
        kept = [record for id_, record in records_of(self.folder).items() if id_ not in there]
        if not kept:
            return []
        planned = {cell.id for cell in self.cells}
        counts = Counter(record.status for record in kept)
        states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
        same = sum(record.cell in planned for record in kept)
        return [
            f"committed results without their cells, in {self.folder}: {len(kept)} cells ({states}), {same} of them of "
            f"this plan; `eavit-bench report {self.name}` shows them, `eavit-bench run {self.name}` runs the plan here"
        ]

    def refuse_changed(self) -> None:
        """CommandError where a file that reports are made of was changed; of those made again, a warning."""
        sources = (*checksums.SOURCES, checksums.NAME)
        faults = checksums.checksum_faults(self.folder)
        for name in faults.keys() - set(sources):
            warn(f"{self.folder / name}: {faults[name]}; it is written again")
        bad = [f"{self.folder / name}: {faults[name]}" for name in sources if name in faults]
        if bad:
            advice = f"`eavit-bench run` writes it again; delete {self.folder / checksums.NAME} to take it as it is"
            raise CommandError("\n".join([*bad, f"nothing was written: {advice}"]))


def open_suite(name: str, where: Where) -> OpenSuite:
    """Read and check the suite; ``--data`` becomes the data root of this process and of all that it starts.

    OwnerError where its folder of results belongs to another suite file of the same name.
    """
    if where.data is not None:
        os.environ["EAVIT_DATA"] = str(where.data.resolve())
    file = suite_file(name, where.results)
    read = with_import_strings(picture_plugins.located(suite.load(file)))
    refuse_other(where.results / read.name, file)
    return OpenSuite(name, file, read, where.results / read.name, where.runs / read.name)


def open_smoke(name: str, where: Where) -> OpenSuite:
    """The suite made small (:mod:`harness.smoke`), with its data written anew, and its folders below ``runs/smoke``."""
    if where.results != RESULTS:
        raise CommandError("--smoke cannot go with --results: what it writes is no result and lies below --runs")
    whole, folder = open_suite(name, where), where.runs / "smoke"
    data = (folder / "data" / whole.suite.name).absolute()
    small = smoke.smoke_suite(whole.suite, data)
    os.environ["EAVIT_DATA"] = str(data)  # for what is kept of decoded images
    smoke.write_samples(small.datasets)
    return OpenSuite(
        f"{name} --smoke", whole.file, small, folder / "results" / small.name, folder / "runs" / small.name
    )


def suite_file(name: str, results: Path) -> Path:
    """``quick`` is suites/quick.toml, else the file that results/quick belongs to; what looks like a path is a path."""
    path, bare = Path(name), SUITES / f"{name}.toml"
    if path.suffix == ".toml" or len(path.parts) > 1 or path.is_file():
        return path
    return bare if bare.exists() else owner_of(results / name) or bare


def results_of(folder: Path, suite: Suite | None = None) -> Results:
    """Results that the folder holds; changed files, and rows that the suite does not name, are warnings."""
    results = Results.read(folder, suite)
    for file, what in checksums.checksum_faults(folder).items():
        warn(f"{folder / file}: {what}")
    if len(results.unplanned):
        warn(
            f"{folder}: not counted: {len(results.unplanned)} rows of points.csv, of cells that the suite does not name"
        )
    return results


def _known(option: str, words: Iterable[str] | None, allowed: Sequence[str]) -> None:
    strange = [word for word in words or () if word not in allowed]
    if strange:
        raise CommandError(
            "\n".join(f"{option} {word}: not in this suite; {choices(word, allowed)}" for word in strange)
        )


# --- the owner of a folder of results: the suite file that it belongs to; two of one name must not share it ----------


class OwnerError(ValueError):
    """A folder of results that belongs to another suite file."""


def record_owner(folder: Path, file: Path) -> None:
    """Write down that the folder holds the results of this suite file; OwnerError where it holds those of another."""
    refuse_other(folder, file)
    if not _is_owner(folder, file):
        relative = os.path.relpath(file.resolve(), folder.resolve())
        write_atomic(folder / OWNER, f"{json.dumps({'file': relative}, ensure_ascii=False)}\n".encode())


def owner_of(folder: Path) -> Path | None:
    """The suite file, where the folder names one that is there."""
    try:
        file = folder / str(json.loads((folder / OWNER).read_bytes())["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(os.path.normpath(file)) if file.is_file() else None


def refuse_other(folder: Path, file: Path) -> None:
    """OwnerError where the folder belongs to another suite file that is there and still has the name of the folder."""
    owner = owner_of(folder)
    if owner is None or _is_owner(folder, file):
        return
    try:
        name = suite.load(owner).name
    except SuiteError:  # being edited: it may have any name
        name = folder.name
    if name == folder.name:
        raise OwnerError(
            f"{file}: name: {name!r}: {folder} holds the results of {owner}, which has the same name; give one of the "
            "two another name, or keep the results apart with --results"
        )


def _is_owner(folder: Path, file: Path) -> bool:
    owner = owner_of(folder)
    return owner is not None and file.exists() and owner.samefile(file)
