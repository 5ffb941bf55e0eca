"""Documentation: what its pages say of the code is what the code has."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from harness.results import points

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SHELL = ("error: externally-managed-environment", "python: command not found")  # messages of other programs


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    match = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, heading
    return match[1]


def first_cells(text: str) -> list[str]:
    """Quoted words in the first column of the tables of a text."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def strings_of(package: str) -> str:
    """All literal text of a package, constant parts of f-strings included and joined as they are written."""
    texts = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(getattr(part, "value", "{}") if isinstance(part, ast.Constant) else "{}"
                                     for part in node.values))  # fmt: skip
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.ClassDef):
                texts.append(node.name)
    return "\n".join(texts)


def test_every_column_of_points_is_explained_in_order() -> None:
    named = first_cells(section(page("reports.md"), "Columns of `points.csv`"))
    assert set(named) == set(points.COLUMNS)


def test_every_column_of_differences_is_explained() -> None:
    header = (ROOT / "results/quick/differences.csv").read_text(encoding="utf-8").splitlines()[0]
    named = first_cells(section(page("reports.md"), "Columns of `differences.csv`"))
    assert named == header.split(",")


def test_messages_of_the_troubleshooting_page_are_in_the_code() -> None:
    code = strings_of("eavit") + strings_of("harness") + (ROOT / ".ci/bench.py").read_text(encoding="utf-8")
    messages = [word for word in first_cells(page("troubleshooting.md")) if word not in SHELL]
    assert len(messages) > 30
    assert [message for message in messages if message not in code] == []


@pytest.mark.parametrize("suite", sorted(path.stem for path in (ROOT / "suites").glob("*[a-z].toml")))
def test_every_suite_is_on_the_page_of_suites(suite: str) -> None:
    if not suite.endswith(".claims"):
        assert f"`{suite}`" in page("suites.md")


def test_every_method_of_a_suite_is_among_the_terms() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "suites").glob("*.toml")]
    used = {name for text in texts for name in re.findall(r'use = "eavit\.methods:(\w+)"', text)}
    assert len(used) > 12 and used <= set(first_cells(section(page("terms.md"), "Methods")))


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))], ids=lambda p: p.name
)
def test_every_row_of_a_table_follows_its_head(path: Path) -> None:
    """Rows after a blank line are no table: they are shown as text with bars."""
    lines = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL).splitlines()
    first = [at for at, line in enumerate(lines) if line.startswith("|") and not lines[at - 1].startswith("|")]
    assert [lines[at] for at in first if not re.fullmatch(r"[|\s:-]+", lines[at + 1])] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = page("index.md")
    names = sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")
    assert [name for name in names if not re.search(rf"^{name}$", contents, re.MULTILINE)] == []


def test_the_version_to_cite_is_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
