"""A report as Markdown: aligned tables, and text that cannot break out of them."""

from harness.reports.document import markdown
from harness.reports.document.blocks import Entry, Page, Section, table


def test_a_table_is_aligned_and_marks_are_shown():
    rows = [[Entry("a", "code"), Entry("95.3", "best")], [Entry("bc", "code"), Entry("9.1", "tie")]]
    text = markdown.to_markdown(Page("Title", ("point",), (Section("One", "Words.", table(["method", "20 %"], rows)),)))
    assert text == (
        "# Title\n\n- point\n\n## One\n\nWords.\n\n"
        "| method |     20 % |\n| ------ | -------: |\n| `a`    | **95.3** |\n| `bc`   |    9.1 ≈ |\n"
    )


def test_text_stays_inside_its_line():
    hostile = "a\n# b | c <script>"
    text = markdown.to_markdown(Page(hostile, (hostile,), (Section(hostile, hostile, table(["x"], [[hostile]])),)))
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# a # b \\| c &lt;script>",
        "## a # b \\| c &lt;script>",
    ]
    assert "<script>" not in text
