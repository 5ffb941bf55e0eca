"""The report of a suite, from what ``run`` left in its folder: tables in three forms, figures, one page.

Everything is made in a folder beside and only then renamed into place, so that a cut leaves each file old or new.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal

from harness.jobs.files import flush_folder, write_atomic, write_flushed
from harness.results.store import StoreError
from harness.suite import Suite

if TYPE_CHECKING:
    from harness.reports.document.blocks import Page
    from harness.reports.subject import Subject
    from harness.reports.verdicts.claims import Verdict

REFERENCE = "reference"  # beside the folders of the suites: what papers report
Form = Literal["figures", "page"]
FIGURES: tuple[Form, ...] = ("figures",)
EVERYTHING: tuple[Form, ...] = ("figures", "page")
BEFORE = ".report-"  # of the folder in which a report is made
STAMP = ".made-of"  # what the report was made of, then its files, a line each; written last


class ReportError(ValueError):
    """There is nothing to report on, or it is not what this program wrote."""


@dataclass(frozen=True)
class Built:
    text: str
    files: tuple[Path, ...]


def build(
    folder: Path, suite: Suite, planned: int, forms: Collection[Form] = FIGURES, suite_file: Path | None = None
) -> Built:
    """Write ``table.md``, ``.tex`` and ``.csv``, ``differences.csv``, ``correct.npz`` and what ``forms`` names.

    ``suite_file``: beside it lie the claims that the page judges.
    """
    from harness.reports.document import latex, markdown
    from harness.reports.tables import paired_differences, selector_comparison, tables
    from harness.results import bitmaps

    stamp = _stamp(folder, suite)
    found = subject(folder, suite)
    page = tables.page(found)
    text = markdown.document(page)
    files = {
        "table.md": text.encode("utf-8"),
        "table.tex": latex.document(page).encode("utf-8"),
        "table.csv": tables.table_csv(found).encode("utf-8"),
    }
    if paired_differences.others(found):
        files["differences.csv"] = paired_differences.table_csv(found).encode("utf-8")
    if any("alone" in record.diagnostics for record in found.records.values()):
        files["bakeoff.md"] = markdown.document(selector_comparison.page(found.records.values())).encode("utf-8")
    if found.bits:
        files[bitmaps.NAME] = bitmaps.encode(found.bits)
    clear(folder)
    beside = Path(mkdtemp(prefix=BEFORE, dir=folder))
    try:
        for name, data in files.items():
            write_flushed(beside / name, data)
        for form in forms:
            MAKERS[form](_Made(found, page, folder, suite, planned, suite_file), beside)
        files_there = _put(beside, folder)
        write_atomic(folder / STAMP, "\n".join([stamp, *(path.name for path in files_there)]).encode())
        return Built(text, files_there)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def standing(folder: Path, suite: Suite) -> Built | None:
    """The report that is there, if it was made of what is there now by this program; else None."""
    try:
        stamp, *names = (folder / STAMP).read_text(encoding="utf-8").split("\n")
        files = tuple(folder / name for name in names)
        if stamp == _stamp(folder, suite) and all(path.is_file() for path in files):
            return Built((folder / "table.md").read_text(encoding="utf-8"), files)
    except OSError:
        pass
    return None


def _stamp(folder: Path, suite: Suite) -> str:
    """Of the points and records, what else is read beside them, the suite, and the sources of this program."""
    mine = Path(__file__).parents[1]
    beside = [folder / "points.csv", folder / "records.jsonl", folder / "cards.json"]
    read = [*beside, *sorted((folder.parent / REFERENCE).glob("*.csv"))]
    program = [*sorted(mine.rglob("*.py")), *sorted((mine / "reports" / "page" / "templates").glob("*"))]
    digest = sha256(suite.model_dump_json().encode())
    for path in (*read, *program):
        digest.update(path.name.encode() + (sha256(path.read_bytes()).digest() if path.is_file() else b"-"))
    return digest.hexdigest()


def subject(folder: Path, suite: Suite) -> Subject:
    """All that a report is made of, points with failed rungs doubted."""
    from harness.reports import sanity
    from harness.reports.subject import Subject
    from harness.results import bitmaps, points
    from harness.statistics import frames

    path = folder / "points.csv"
    try:
        rows = frames.read_points(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: {error}; `eavit-bench run` writes it") from None
    try:
        kept = folder / "records.jsonl"
        records = points.read_records(kept) if kept.is_file() else {}
        bits = bitmaps.gather(folder, rows)
    except StoreError as error:
        raise ReportError(str(error)) from None
    rungs = sanity.climb(rows, records, bits)
    return Subject(
        suite=suite.name,
        points=sanity.doubted(rows, rungs),
        title=suite.title,
        regime=suite.regime,
        planned=frozenset(
            (m.name, d.name, seed) for m in suite.methods for d in suite.datasets for seed in suite.seeds
        ),
        records=records,
        rungs=rungs,
        cards=_cards(folder / "cards.json"),
        reported=_reported(folder.parent / REFERENCE),
        reference=suite.methods[0].name,
        bits=bits,
    )


def _cards(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: not JSON: {error}") from None
    if not isinstance(held, dict) or not all(isinstance(card, dict) for card in held.values()):
        raise ReportError(f"{path}: needs an object, method to card")
    return held


def _reported(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.csv"))}


def verdicts(folder: Path, suite: Suite, suite_file: Path) -> Sequence[Verdict] | None:
    """The claims beside a suite, judged by its points; None where there are none."""
    from harness.reports.verdicts import claim_file, claims

    path = claim_file.beside(suite_file)
    if not path.is_file():
        return None
    return claims.judge(claim_file.load(path, suite), subject(folder, suite).points, suite)


@dataclass(frozen=True)
class _Made:
    """What a form is made of, the tables' page among it."""

    subject: Subject
    page: Page
    folder: Path
    suite: Suite
    planned: int
    suite_file: Path | None


def _figures(made: _Made, beside: Path) -> None:
    from harness.reports.figures import pareto

    pareto.pareto(made.subject.points, beside, made.subject.title or made.subject.suite)


def _page(made: _Made, beside: Path) -> None:
    from harness.reports.document.blocks import COMPARISON
    from harness.reports.page import page

    judged = None if made.suite_file is None else verdicts(made.folder, made.suite, made.suite_file)
    compared = [section for section in made.page.sections if section.group == COMPARISON]
    text = page.build(made.folder, made.suite, made.planned, judged, made.subject.rungs, compared)
    write_flushed(beside / "report.html", text)


MAKERS: Mapping[Form, Callable[[_Made, Path], None]] = {"figures": _figures, "page": _page}


def _put(beside: Path, folder: Path) -> tuple[Path, ...]:
    """One rename a file; the table last, which a person takes for the report."""
    names = sorted((path.name for path in beside.iterdir()), key=lambda name: (name == "table.md", name))
    for name in names:
        (beside / name).replace(folder / name)
    flush_folder(folder)
    return tuple(folder / name for name in sorted(names, key=lambda name: (name != "table.md", name)))


def clear(folder: Path) -> None:
    """Remove what reports that were killed had begun."""
    for left in folder.glob(f"{BEFORE}*"):
        shutil.rmtree(left, ignore_errors=True)
