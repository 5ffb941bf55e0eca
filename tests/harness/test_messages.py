"""Text from strangers: printable on one line, whatever it holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.messages import one_line, quoted

text = st.text(st.characters(exclude_categories=[]), max_size=60)


@given(text, st.integers(1, 50))
def test_one_line_is_printable_short_and_no_formula(value: str, limit: int) -> None:
    line = one_line(value, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert not line.startswith(("=", "+", "-", "@"))


@given(text)
def test_a_printable_name_stays_and_another_is_quoted(value: str) -> None:
    assert quoted(value).isprintable()
    assert not value.isprintable() or quoted(value) == value
