"""The leaderboard joins suites, with links to the files that are there."""

from __future__ import annotations

from harness.reports import report
from tests.harness.reports.test_report import POINTS, SUITE, build, folder


def test_the_leaderboard_joins_suites_with_links_to_what_is_there(tmp_path):
    build(folder(tmp_path / "small", POINTS))
    nothing = SUITE.model_copy(update={"name": "other", "title": "Nothing <yet>"})
    folder(tmp_path / "other", POINTS.iloc[:0])
    suites = {tmp_path / "small.toml": SUITE, tmp_path / "other.toml": nothing}
    path = report.write_leaderboard(tmp_path, suites)
    text = path.read_text(encoding="utf-8")
    assert 'href="small/table.md"' in text
    assert 'href="small/report.html"' not in text, "it was not written"
    assert "<code>steady</code>" in text
    assert "2 of 2 cells complete" in text
    assert "Nothing &lt;yet&gt;" in text
    assert text.count("No cell has a number.") == 1
    assert "<script" not in text
