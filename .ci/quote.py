"""Fill the numbers and tables that README and docs report, from the committed results.

`python .ci/quote.py [FILE...]` rewrites what is between the markers; a test fails when a page differs from the results.

A table: `<!-- from FILE: HEADING -->` and `<!-- end -->` enclose the first table under that heading of a Markdown file.

A number: `<!--= QUESTION -->` and `<!--/-->` enclose the answer to a question of these words:

    FILE.csv  [COLUMN=VALUE[,VALUE]...]...  [over COLUMN=VALUE...]  STATISTIC COLUMN [FORM]

- The conditions select rows; numbers are compared as numbers, so that 0.20 equals 0.2. `over` divides by the answer to
  the same question with these conditions changed.
- STATISTIC: `mean` (over the rows of each data set, then over data sets), `min`, `max`, `sum`, `count` (rows with a
  value), or `only` (the value of the one row selected).
- FORM: the number of decimals, after `%` (times 100) or `G` (divided by 1e9); a leading `+` shows the sign.

    <!--= results/quick/points.csv method=ea_vit budget=0.2 mean accuracy %1 -->85.2<!--/-->
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(?P<start><!-- from (?P<file>\S+): (?P<heading>[^>]+?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"(?P<start><!--= (?P<question>[^>]+?) -->)[^<]*(?P<end><!--/-->)")
QUESTION = re.compile(
    r"(?P<file>\S+\.csv)(?P<where>( \w+=\S+)*)( over(?P<other>( \w+=\S+)+))?"
    r" (?P<statistic>mean|min|max|sum|count|only) (?P<column>\w+)( (?P<sign>\+?)(?P<unit>[%G]?)(?P<decimals>\d?))?"
)
DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?")  # neither a cell's id such as 12e45 nor the status nan
UNITS = {"": 1.0, "%": 0.01, "G": 1e9}
Row = Mapping[str, str]
Read = Callable[[str], str]


class QuestionError(SystemExit):
    """A question without an answer; the message names the question and the reason."""


def from_disk(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def pages() -> list[str]:
    """Pages to fill when the command line names none."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if path.is_file()]


def filled(text: str, read: Read = from_disk) -> str:
    """Text with every table and number as in the results that ``read`` returns."""
    text = TABLE.sub(lambda match: match["start"] + table(read(match["file"]), match["heading"]) + match["end"], text)
    return NUMBER.sub(lambda match: match["start"] + answer(match["question"], read) + match["end"], text)


def table(text: str, heading: str) -> str:
    """First table under a heading of a Markdown text."""
    match = re.search(rf"^## {re.escape(heading)}.*?\n\n(?:[^|\n].*?\n\n)*(?P<rows>(?:\|.*\n)+)", text, re.MULTILINE)
    if match is None:
        raise QuestionError(f"no table under the heading {heading!r}")
    return match["rows"]


def answer(question: str, read: Read = from_disk) -> str:
    """Answer to one question as text; QuestionError if there is none."""
    match = QUESTION.fullmatch(question)
    if match is None:
        raise QuestionError(f"{question}: is not FILE.csv [COLUMN=VALUE]... STATISTIC COLUMN [FORM], see {__file__}")
    try:
        rows = list(csv.DictReader(io.StringIO(read(match["file"]))))
        where, other = (dict(word.split("=", 1) for word in (match[part] or "").split()) for part in ("where", "other"))
        value = _value(rows, where, match["statistic"], match["column"])
        if other:
            value /= _value(rows, where | other, match["statistic"], match["column"])
    except KeyError as error:
        raise QuestionError(f"{question}: no column {error}; columns: {', '.join(rows[0])}") from None
    except (OSError, ValueError, ArithmeticError) as error:
        raise QuestionError(f"{question}: {error}") from None
    unit = match["unit"] or ""
    decimals = match["decimals"] or (1 if unit else 0 if value == round(value) else 2)
    return f"{value / UNITS[unit]:{match['sign'] or ''},.{decimals}f}"


def _value(rows: Sequence[Row], where: Mapping[str, str], statistic: str, column: str) -> float:
    selected = [row for row in rows if all(_is_one_of(row[name], values.split(",")) for name, values in where.items())]
    if not selected:
        raise ValueError(f"no row has {where}")
    if statistic == "count":
        return sum(bool(row[column]) for row in selected)
    if statistic == "only" and len(selected) > 1:
        raise ValueError(f"{len(selected)} rows, `only` needs one")
    groups: dict[str, list[float]] = {}
    for row in selected:
        number = _number(row[column])
        if number is None:
            raise ValueError(f"{row[column]!r} in {column} is not a number")
        groups.setdefault(row["dataset"], []).append(number)
    if statistic in ("mean", "only"):
        return fmean(map(fmean, groups.values()))
    return {"min": min, "max": max, "sum": sum}[statistic](value for group in groups.values() for value in group)


def _is_one_of(text: str, values: Sequence[str]) -> bool:
    number = _number(text)
    return text in values or (number is not None and number in map(_number, values))


def _number(text: str) -> float | None:
    return float(text) if DECIMAL.fullmatch(text) else None


if __name__ == "__main__":
    for name in sys.argv[1:] or pages():
        old = from_disk(name)
        if (new := filled(old)) != old:
            (ROOT / name).write_text(new, encoding="utf-8")
