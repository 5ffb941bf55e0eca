"""The page as a file: complete, byte-stable, safe, of bounded size. What a browser makes of it: test_page_browser.

It is built from golden/quick, a run of the quick suite as it was once: a new run of the suite is no other test.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from example_points import BUDGETS, example, row, spoil

from harness import plan, suite
from harness.reports.page import page, page_data, provenance
from harness.reports.sanity import Rung
from harness.reports.verdicts import claims
from harness.results import points
from harness.statistics import frames
from tests.harness import small

ROOT = Path(__file__).parents[2]
RAN = Path(__file__).parent / "golden" / "quick"
QUICK = suite.load(ROOT / "suites" / "quick.toml")
NASTY = "<script>alert(1)</script>\"'`${x} & --> ü " + "ж" * 260


def built(folder: Path, frame: pd.DataFrame, of=QUICK, planned: int = 20, verdicts=None) -> str:
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "points.csv", index=False)
    return page.build(folder, of, planned, verdicts).decode("utf-8")


def quick_page() -> str:
    found = frames.read_points(RAN / "points.csv")
    judged = claims.judge(claims.load(ROOT / "suites/quick.claims.toml", QUICK), found, QUICK)
    return page.build(RAN, QUICK, 20, judged).decode("utf-8")


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
    for part in ("charts", "compare", "claims", "numbers", "points", "cost", "ladder", "failures", "provenance"):
        assert ("section", part) in [(tag, given.get("id")) for tag, given in seen.found]
    for words in ("20 of 20 cells", "equal steps", "1d07350171ef", "ea_vit", "88.7 % (± 22.6)", "within-budget",
                  "matformer on digits at 20 %, 40 %", "6dc264b7f16b61b2", "all phases"):  # fmt: skip
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


def test_the_same_inputs_give_the_same_bytes_in_any_order_of_rows(tmp_path):
    frame = example()
    frame = spoil(frame, (frame["method"] == "matformer") & (frame["budget"] == 0.2), "unreachable", "none")
    mixed = frame.sample(frac=1, random_state=3)
    first, second = built(tmp_path / "a", frame), built(tmp_path / "b", mixed)
    assert first == second == built(tmp_path / "a", frame)
    changed = frame.assign(correct=frame["correct"].where(frame.index != 7, 1))
    assert built(tmp_path / "c", changed) != first  # or the two above say nothing


def test_the_order_of_records_does_not_matter_and_no_date_is_told(tmp_path):
    lines = (RAN / "records.jsonl").read_text().splitlines(keepends=True)
    frame = frames.read_points(RAN / "points.csv")
    pages = []
    for name, order in (("a", lines), ("b", lines[::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text("".join(order))
        pages.append(built(tmp_path / name, frame))
    assert pages[0] == pages[1]
    started = json.loads(lines[0])["started"]
    assert started[:10] not in pages[0]


def test_what_records_say_is_data_and_never_markup(tmp_path):
    frame = example(datasets=("digits", NASTY))
    frame = spoil(frame, (frame["dataset"] == NASTY) & (frame["budget"] == 0.4), "failed", f"</script></td>{NASTY}")
    frame.loc[0, "key"] = "</script><img src=x onerror=alert(2)>"
    (tmp_path / "cards.json").write_text(
        json.dumps({"ea_vit": {"title": NASTY, "parameters": {NASTY: [NASTY, "paper"]}}})
    )
    text = built(tmp_path, frame)
    seen = Seen(text)
    assert len(seen.scripts) == 3
    assert not [tag for tag, _ in seen.found if tag in ("img", "iframe", "object", "link", "base")]
    assert "<script>alert" not in text
    assert NASTY in seen.text
    data = data_of(text)
    assert NASTY in data["datasets"]
    assert "</script><img src=x onerror=alert(2)>" in data["words"]
    assert provenance.command("quick", "ea_vit", NASTY, 0) in seen.text


def test_without_a_result_the_page_says_so_and_tells_why(tmp_path):
    frame = spoil(example(), pd.Series(True, index=example().index), "oom", "9 GiB asked for")
    text = Seen(built(tmp_path, frame)).text
    assert "No cell has succeeded" in text
    assert "0 of 20 cells; 20 oom" in text
    assert "9 GiB asked for" in text
    assert "No cell has a number." in text


def test_without_any_point_every_planned_cell_is_missing(tmp_path):
    text = Seen(built(tmp_path, example().iloc[:0])).text
    assert "No cell has succeeded" in text
    assert "0 of 20 cells; 20 missing" in text
    assert "eavit-bench run suites/quick.toml --method ea_vit --dataset digits --seed 0" in text


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    text = built(tmp_path, example(seeds=(0,)), planned=10)
    assert "One seed: an interval over seeds cannot be given" in text
    assert {*data_of(text)["means"]["lo"]} == {None}
    assert "± " not in Seen(text).text
    assert "n/a" in Seen(text).text


@pytest.mark.parametrize("column", ["latency_ms", "correct", "full_macs", "reason", "cell"])
def test_a_missing_column_is_said_and_the_rest_is_shown(tmp_path, column):
    text = built(tmp_path, example().drop(columns=column))
    assert f"points.csv lacks the columns {column}" in text
    assert "95.9" in text or "96." in text


def test_points_without_budgets_are_refused_by_name(tmp_path):
    with pytest.raises(page.PageError, match=r"points\.csv: not a table of points, without the columns budget"):
        built(tmp_path, example().drop(columns="budget"))


def test_missing_cells_give_a_denominator_a_command_and_bounds(tmp_path):
    frame = example()
    gone = (frame["method"] == "ea_vit") & (frame["dataset"] == "digits") & (frame["seed"] == 1)
    text = Seen(built(tmp_path, frame[~gone])).text
    assert "19 of 20 cells; 1 missing" in text
    assert "eavit-bench run suites/quick.toml --method ea_vit --dataset digits --seed 1" in text
    assert "Worst-case bounds" in text
    assert "Worst-case bounds" not in Seen(built(tmp_path, frame)).text


def test_means_and_differences_are_those_of_stats(tmp_path):
    frame = example(seeds=(0, 1, 2))
    data = data_of(built(tmp_path, frame))
    means = data["means"]
    place = next(
        i for i in range(len(means["k"]))
        if (means["k"][i], means["m"][i], means["d"][i], means["b"][i]) == (0, 0, 0, 1)
    )  # fmt: skip
    told = frames.summary(frame).set_index(["method", "dataset", "budget"]).loc[("ea_vit", "digits", 0.4)]
    found = [means[key][place] for key in ("y", "lo", "hi", "x")]
    assert found == pytest.approx(told[["mean", "low", "high", "macs"]].tolist(), rel=1e-5)
    compared, rows = data["compare"], data["compare"]["rows"]
    pair = compared["pairs"].index([0, 1])
    at = next(i for i, key in enumerate(zip(rows["p"], rows["b"], rows["d"], strict=True)) if key == (pair, 1, -1))
    expected = frames.compare(frame, "ea_vit", "matformer", 0.4, np.random.default_rng(0)).these
    assert [rows[key][at] for key in ("y", "lo", "hi")] == pytest.approx(
        [expected.estimate, expected.low, expected.high], rel=1e-5
    )


def test_without_records_there_is_no_provenance_and_with_them_their_ledger(tmp_path):
    text = Seen(built(tmp_path, example())).text
    assert "records.jsonl is not there" in text
    assert "No ledger was kept." in text
    of = small.suite()
    cells = plan.cells(of, small.prints(of))
    found = {one.id: small.record_of(one) for one in cells}
    points.write_records(tmp_path / "r" / "records.jsonl", cells, found)
    points.write(tmp_path / "r" / "points.csv", points.rows(cells, found))
    told = Seen(page.build(tmp_path / "r", of, len(cells)).decode()).text
    assert "all phases" in told
    assert "3 T" in told
    assert "Digests of the code" in told


def test_rungs_of_the_ladder_are_counted_and_the_failed_ones_told(tmp_path):
    example().to_csv(tmp_path / "points.csv", index=False)
    rungs = [
        Rung("above chance", "passed", "ea_vit", "digits", 0, "ab"),
        Rung("above chance", "failed", "ea_vit", "digits", 1, "cd", 0.2, "0.1 is <b>chance</b>"),
    ]
    text = page.build(tmp_path, QUICK, 20, None, rungs).decode()
    assert "1 passed, 1 failed" in Seen(text).text
    assert "digits 1 20 % 0.1 is <b>chance</b>" in Seen(text.replace("</td><td>", "</td> <td>")).text
    assert "<b>chance" not in text


def many(methods: int = 10, datasets: int = 10, seeds: int = 20) -> pd.DataFrame:
    """2,000 cells with submodels that never repeat."""
    rng, rows = np.random.default_rng(0), []
    for m in range(methods):
        for d in range(datasets):
            for s in range(seeds):
                for b in BUDGETS:
                    one = row(f"method_{m}", f"set {d}", s, b, 0.9 + m * 0.005 - d * 0.01 - (1 - b) ** 2 * 0.2)
                    widths = rng.integers(0, 9, 24)
                    heads, mlp = (".".join(map(str, part)) for part in (widths[:12], widths[12:] * 48))
                    rows.append({**one, "key": f"e768-h{heads}-m{mlp}", "macs": one["macs"] - int(rng.integers(1e5))})
    return pd.DataFrame(rows)


def test_two_thousand_cells_stay_under_six_megabytes(tmp_path):
    text = built(tmp_path, many(), QUICK.model_copy(update={"methods": (), "datasets": ()}), planned=2000)
    assert 1_500_000 < len(text.encode()) < 6_000_000
    assert len(data_of(text)["points"]["m"]) == 10_000


def test_numbers_are_short_and_never_nan():
    assert page_data.numbers([0.123456789, 5e12, float("nan"), None, 3.0]) == [
        0.123457,
        5_000_000_000_000,
        None,
        None,
        3,
    ]


def test_the_hash_is_that_of_the_policys_specification():
    assert page._hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
