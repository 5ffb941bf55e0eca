"""The report of a suite, from what ``run`` left in its folder: an overview, tables in three forms, a figure, one page.

Everything is made before the first file is replaced, and each file is replaced as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.jobs.files import leftover_files, replace_files, write_atomic
from harness.reports import stamp
from harness.results.checksums import FRAGMENTS, NAME, checksum_faults, write_checksums
from harness.results.results import Results
from harness.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.document.blocks import Page
    from harness.reports.page.leaderboard import LeaderboardEntry
    from harness.reports.page.page import JudgedClaim
    from harness.reports.report_data import ReportData
    from harness.reports.verdicts.claims import ClaimVerdict

Form = Literal["figures", "page"]
FIGURES: tuple[Form, ...] = ("figures",)
EVERYTHING: tuple[Form, ...] = ("figures", "page")
LEADERBOARD = "leaderboard.html"  # beside the folders of the suites
PAGE = "report.html"


@dataclass(frozen=True)
class Built:
    """The overview, and the files of the report, the table first; its fragments are one folder."""

    overview: str
    files: tuple[Path, ...]


def read_report_data(folder: Path, suite: Suite) -> ReportData:
    """StoreError where the folder holds no results, or damaged ones."""
    from harness.reports.report_data import ReportData

    return ReportData.of(Results.read(folder, suite), suite)


def write_report(
    folder: Path, suite: Suite, suite_file: Path, forms: Collection[Form] = FIGURES, data: ReportData | None = None
) -> Built:
    """Write ``table.md``, ``table.csv``, ``report.tex`` and the tables it takes in, ``differences.csv``,
    ``correct.npz``, ``metrics.csv`` where the suite has metrics, and what ``forms`` names.

    Last of all the checksums of what is kept, points and records included. The page shows the claims beside
    ``suite_file``, judged. ``data``: of the folder, where it was read before.
    """
    from harness.reports.tables.overview import overview_text
    from harness.reports.tables.tables import report_page

    sources, data = stamp.digest_of_sources(folder, suite, suite_file), data or read_report_data(folder, suite)
    page = report_page(data)
    files = _table_files(data, page)
    if "figures" in forms:
        from harness.reports.figures.pareto import pareto_files

        files |= pareto_files(data)
    if "page" in forms:
        from harness.reports.page.page import render_page

        files[PAGE] = render_page(data, suite, page, claims_for_page(data, suite, suite_file))
    files["table.md"] = files.pop("table.md")  # last: a person takes it for the report
    stale = {path for path in (folder / FRAGMENTS).glob("*.tex") if f"{FRAGMENTS}/{path.name}" not in files}
    for path in (*leftover_files(folder), *leftover_files(folder / FRAGMENTS), *stale):
        path.unlink(missing_ok=True)
    replace_files(folder, files)
    write_checksums(folder)
    names = sorted({name.partition("/")[0] for name in files}, key=lambda name: (name != "table.md", name))
    overview = overview_text(data, page, claimed=stamp.claims_beside(suite_file).is_file())
    made = [folder / name for name in files]
    if data.metric_values.empty or data.metric_values["value"].notna().all():  # else a metric is tried again next time
        stamp.write_stamp(folder, sources, made, {"overview": overview, "files": names})
    return Built(overview, tuple(folder / name for name in names))


def _table_files(data: ReportData, page: Page) -> dict[str, bytes]:
    from harness.reports import metric_values, paired_differences
    from harness.reports.document import latex, markdown
    from harness.reports.tables import selector_comparison, tables
    from harness.results import bitmaps

    typeset = latex.to_latex(page, FRAGMENTS)
    files = {
        "table.md": markdown.to_markdown(page),
        "report.tex": typeset.report,
        "table.csv": tables.table_csv(data),
        **{f"{FRAGMENTS}/{name}": text for name, text in typeset.fragments.items()},
    }
    if len(data.metric_values):
        files[metric_values.NAME] = metric_values.values_csv(data.metric_values)
    if paired_differences.others(data):
        files["differences.csv"] = paired_differences.differences_csv(data)
    if any("alone" in record.diagnostics for record in data.ordered_records):
        files["selector_comparison.md"] = markdown.to_markdown(selector_comparison.selector_page(data.ordered_records))
    encoded = {name: text.encode("utf-8") for name, text in files.items()}
    return encoded | ({bitmaps.NAME: bitmaps.encode_bitmaps(data.bitmaps)} if data.bitmaps else {})


def write_leaderboard(results: Path, suites: Mapping[Path, Suite]) -> Path:
    """Write ``leaderboard.html`` into the folder of results. ``suites``: file of each suite to its values."""
    from harness.reports.page.leaderboard import render_leaderboard

    page = render_leaderboard([_leaderboard_entry(results / suite.name, suite, file) for file, suite in suites.items()])
    write_atomic(results / LEADERBOARD, page)
    return results / LEADERBOARD


def _leaderboard_entry(folder: Path, suite: Suite, file: Path) -> LeaderboardEntry:
    from harness.reports.page import leaderboard
    from harness.reports.tables.overview import main_section
    from harness.reports.tables.tables import report_page

    data = read_report_data(folder, suite)
    verdicts = judge_claims_beside(data, suite, file) or ()
    counts = Counter(one.outcome for one in verdicts)
    judged = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    facts = [data.denominator.text, data.seeds_text(), *([f"claims: {judged}"] if judged else [])]
    title, links = suite.title or suite.name, leaderboard.links_of(folder)
    return leaderboard.LeaderboardEntry(
        suite.name, title, data.methods, facts, main_section(data, report_page(data)), links
    )


def current_report(folder: Path, suite: Suite, suite_file: Path, forms: Collection[Form] = FIGURES) -> Built | None:
    """The report in ``forms`` that is there, if it was made of what is there now by this program; else None."""
    made = stamp.read_stamp(folder, stamp.digest_of_sources(folder, suite, suite_file))
    if made is None or ("page" in forms and PAGE not in made.files):
        return None
    if not (folder / NAME).is_file() or checksum_faults(folder):
        return None
    files = tuple(folder / name for name in made.shown["files"])
    return Built(made.shown["overview"], files)


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

    path = stamp.claims_beside(suite_file)
    return claims.judge_claims(claim_file.load_claims(path, suite), data.points, suite) if path.is_file() else None
