"""LaTeX is complete and escaped, and marks as Markdown does."""

from __future__ import annotations

import re
import shutil
import subprocess

import pandas as pd
import pytest
from example_points import example

from harness.reports.document import latex
from harness.reports.report_data import ReportData
from harness.reports.tables import tables


def typeset(points: pd.DataFrame) -> latex.Latex:
    return latex.to_latex(tables.report_page(ReportData("quick", points)), "tex")


def to_latex(points: pd.DataFrame) -> str:
    """The report and all that it takes in, without the comments."""
    found = typeset(points)
    return re.sub(r"(?m)^% .*\n", "", "\n".join([found.report, *found.fragments.values()]))


def test_latex_escapes_names_and_closes_what_it_opens():
    points = example(seeds=(0, 1), methods=("ea_vit",)).replace({"dataset": {"digits": r"50 % & #_{x}\ 漢 ü"}})
    text = to_latex(points)
    assert r"50 \% \& \#\_\{x\}\textbackslash{} [U+6F22] ü" in text
    assert r"\texttt{ea\_vit}" in text
    for name in set(re.findall(r"\\begin\{(\w+)\}", text)):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}")
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert re.search(r"[^\\]%(?!\n)", text) is None


def test_a_fragment_is_one_table_without_preamble_and_the_report_takes_each_in_once():
    found = typeset(example(seeds=(0, 1, 2), methods=("ea_vit", "matformer")))
    assert {"digits.tex", "mnist5k.tex", "mean-over-data-sets.tex", "cost-of-training.tex"} <= found.fragments.keys()
    for name, text in found.fragments.items():
        assert found.report.count(rf"\input{{tex/{name}}}") == 1
        assert text.count(r"\begin{tabular}") == 1
        assert r"\documentclass" not in text
        assert r"\usepackage" not in re.sub(r"(?m)^%.*", "", text)
        columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
        assert columns is not None
        body = text[text.index(r"\toprule") :]
        rows = [row for row in body.splitlines() if row.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns[1]) - 1}


def test_two_tables_of_one_name_are_two_files():
    points = example(seeds=(0, 1), methods=("ea_vit",)).replace({"dataset": {"digits": "漢", "mnist5k": "字"}})
    assert {"table.tex", "table-2.tex"} <= typeset(points).fragments.keys()


PDFLATEX = shutil.which("pdflatex") or shutil.which("tectonic")


@pytest.mark.skipif(PDFLATEX is None, reason="needs pdflatex (Debian: texlive-latex-recommended) or tectonic")
def test_the_report_compiles(tmp_path):
    found = typeset(example(seeds=(0, 1), methods=("ea_vit", "matformer")))
    (tmp_path / "tex").mkdir()
    (tmp_path / "report.tex").write_text(found.report, encoding="utf-8")
    for name, text in found.fragments.items():
        (tmp_path / "tex" / name).write_text(text, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in str(PDFLATEX) else []
    done = subprocess.run([str(PDFLATEX), *options, "report.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_latex_marks_as_the_page_does():
    points = example(seeds=(0, 1, 2, 3, 4), methods=("ea_vit", "slice_untrained"), datasets=("digits",))
    assert re.search(r"\\texttt\{ea\\_vit\} & \\textbf\{9\d\.\d \(\$\\pm\$", to_latex(points))
    assert latex.latex_text("a **b** `c_d` 5 %") == r"a \textbf{b} \texttt{c\_d} 5 \%"
