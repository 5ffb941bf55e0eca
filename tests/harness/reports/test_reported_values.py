"""Figures of papers and cards of methods are kept apart from measurements."""

from __future__ import annotations

import pytest
from example_points import example

from tests.harness.reports.tables.shown_tables import page


def test_reported_figures_stand_apart_with_their_source():
    text = page(
        example(datasets=("digits",), methods=("ea_vit",)),
        reported={"x.csv": "# title: Top-1\n# source: A paper, 2025\nmethod,c10\nTheirs,12.34\n"},
    )
    assert text.count("12.34") == 1
    section = text.split("## As reported, not measured here: Top-1")[1]
    assert "12.34" in section
    assert "A paper, 2025" in section
    with pytest.raises(ValueError, match="source"):
        page(
            example(datasets=("digits",), methods=("ea_vit",)),
            reported={"x.csv": "# title: Top-1\nmethod,c10\nTheirs,12.34\n"},
        )


def test_cards_of_the_methods_there():
    card = {"title": "Elastic", "paper": "P", "parameters": {"tau": [1.0, "code"]}, "ours": ["this"], "deviations": []}
    text = page(example(methods=("ea_vit",)), cards={"ea_vit": card, "unknown": card})
    assert "## Method card: ea_vit" in text
    assert "1.0 (code)" in text
    assert text.count("## Method card") == 1
