"""LaTeX is complete and escaped, and marks as Markdown does."""

from __future__ import annotations

import re

import pandas as pd
from example_points import example

from harness.reports.document import latex
from harness.reports.report_data import ReportData
from harness.reports.tables import tables


def to_latex(points: pd.DataFrame) -> str:
    return latex.to_latex(tables.report_page(ReportData("quick", points)))


def test_latex_escapes_names_and_closes_what_it_opens():
    points = example(seeds=(0, 1), methods=("ea_vit",)).replace({"dataset": {"digits": r"50 % & #_{x}\ 漢 ü"}})
    text = to_latex(points)
    assert r"50 \% \& \#\_\{x\}\textbackslash{} [U+6F22] ü" in text
    assert r"\texttt{ea\_vit}" in text
    for name in set(re.findall(r"\\begin\{(\w+)\}", text)):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}")
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert re.search(r"[^\\]%(?!\n)", text) is None


def test_latex_marks_as_the_page_does():
    points = example(seeds=(0, 1, 2, 3, 4), methods=("ea_vit", "slice_untrained"), datasets=("digits",))
    assert re.search(r"\\texttt\{ea\\_vit\} & \\textbf\{9\d\.\d \(\$\\pm\$", to_latex(points))
    assert latex.latex_text("a **b** `c_d` 5 %") == r"a \textbf{b} \texttt{c\_d} 5 \%"
