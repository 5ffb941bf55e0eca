"""The report of a suite, from what ``run`` left in its folder: tables in three forms, a figure, one page.

Everything is made before the first file is replaced, and each file is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.jobs.files import leftover_files, replace_files, write_atomic
from harness.results.checksums import NAME, checksum_faults, write_checksums
from harness.results.results import Results
from harness.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.document.blocks import Page
    from harness.reports.page.page import JudgedClaim
    from harness.reports.report_data import ReportData
    from harness.reports.verdicts.claims import ClaimVerdict

Form = Literal["figures", "page"]
FIGURES: tuple[Form, ...] = ("figures",)
EVERYTHING: tuple[Form, ...] = ("figures", "page")
STAMP = ".made-of"  # what the report was made of, then its files, a line each; written last


@dataclass(frozen=True)
class Built:
    """The table as text, and the files of the report, the table first."""

    text: str
    files: tuple[Path, ...]


def read_report_data(folder: Path, suite: Suite) -> ReportData:
    """StoreError where the folder holds no results, or damaged ones."""
    from harness.reports.report_data import ReportData

    return ReportData.of(Results.read(folder, suite), suite)


def write_report(
    folder: Path, suite: Suite, suite_file: Path, forms: Collection[Form] = FIGURES, data: ReportData | None = None
) -> Built:
    """Write ``table.md``, ``.tex`` and ``.csv``, ``differences.csv``, ``correct.npz`` and what ``forms`` names.

    Last of all the checksums of what is kept, points and records included. The page shows the claims beside
    ``suite_file``, judged. ``data``: of the folder, where it was read before.
    """
    from harness.reports.tables.tables import report_page

    stamp, data = _stamp(folder, suite), data or read_report_data(folder, suite)
    page = report_page(data)
    files = _table_files(data, page)
    if "figures" in forms:
        from harness.reports.figures.pareto import pareto_files

        files |= pareto_files(data)
    if "page" in forms:
        from harness.reports.page.page import render_page

        files["report.html"] = render_page(data, suite, page, claims_for_page(data, suite, suite_file))
    text = files.pop("table.md")
    files["table.md"] = text  # last: a person takes it for the report
    for path in leftover_files(folder):
        path.unlink(missing_ok=True)
    replace_files(folder, files)
    write_checksums(folder)
    names = sorted(files, key=lambda name: (name != "table.md", name))
    write_atomic(folder / STAMP, "\n".join([stamp, *names]).encode())
    return Built(text.decode("utf-8"), tuple(folder / name for name in names))


def _table_files(data: ReportData, page: Page) -> dict[str, bytes]:
    from harness.reports import paired_differences
    from harness.reports.document import latex, markdown
    from harness.reports.tables import selector_comparison, tables
    from harness.results import bitmaps

    files = {
        "table.md": markdown.to_markdown(page),
        "table.tex": latex.to_latex(page),
        "table.csv": tables.table_csv(data),
    }
    if paired_differences.others(data):
        files["differences.csv"] = paired_differences.differences_csv(data)
    if any("alone" in record.diagnostics for record in data.ordered_records):
        files["selector_comparison.md"] = markdown.to_markdown(selector_comparison.selector_page(data.ordered_records))
    encoded = {name: text.encode("utf-8") for name, text in files.items()}
    return encoded | ({bitmaps.NAME: bitmaps.encode_bitmaps(data.bitmaps)} if data.bitmaps else {})


def current_report(folder: Path, suite: Suite) -> Built | None:
    """The report that is there, if it was made of what is there now by this program; else None."""
    try:
        stamp, *names = (folder / STAMP).read_text(encoding="utf-8").split("\n")
        files = tuple(folder / name for name in names)
        whole = (folder / NAME).is_file() and not checksum_faults(folder)
        if whole and stamp == _stamp(folder, suite) and all(path.is_file() for path in files):
            return Built((folder / "table.md").read_text(encoding="utf-8"), files)
    except OSError:
        pass
    return None


def _stamp(folder: Path, suite: Suite) -> str:
    """Digest of the points and records, what else is read beside them, the suite, and the sources of this program."""
    program = Path(__file__).parents[1]
    beside = [folder / "points.csv", folder / "records.jsonl", folder / "cards.json"]
    sources = [*sorted(program.rglob("*.py")), *sorted((program / "reports" / "page" / "templates").glob("*"))]
    digest = sha256(suite.model_dump_json().encode())
    for path in (*beside, *sorted((folder.parent / "reference").glob("*.csv")), *sources):
        digest.update(path.name.encode() + (sha256(path.read_bytes()).digest() if path.is_file() else b"-"))
    return digest.hexdigest()


def claims_for_page(data: ReportData, suite: Suite, suite_file: Path) -> Sequence[JudgedClaim] | None:
    """The claims beside a suite as the page shows them."""
    from harness.reports.page.page import JudgedClaim
    from harness.reports.verdicts import claims

    verdicts = judge_claims_beside(data, suite, suite_file)
    if verdicts is None:
        return None
    return [JudgedClaim(one.outcome, one.claim.text, one.claim.id, claims.claim_details(one)) for one in verdicts]


def judge_claims_beside(data: ReportData, suite: Suite, suite_file: Path) -> Sequence[ClaimVerdict] | None:
    """The claims beside a suite, judged by its points; None where there are none."""
    from harness.reports.verdicts import claim_file, claims

    path = claim_file.claims_beside(suite_file)
    return claims.judge_claims(claim_file.load_claims(path, suite), data.points, suite) if path.is_file() else None
