"""The overview of a report that commands print: one table of accuracies, and where to look next."""

from __future__ import annotations

from dataclasses import replace

from harness.reports.document import markdown
from harness.reports.document.blocks import Block, Page, Section, Table
from harness.reports.report_data import ReportData
from harness.reports.tables import aggregates
from harness.statistics import frames

ROWS = 16  # methods that are shown


def overview_text(data: ReportData, page: Page, *, claimed: bool) -> str:
    """The mean over data sets, of one set its own table. ``page``: all tables; ``claimed``: there are claims."""
    section = main_section(data, page)
    lines = [*page.points[:1], *data.notices] if section else list(page.points)
    text = markdown.to_markdown(Page(page.title, tuple(lines), (section,) if section else ()))
    return "\n".join([text, "Look at next:", *(f"  {line}" for line in _next_steps(data, claimed))])


def main_section(data: ReportData, page: Page) -> Section | None:
    """The one table of accuracies that stands for the suite; None where no method has a number."""
    numbers = [section for section in page.sections if section.group == "numbers" and section.table is not None]
    chosen = next((one for one in numbers if one.title == aggregates.OVER_SETS), numbers[0] if numbers else None)
    return None if chosen is None or chosen.table is None else _shortened(data, chosen, chosen.table)


def _shortened(data: ReportData, section: Section, table: Table) -> Section:
    rows = table.rows[:ROWS]
    more = [f"{len(table.rows) - ROWS} more methods in table.md"] if len(table.rows) > ROWS else []
    what = (
        f"test {data.score.title} in % at each budget, a share of the full model's MACs; in brackets half the 95 % "
        "interval"
    )
    signs = "Bold: better than all others; ≈: the best, or not distinguished from it."
    legend = f"{section.title}: {what}, over {data.seeds_text()}. {signs}"
    shown = replace(table, blocks=(Block("", rows),), note="")
    return Section(data.score.heading, legend, shown, tuple(more))


def _next_steps(data: ReportData, claimed: bool) -> list[str]:
    odd = sorted({method for method, _ in data.suspicious})
    lost = data.full[~data.full["status"].isin([*frames.MEASURED, "unreachable"])]
    suite = data.suite
    return [
        *([f"suspicious points of {', '.join(odd)}: the sanity checks in table.md say why"] if odd else []),
        *(
            [f"{len(lost.drop_duplicates(frames.CELL))} cells without a number: eavit-bench status {suite}"]
            if len(lost)
            else []
        ),
        *(
            ["few seeds: with 3 or more in the suite intervals become several times narrower"]
            if data.seed_count < 3
            else []
        ),
        *([f"claims beside the suite, judged: eavit-bench claims {suite}"] if claimed else []),
        f"one page with charts, and all figures: eavit-bench figures {suite}",
        f"the cells behind a number: eavit-bench why {suite} --method METHOD --budget BUDGET",
    ]
