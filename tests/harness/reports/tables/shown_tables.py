"""Tables as text, and single rows of them."""

from __future__ import annotations

import pandas as pd

from harness.reports.document import markdown
from harness.reports.report_data import ReportData
from harness.reports.tables import tables


def page(points: pd.DataFrame, **about: object) -> str:
    return to_markdown(ReportData("quick", points, **about))


def to_markdown(data: ReportData) -> str:
    return markdown.to_markdown(tables.report_page(data))


def line(text: str, method: str, section: str) -> list[str]:
    """Cells of a method's row in a section."""
    body = text.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    found = next(row for row in body.splitlines() if row.startswith(f"| `{method}`"))
    return [cell.strip() for cell in found.strip("|").split(" | ")]
