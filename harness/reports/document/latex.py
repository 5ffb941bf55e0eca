"""A report as LaTeX with booktabs: a file for each table of numbers, and a report to compile that takes them in.

Characters that pdflatex has no font for are written as U+XXXX, so that a name in any script never stops a paper.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count

from harness.reports.document.blocks import Entry, Group, Page, Section, Table, joined_lines

OPENING = r"""\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage[landscape,margin=12mm]{geometry}
\usepackage{booktabs,graphicx}
\setlength{\tabcolsep}{4pt}
\begin{document}
"""
LOOKS = {
    "plain": "{}",
    "code": r"\texttt{{{}}}",
    "best": r"\textbf{{{}}}",
    "tie": r"{} $\approx$",
    "apart": r"{} $\neq$",
}
ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "·": r"\textperiodcentered{}",
    "–": "--",
    "—": "---",
    "’": "'",
    "…": r"\dots{}",
    "−": "$-$",
    "×": r"$\times$",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
FRAGMENT_GROUPS: tuple[Group, ...] = ("numbers", "comparison", "cost", "checks")
LONG = 80  # characters from which a column is broken into lines
CODE = re.compile(r"`([^`]*)`")
STRONG = re.compile(r"\*\*([^*]*)\*\*")


@dataclass(frozen=True, slots=True)
class Latex:
    """``report``: complete, ``pdflatex report.tex`` needs nothing but the fragments beside it. ``fragments``: name of
    a file to one table, which a paper takes in by ``\\input``.
    """

    report: str
    fragments: Mapping[str, str]


def to_latex(page: Page, folder: str) -> Latex:
    """``folder``: of the fragments, relative to that of the report. Tables of text alone stand in the report itself."""
    head = f"\\section*{{{latex_escaped(page.title)}}}\n{_list(page.points)}"
    sections, fragments = [], dict[str, str]()
    for section in page.sections:
        if section.table is not None and section.group in FRAGMENT_GROUPS:
            name = _file_name(section.title, fragments)
            fragments[name] = _fragment(section, f"{folder}/{name}")
            sections.append(_section(section, f"\\input{{{folder}/{name}}}"))
        else:
            sections.append(_section(section, "" if section.table is None else latex_tabular(section.table)))
    return Latex(OPENING + "\n".join([head, *sections]) + "\\end{document}\n", fragments)


def _file_name(title: str, taken: Collection[str]) -> str:
    """Letters, digits and hyphens, which every TeX can open; numbered where two titles give the same."""
    word = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(.*?\)", "", title).lower()).strip("-")[:60] or "table"
    names = (f"{word}.tex" if at == 1 else f"{word}-{at}.tex" for at in count(1))
    return next(name for name in names if name not in taken)


def _fragment(section: Section, place: str) -> str:
    table = section.table or Table((), ())
    about = [joined_lines(section.title), joined_lines(section.text), joined_lines(table.note)]
    use = rf"\begin{{table}}\centering\caption{{...}}\input{{{place}}}\end{{table}}, with \usepackage{{booktabs}}"
    lines = [f"% {line}" for line in (*about, use) if line]
    return "\n".join([*lines, latex_tabular(table)])


def latex_escaped(text: str) -> str:
    plain = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(ESCAPES.get(sign) or _sign(sign) for sign in plain)


def _sign(sign: str) -> str:
    if sign.isascii() or (sign.isalpha() and ord(sign) < 0x180):  # Latin-1 and Latin Extended-A: what T1 has
        return sign
    return f"[U+{ord(sign):04X}]"


def latex_text(text: str) -> str:
    """Text of the page, in which `code` and **strong** are written as in Markdown."""
    parts = CODE.split(text)
    return "".join(rf"\texttt{{{latex_escaped(part)}}}" if at % 2 else _strong(part) for at, part in enumerate(parts))


def _strong(text: str) -> str:
    parts = STRONG.split(text)
    edges = [(" " if part[:1].isspace() else "", " " if part[-1:].isspace() and part.strip() else "") for part in parts]
    pieces = [rf"\textbf{{{latex_escaped(part)}}}" if at % 2 else latex_escaped(part) for at, part in enumerate(parts)]
    return "".join(left + part + right for part, (left, right) in zip(pieces, edges, strict=True))


def _section(section: Section, tabular: str) -> str:
    lines = [f"\\subsection*{{{latex_escaped(section.title)}}}"]
    lines += [latex_text(section.text), ""] if section.text else []
    lines += [_float(section.table, section.title, tabular)] if section.table is not None else []
    return "\n".join([*lines, _list(section.points)])


def _list(points: tuple[str, ...]) -> str:
    if not points:
        return ""
    return "\n".join([r"\begin{itemize}", *(rf"\item {latex_text(point)}" for point in points), r"\end{itemize}", ""])


def _float(shown: Table, title: str, tabular: str) -> str:
    """A table with its title and its source below it, made to fit the page."""
    scaled = f"\\resizebox{{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}}{{!}}{{%\n{tabular}}}\n"
    source = f"\n\\smallskip\n{{\\footnotesize {latex_text(shown.note)}\\par}}\n" if shown.note else ""
    caption = f"\\begin{{table}}[!htb]\n\\centering\n\\caption{{{latex_escaped(title)}}}\n"
    return f"{caption}{scaled}{source}\\end{{table}}\n\\clearpage\n"  # TeX holds few tables that wait for a place


def latex_tabular(shown: Table) -> str:
    """The table alone, by booktabs."""
    columns = "".join(_column(shown, at) for at in range(len(shown.head)))
    head = " & ".join(map(latex_escaped, shown.head))
    rows = [f"{' & '.join(map(_place, row))} \\\\" for row in shown.rows]
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", f"{head} \\\\", r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*lines, "\\end{tabular}", ""])


def _column(shown: Table, at: int) -> str:
    if any(len(row[at].text) > LONG for row in shown.rows):
        return r"p{0.6\textwidth}"
    return "l" if at < shown.left else "r"


def _place(entry: Entry) -> str:
    return LOOKS[entry.look].format(latex_escaped(entry.text))
