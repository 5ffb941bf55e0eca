"""The page as a file: complete, byte-stable, safe, of bounded size. What a browser makes of it: test_page_browser.

It is built from golden/quick, a run of the quick suite as it was once: a new run of the suite is no other test.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from example_points import example, spoil

from harness.reports import appearance, report
from harness.reports.page import page, page_data, sections
from harness.reports.paired_differences import difference
from harness.reports.report_data import ReportData
from harness.reports.sanity import SanityCheck
from harness.results import points
from harness.statistics import frames
from tests.harness import small
from tests.harness.made_pages import NASTY, QUICK, RAN, made_page, many, quick_page, suite_of


@pytest.fixture(scope="module")
def quick() -> str:
    return quick_page()


class Seen(HTMLParser):
    """Elements, their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.words.append(data)

    def handle_endtag(self, tag):
        self.inside = ""

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\u00a0", " ").split())


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1))


def test_the_quick_page_has_every_part_and_stays_small(quick):
    seen = Seen(quick)
    for part in ("charts", "compare", "claims", "numbers", "points", "cost", "checks", "failures", "provenance"):
        assert ("section", part) in [(tag, given.get("id")) for tag, given in seen.found]
    for words in (
        *("20 of 20 cells complete", "equal steps", "1d07350171ef", "ea_vit", "88.7 (2 seeds)", "within-budget"),
        *("unreachable, matformer on digits at 20 %, 40 %", "6dc264b7f16b61b2", "all phases", "Sanity checks"),
    ):
        assert words in seen.text, words
    assert len(quick.encode()) < 2_000_000


def test_the_policy_allows_exactly_what_the_file_holds(quick):
    seen = Seen(quick)
    policy = next(g["content"] for t, g in seen.found if g.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy
    style = re.search(r"<style>(.*?)</style>", quick, re.S).group(1)
    scripts = [text for text in seen.scripts if not text.startswith("{")]
    assert len(scripts) == 2
    assert all(page._hash(text) in policy for text in (*scripts, style))
    assert "\r" not in "".join(scripts)  # a browser reads it as a line feed: another hash
    asking = {"src", "href", "srcset", "action", "data", "style", "onclick", "background", "poster"}
    for tag, given in seen.found:
        for key in asking & given.keys():
            assert (tag, key) == ("a", "href") and given[key].startswith("#"), (tag, given)


def test_the_same_inputs_give_the_same_bytes_in_any_order_of_rows():
    frame = example()
    frame = spoil(frame, (frame["method"] == "matformer") & (frame["budget"] == 0.2), "unreachable", "none")
    mixed = frame.sample(frac=1, random_state=3)
    first, second = made_page(frame, QUICK), made_page(mixed, QUICK)
    assert first == second == made_page(frame, QUICK)
    changed = frame.assign(correct=frame["correct"].where(frame.index != 7, 1))
    assert made_page(changed, QUICK) != first  # or the two above say nothing


def test_the_order_of_records_does_not_matter_and_no_date_is_reported(tmp_path):
    lines = (RAN / "records.jsonl").read_text().splitlines(keepends=True)
    pages = []
    for name, order in (("a", lines), ("b", lines[::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text("".join(order))
        (tmp_path / name / "points.csv").write_bytes((RAN / "points.csv").read_bytes())
        report.write_report(tmp_path / name, QUICK, RAN / "none.toml", ("page",))
        pages.append((tmp_path / name / "report.html").read_text())
    assert pages[0] == pages[1]
    started = json.loads(lines[0])["started"]
    assert started[:10] not in pages[0]


def test_what_records_say_is_data_and_never_markup():
    frame = example(datasets=("digits", NASTY))
    frame = spoil(frame, (frame["dataset"] == NASTY) & (frame["budget"] == 0.4), "failed", f"</script></td>{NASTY}")
    frame.loc[0, "key"] = "</script><img src=x onerror=alert(2)>"
    cards = {"ea_vit": {"title": NASTY, "parameters": {NASTY: [NASTY, "paper"]}}}
    text = made_page(frame, cards=cards)
    seen = Seen(text)
    assert len(seen.scripts) == 3
    assert not [tag for tag, _ in seen.found if tag in ("img", "iframe", "object", "link", "base")]
    assert "<script>alert" not in text
    assert NASTY in seen.text
    data = data_of(text)
    assert NASTY in data["datasets"]
    assert "</script><img src=x onerror=alert(2)>" in data["words"]
    assert sections.rerun("quick", "ea_vit", NASTY, "0") in seen.text


def test_without_a_result_the_page_says_so_and_tells_why():
    frame = spoil(example(), pd.Series(True, index=example().index), "oom", "9 GiB asked for")
    text = Seen(made_page(frame, QUICK)).text
    assert "No cell has succeeded" in text
    assert "0 of 20 cells complete; 20 oom" in text
    assert "9 GiB asked for" in text


def test_without_any_point_every_planned_cell_is_missing():
    text = Seen(made_page(example().iloc[:0], QUICK)).text
    assert "No cell has succeeded" in text
    assert "No cell has a number." in text
    assert "0 of 20 cells complete; 20 missing" in text
    assert "eavit-bench run quick --method ea_vit --dataset digits --seed 0" in text


def test_one_seed_has_no_interval_and_says_so():
    text = made_page(example(seeds=(0,)))
    assert "One seed: an interval over seeds cannot be given" in text
    assert {*data_of(text)["means"]["lo"]} == {None}
    assert not re.search(r"± ?\d", Seen(text).text)
    assert "n/a" in Seen(text).text


@pytest.mark.parametrize("column", ["latency_ms", "full_macs", "reason", "classes"])
def test_a_missing_column_is_said_and_the_rest_is_shown(tmp_path, column):
    example().assign(**dict.fromkeys(set(points.COLUMNS) - {*example()})).drop(columns=column).to_csv(
        tmp_path / "points.csv", index=False
    )
    report.write_report(tmp_path, QUICK, RAN / "none.toml", ("page",))
    text = (tmp_path / "report.html").read_text()
    assert f"points.csv lacks the columns {column}:" in text
    assert "95.9" in text or "96." in text


def test_missing_cells_give_a_denominator_a_command_and_bounds():
    frame = example()
    gone = (frame["method"] == "ea_vit") & (frame["dataset"] == "digits") & (frame["seed"] == 1)
    text = Seen(made_page(frame[~gone], QUICK)).text
    assert "19 of 20 cells complete; 1 missing" in text
    assert "eavit-bench run quick --method ea_vit --dataset digits --seed 1" in text
    assert "Bounds of what is absent" in text
    assert "Bounds of what is absent" not in Seen(made_page(frame, QUICK)).text


def test_means_and_differences_are_those_of_the_tables():
    frame = example(seeds=(0, 1, 2))
    data = data_of(made_page(frame))
    means = data["means"]
    place = next(
        i for i in range(len(means["k"]))
        if (means["k"][i], means["m"][i], means["d"][i], means["b"][i]) == (0, 0, 0, 1)
    )  # fmt: skip
    told = frames.accuracy_summary(frame).set_index(["method", "dataset", "budget"]).loc[("ea_vit", "digits", 0.4)]
    found = [means[key][place] for key in ("y", "lo", "hi", "x")]
    assert found == pytest.approx(told[["mean", "low", "high", "macs"]].tolist(), rel=1e-5)
    compared, rows = data["compare"], data["compare"]["rows"]
    pair = compared["pairs"].index([0, 1])
    at = next(i for i, key in enumerate(zip(rows["p"], rows["b"], rows["d"], strict=True)) if key == (pair, 1, -1))
    expected = difference(ReportData("quick", frame), "ea_vit", "matformer", 0.4).these_sets()
    assert [rows[key][at] for key in ("y", "lo", "hi")] == pytest.approx(
        [expected.estimate, expected.low, expected.high], rel=1e-5
    )
    like = next(i for i, key in enumerate(zip(rows["p"], rows["b"], rows["d"], strict=True)) if key == (pair, 1, -2))
    assert (rows["lo"][like], rows["hi"][like]) == (None, None), "as the tables: 2 sets say little of others"
    assert data["words"][rows["why"][like]].startswith("2 sets; with fewer than 6")
    assert {*compared["tests"]["a"]} == {None}


def test_methods_look_as_in_the_figures():
    """Numbers on the page are places in the suite, looks go by name."""
    frame = example(methods=("matformer", "ea_vit", "slice_untrained"))
    text = made_page(frame)
    data = data_of(text)
    assert data["methods"] == ["matformer", "ea_vit", "slice_untrained"]
    one, path = appearance.appearances(data["methods"])["ea_vit"], appearance.MARKERS[0][1]
    assert (one.colour, one.path) == (0, path)
    (scale,) = {
        json.dumps(layer["encoding"]["shape"]["scale"]) for layer in data["specs"]["accuracy"]["layer"]
        if "shape" in layer["encoding"]
    }  # fmt: skip
    assert json.loads(scale)["range"] == [appearance.MARKERS[at][1] for at in (1, 0, 2)]
    assert f"--c0: {appearance.COLOURS[0]};" in text and f"--c0: {appearance.ON_DARK[0]};" in text


def test_methods_that_did_not_run_change_no_look_and_are_named_without_markdown():
    frame = example(methods=("matformer", "ea_vit", "slice_untrained"))
    of = suite_of(frame)
    looks = dict(zip([method.name for method in of.methods], page_data.names(of, ("ea_vit",)).looks, strict=True))
    assert looks == {"matformer": 0, "slice_untrained": 1, "ea_vit": 2}
    assert "Not run: ea_vit." in Seen(made_page(frame[frame["method"] != "ea_vit"], of)).text


def test_without_records_there_is_no_provenance_and_with_them_their_ledger(tmp_path):
    text = Seen(made_page(example())).text
    assert "No record is kept of these points" in text
    assert "No ledger was kept." in text
    of = small.suite()
    cells = small.cells(of)
    found = {one.id: small.record_of(one) for one in cells}
    points.write_records(tmp_path / "records.jsonl", cells, found)
    points.write_points(tmp_path / "points.csv", points.point_rows(cells, found))
    report.write_report(tmp_path, of, tmp_path / "small.toml", ("page",))
    shown = Seen((tmp_path / "report.html").read_text()).text
    assert "all phases" in shown
    assert "3 T" in shown
    assert "Digests of the code" in shown


def test_sanity_checks_are_counted_and_the_failed_ones_listed():
    checks = (
        SanityCheck("above chance", "passed", "ea_vit", "digits", 0, "ab"),
        SanityCheck("above chance", "failed", "ea_vit", "digits", 1, "cd", 0.2, "0.1 is <b>chance</b>"),
    )
    text = made_page(example(), QUICK, checks=checks)
    assert "1 of 2" in Seen(text).text
    assert "failed: above chance, ea_vit on digits, seed 1 (cd): 0.1 is &lt;b&gt;chance" in text
    assert "<b>chance" not in text


def test_rows_that_the_plan_does_not_name_are_separated():
    frame = example()
    text = Seen(made_page(frame[frame.method == "ea_vit"], unplanned=frame[frame.method == "matformer"])).text
    assert "Not counted: 20 rows of points.csv, of cells that the suite no longer names" in text


def test_two_thousand_cells_stay_under_six_megabytes():
    text = made_page(many())
    assert 1_500_000 < len(text.encode()) < 6_000_000
    assert len(data_of(text)["points"]["m"]) == 10_000


def test_numbers_are_short_and_never_nan():
    assert page_data.short_numbers([0.123456789, 5e12, float("nan"), None, 3.0]) == [
        0.123457,
        5_000_000_000_000,
        None,
        None,
        3,
    ]


def test_the_hash_is_that_of_the_policys_specification():
    assert page._hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
