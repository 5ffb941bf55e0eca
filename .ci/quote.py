"""Fill quotations: numbers and tables in prose come from results by this command alone.

A table of FILE, by its heading, stands between `<!-- from FILE: HEADING -->` and `<!-- end -->`. A number stands
between `<!--= QUESTION -->` and `<!--/-->`, where QUESTION is words with blanks between them:

    FILE.csv  COLUMN=VALUE[,VALUE]...  [minus|over COLUMN=VALUE...]  STATISTIC COLUMN [FORM]

Rows are those whose columns have one of the values (numbers as numbers: 0.20 is 0.2). `minus` and `over` ask again
with some conditions changed and take the difference, or the quotient. STATISTIC is `mean` (over rows of each data set,
then over data sets), `min`, `max`, `median`, `sum`, `count` (of rows with a value), or `only` (one value that all rows
share).
FORM: decimals, after `%` (times 100), `k`, `M`, `G` or `T` (divided), with `+` before it to show the sign; alone `%` is
`%1`. Text of `only` is quoted as it is. Nothing is evaluated; what finds no row, or a row without a value, is an error.

    <!--= results/quick/points.csv method=ea_vit budget=0.2 mean accuracy % -->85.2<!--/-->
    <!--= results/quick/points.csv method=ea_vit budget=0.2 minus budget=1 mean accuracy +%1 -->-10.3<!--/-->

`python .ci/quote.py [FILE...]` rewrites; tests/test_repository.py fails when they differ.
"""

from __future__ import annotations

import csv
import io
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUOTE = re.compile(r"<!-- from (?P<file>\S+): (?P<heading>[^>]+?) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)
NUMBER = re.compile(r"<!--= (?P<question>[^>]+?) -->(?P<body>[^<]*)<!--/-->")
FORM = re.compile(r"(?P<sign>\+?)(?P<unit>[%kMGT]?)(?P<places>\d?)")
UNITS = {"": 1.0, "%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
AGAIN = ("minus", "over")
Row = Mapping[str, str]
Read = Callable[[str], str]


class QuestionError(SystemExit):
    """A question that has no answer; a person is told which and why."""


def here(file: str) -> str:
    """A file of the working tree."""
    return (ROOT / file).read_text(encoding="utf-8")


def pages() -> list[str]:
    """What is quoted in, as long as nobody names other files."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found if path.is_file()]


def filled(text: str, read: Read = here) -> str:
    """The text with every quotation as the results that ``read`` gives have it."""

    def quoted(match: re.Match[str]) -> str:
        rows = table(read(match["file"]), match["heading"])
        return f"<!-- from {match['file']}: {match['heading']} -->\n{rows}<!-- end -->"

    def answered(match: re.Match[str]) -> str:
        return f"<!--= {match['question']} -->{answer(match['question'], read)}<!--/-->"

    return NUMBER.sub(answered, QUOTE.sub(quoted, text))


def table(text: str, heading: str) -> str:
    """The first table under a heading of a markdown text."""
    found = re.search(rf"^## {re.escape(heading)}.*?\n\n(?:[^|\n].*?\n\n)*(?P<rows>(?:\|.*\n)+)", text, re.MULTILINE)
    if found is None:
        raise QuestionError(f"there is no table under the heading {heading!r}")
    return found["rows"]


# --- numbers ----------------------------------------------------------------------------------------------------


def answer(question: str, read: Read = here) -> str:
    file, *words = question.split()
    try:
        rows = list(csv.DictReader(io.StringIO(read(file))))
        return _answer(rows, words)
    except (OSError, ValueError) as error:
        raise QuestionError(f"{question}: {error}") from None


def _answer(rows: Sequence[Row], words: Sequence[str]) -> str:
    at = next((place for place, word in enumerate(words) if word in STATISTICS), None)
    if at is None or not 2 <= len(words) - at <= 3:
        raise ValueError(f"needs one of {', '.join(STATISTICS)}, a column, and at most a form")
    statistic, column, *form = words[at:]
    asked, how, other = _conditions(words[:at])
    first = _value(_chosen(rows, asked), statistic, column)
    if how is None:
        return _spelled(first, form)
    second = _value(_chosen(rows, {**asked, **other}), statistic, column)
    if isinstance(first, str) or isinstance(second, str):
        raise ValueError(f"{how} needs numbers, not {first!r} and {second!r}")
    if how == "over" and second == 0:
        raise ValueError("over nothing: the second number is 0")
    return _spelled(first - second if how == "minus" else first / second, form)


def _conditions(words: Sequence[str]) -> tuple[dict[str, str], str | None, dict[str, str]]:
    """What is asked, how the second question is put if there is one, and what is changed in it."""
    turns = [place for place, word in enumerate(words) if word in AGAIN]
    if len(turns) > 1:
        raise ValueError(f"one of {' or '.join(AGAIN)} is enough")
    cut = turns[0] if turns else len(words)
    parts = [dict(_condition(word) for word in part) for part in (words[:cut], words[cut + 1 :])]
    if turns and not parts[1]:
        raise ValueError(f"{words[cut]} what? it needs a condition that is another one")
    return parts[0], words[cut] if turns else None, parts[1]


def _condition(word: str) -> tuple[str, str]:
    column, equals, values = word.partition("=")
    if not equals or not column or not values:
        raise ValueError(f"{word!r} is no condition such as method=ea_vit, nor one of {', '.join(STATISTICS)}")
    return column, values


def _chosen(rows: Sequence[Row], conditions: Mapping[str, str]) -> list[Row]:
    for column in conditions:
        _known(rows, column)
    chosen = [row for row in rows if all(_is(row[column], values) for column, values in conditions.items())]
    if not chosen:
        told = " ".join(f"{column}={values}" for column, values in conditions.items())
        raise ValueError(f"no row has {told}")
    return chosen


def _known(rows: Sequence[Row], column: str) -> None:
    names = list(rows[0]) if rows else []
    if column not in names:
        near = get_close_matches(column, names, n=1)
        raise ValueError(f"there is no column {column!r}" + (f"; nearest: {near[0]}" if near else ""))


def _is(found: str, values: str) -> bool:
    number = _number(found)
    return any(found == value or (number is not None and number == _number(value)) for value in values.split(","))


def _number(text: str) -> float | None:
    """Plain decimals alone: no cell's id, such as 12e45, is a number, nor is the status nan."""
    return float(text) if re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else None


def _value(rows: Sequence[Row], statistic: str, column: str) -> float | str:
    _known(rows, column)
    if statistic == "only":
        return _only(sorted({row[column] for row in rows}), column)
    if statistic == "count":
        return float(sum(bool(row[column]) for row in rows))
    empty = sum(_number(row[column]) is None for row in rows)
    if empty:
        raise ValueError(f"{empty} of {len(rows)} rows have no number in {column}")
    sets: dict[str, list[float]] = {}
    for row in rows:
        sets.setdefault(row.get("dataset", ""), []).append(_number(row[column]) or 0.0)
    return STATISTICS[statistic](list(sets.values()))


def _only(values: Sequence[str], column: str) -> float | str:
    if len(values) != 1 or not values[0]:
        raise ValueError(f"{column} is not one value: {', '.join(map(repr, values[:5]))}")
    number = _number(values[0])
    return values[0] if number is None else number


def _flat(groups: Sequence[Sequence[float]]) -> list[float]:
    return [value for group in groups for value in group]


STATISTICS: Mapping[str, Callable[[Sequence[Sequence[float]]], float]] = {
    "mean": lambda groups: statistics.fmean(statistics.fmean(group) for group in groups),
    "min": lambda groups: min(_flat(groups)),
    "max": lambda groups: max(_flat(groups)),
    "median": lambda groups: statistics.median(_flat(groups)),
    "sum": lambda groups: sum(_flat(groups)),
    "count": lambda groups: float(len(_flat(groups))),
    "only": lambda groups: groups[0][0],
}


def _spelled(value: float | str, form: Sequence[str]) -> str:
    if isinstance(value, str):
        if form:
            raise ValueError(f"{value!r} is no number to be written as {form[0]}")
        return value
    match = FORM.fullmatch(form[0]) if form else FORM.fullmatch("")
    if match is None:
        raise ValueError(f"{form[0]!r} is no form such as 2, %, %0, +%1, M1 or G0")
    places = int(match["places"] or (1 if match["unit"] else 0 if value == round(value) else 2))
    return f"{value / UNITS[match['unit']]:{match['sign']},.{places}f}"


if __name__ == "__main__":
    for name in sys.argv[1:] or pages():
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        if new != text:
            page.write_text(new, encoding="utf-8")
