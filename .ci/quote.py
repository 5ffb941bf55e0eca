"""Fill quotations: what stands between `<!-- from FILE: HEADING -->` and `<!-- end -->` is a table of FILE.

Numbers in prose come from results by this command alone; tests/test_repository.py fails when they differ.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUOTE = re.compile(r"<!-- from (?P<file>\S+): (?P<heading>[^>]+?) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)


def here(file: str) -> str:
    """A file of the working tree."""
    return (ROOT / file).read_text(encoding="utf-8")


def table(text: str, heading: str) -> str:
    """The first table under a heading of a markdown text."""
    found = re.search(rf"^## {re.escape(heading)}.*?\n\n(?:[^|\n].*?\n\n)*(?P<rows>(?:\|.*\n)+)", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"there is no table under the heading {heading!r}")
    return found["rows"]


def filled(text: str, read: Callable[[str], str] = here) -> str:
    """The text with every quotation as the results that ``read`` gives have it."""

    def quoted(match: re.Match[str]) -> str:
        rows = table(read(match["file"]), match["heading"])
        return f"<!-- from {match['file']}: {match['heading']} -->\n{rows}<!-- end -->"

    return QUOTE.sub(quoted, text)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["README.md", "docs/log.md"]:
        page = ROOT / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
