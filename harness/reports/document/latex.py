"""A report as LaTeX with booktabs, to be compiled as it is or taken apart: one ``table`` a section.

Characters that pdflatex has no font for are written as U+XXXX, so that a name in any script never stops a paper.
"""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

from harness.reports.document.blocks import Entry, Page, Section, Table

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
LONG = 80  # characters from which a column is broken into lines
CODE = re.compile(r"`([^`]*)`")
STRONG = re.compile(r"\*\*([^*]*)\*\*")


def to_latex(page: Page) -> str:
    """Complete: ``pdflatex table.tex`` needs nothing else."""
    head = f"\\section*{{{latex_escaped(page.title)}}}\n{_list(page.points)}"
    return OPENING + "\n".join([head, *map(_section, page.sections)]) + "\\end{document}\n"


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


def _section(section: Section) -> str:
    lines = [f"\\subsection*{{{latex_escaped(section.title)}}}"]
    lines += [latex_text(section.text), ""] if section.text else []
    lines += [latex_table(section.table, section.title)] if section.table is not None else []
    return "\n".join([*lines, _list(section.points)])


def _list(points: tuple[str, ...]) -> str:
    if not points:
        return ""
    return "\n".join([r"\begin{itemize}", *(rf"\item {latex_text(point)}" for point in points), r"\end{itemize}", ""])


def latex_table(shown: Table, title: str) -> str:
    """Write a table with its title and its source below it."""
    # A Styler wants names of columns that differ, a page may have two alike.
    frame = pd.DataFrame([[_place(entry) for entry in row] for row in shown.rows], columns=range(len(shown.head)))
    styler = frame.style.hide(axis="index").format_index(
        lambda at: latex_escaped(shown.head[int(str(at))]), axis="columns"
    )
    body = str(styler.to_latex(hrules=True, column_format="".join(_column(shown, at) for at in range(len(shown.head)))))
    scaled = f"\\resizebox{{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}}{{!}}{{%\n{body}}}\n"
    source = f"\n\\smallskip\n{{\\footnotesize {latex_text(shown.note)}\\par}}\n" if shown.note else ""
    caption = f"\\begin{{table}}[!htb]\n\\centering\n\\caption{{{latex_escaped(title)}}}\n"
    return f"{caption}{scaled}{source}\\end{{table}}\n\\clearpage\n"  # TeX holds few tables that wait for a place


def _column(shown: Table, at: int) -> str:
    if any(len(row[at].text) > LONG for row in shown.rows):
        return r"p{0.6\textwidth}"
    return "l" if at < shown.left else "r"


def _place(entry: Entry) -> str:
    return LOOKS[entry.look].format(latex_escaped(entry.text))
