"""The page in a real headless Chromium: it draws, filters, compares, and neither complains nor asks for anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from example_points import example, spoil

from tests.harness import browser
from tests.harness.browser import Browser
from tests.harness.made_pages import NASTY, QUICK, made_page, many, quick_page

pytestmark = pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)

MARKS = "return document.querySelectorAll(`figure[data-set='${arguments[0]}'] svg .mark-symbol path`).length"
LINES = "return document.querySelectorAll(`figure[data-set='${arguments[0]}'] svg .mark-line path`).length"
FIGURES = "return [...document.querySelectorAll('#panels figure')].map((one) => one.dataset.set)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "quick.html"
    path.write_text(quick_page(), encoding="utf-8")
    return path


@pytest.fixture
def shown(chromium, quick) -> Iterator[Browser]:
    """The quick suite's page; whatever a test did to it, nothing may have been complained of or asked for."""
    chromium.open(quick)
    yield chromium
    assert chromium.complaints() == []
    assert chromium.requests() == [quick.as_uri()]


def test_every_panel_is_drawn_with_its_marks(shown):
    assert shown.run(FIGURES) == ["0", "1", "-1"]
    # 23 means a set (matformer reaches 3 of 5 budgets) and 46 single seeds; the mean over sets has no seeds
    assert [shown.run(MARKS, at) for at in (0, 1, -1)] == [69, 69, 23]
    assert [shown.run(LINES, at) for at in (0, 1, -1)] == [5, 5, 5]
    assert "matformer unreachable at 20" in shown.run("return document.querySelector('#panels figure').textContent")


def test_filters_change_what_is_shown_and_say_so(shown):
    shown.choose("m", 1, False)
    assert [shown.run(MARKS, at) for at in (0, -1)] == [60, 20]
    assert shown.text("shown-points") == "Shown: 4 of 5 methods, 2 data sets, 5 budgets; 60 means."
    shown.choose("b", 0, False)
    assert shown.run(MARKS, 0) == 48
    assert "of 64" in shown.text("points-table")
    shown.choose("d", 0, False)
    assert shown.run(FIGURES) == ["1"]  # a mean of one set is no mean
    shown.redrawn("document.getElementById('seeds').click()")
    assert shown.run(MARKS, 1) == 16
    shown.redrawn("document.querySelector('[data-none=m]').click()")
    assert shown.text("shown-points").startswith("Nothing to show for 0 methods")
    shown.redrawn("document.querySelector('[data-all=m]').click()")
    assert shown.run(MARKS, 1) == 19


def test_every_metric_and_scale_draws(shown):
    for metric in ("use", "latency", "params", "area", "train_macs", "train_seconds", "accuracy"):
        shown.redrawn(
            "const one = document.getElementById('metric'); one.value = arguments[0];"
            "one.dispatchEvent(new Event('change', {bubbles: true}))", metric,
        )  # fmt: skip
        assert shown.run(MARKS, 0) >= 15, metric
        assert shown.run("return document.getElementById('scale').disabled") == (metric != "accuracy")
    labels = "return document.querySelector('#panels svg').textContent"
    assert "error on a log scale" in shown.run(labels)
    shown.redrawn(
        "const one = document.getElementById('scale'); one.value = 'linear';"
        "one.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    assert "error on a log scale" not in shown.run(labels)


def test_two_methods_are_compared_and_turned_round(shown):
    shown.pick("pair-b", 2)
    shown.until("return document.getElementById('pair-summary').textContent.startsWith('ea_vit minus slice_untrained')")
    told = shown.text("pair-tables").replace("\u00a0", " ")
    assert "+9.30 (+1.63 to +16.98)" in told  # as `eavit-bench claims` says
    assert "4 pairs" not in told and "2 pairs" in told
    shown.until("return document.querySelectorAll('#pair-chart svg .mark-symbol path').length === 5")
    shown.pick("pair-a", 2)
    shown.until("return document.getElementById('pair-summary').textContent === 'Choose two different methods.'")
    shown.pick("pair-b", 0)
    shown.until("return document.getElementById('pair-summary').textContent.startsWith('slice_untrained minus ea_vit')")
    assert "−9.30 (−16.98 to −1.63)" in shown.text("pair-tables")


def test_a_point_is_reported_in_full_by_pointer(shown):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    mark = shown.driver.find_elements(By.CSS_SELECTOR, "figure[data-set='0'] svg .mark-symbol path")[-1]
    shown.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", mark)
    hover = ActionChains(shown.driver).move_to_element_with_offset(mark, 40, 40).move_to_element(mark)
    hover.perform()
    shown.until("return !document.getElementById('tip').hidden", again=hover.perform)  # a move may precede the layout
    assert "fixed_uniform" in shown.text("tip")
    ActionChains(shown.driver).move_to_element(mark).click().perform()
    shown.until("return !document.getElementById('details').hidden")
    told = shown.text("details")
    assert "eavit-bench run quick --method fixed_uniform --dataset digits --seed 0" in told
    assert "1d07350171ef71b8fbd6f7bead06594a11eabae9" in told and "6d2d6c549181454f" in told
    assert "Wilson 95 %" in told


def test_the_keyboard_reaches_everything(shown):
    from selenium.webdriver.common.keys import Keys

    where = "const at = document.activeElement; return at.id || at.name || at.textContent.trim().slice(0, 40)"
    shown.press(Keys.TAB)
    assert shown.run(where) == "Skip to the results"
    assert shown.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    shown.press(Keys.ENTER)
    seen = []
    for _ in range(4):
        shown.press(Keys.TAB)
        seen.append(shown.run(where))
    assert seen[:3] == ["metric", "scale", "seeds"]
    before = shown.run(MARKS, 0)
    shown.run("document.querySelector('#filters input[name=m]').focus()")
    shown.press(Keys.SPACE)
    shown.until(
        "return document.querySelectorAll(\"figure[data-set='0'] svg .mark-symbol path\").length < arguments[0]", before
    )
    shown.run("document.querySelector('#points-table td button').focus()")
    shown.press(Keys.ENTER)
    assert shown.run(where) == "details"
    assert "eavit-bench run" in shown.text("details")
    shown.press(Keys.ESCAPE)
    assert shown.run("return document.getElementById('details').hidden")
    assert shown.run(where) == "show"


def test_points_are_sorted_and_paged(shown):
    first = "return document.querySelector('#points-table tbody tr').textContent"
    shown.run("document.querySelectorAll('#points-table thead button')[5].click()")
    assert (
        shown.run("return document.querySelectorAll('#points-table thead th')[5].getAttribute('aria-sort')")
        == "ascending"
    )
    assert "slice_untrained" in shown.run(first)
    shown.run("document.getElementById('points-on').click()")
    assert "Points 26 to 50 of 100" in shown.text("points-table")


def test_what_a_screen_reader_needs_is_there(shown):
    faults = shown.run("""
        const faults = [];
        const named = (one) => one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim();
        for (const one of document.querySelectorAll('button, input, select, a')) {
            if (!named(one)) faults.push(one.outerHTML);
        }
        for (const one of document.querySelectorAll('table')) {
            if (!one.caption?.textContent.trim()) faults.push('table without caption');
            if (!one.querySelector('thead th[scope=col]')) faults.push('table without heads');
        }
        for (const one of document.querySelectorAll('.chart')) if (!named(one)) faults.push('chart');
        for (const one of document.querySelectorAll('section')) {
            if (!document.getElementById(one.getAttribute('aria-labelledby'))) faults.push('section ' + one.id);
        }
        const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
        if (new Set(ids).size !== ids.length) faults.push('an id twice');
        const levels = [...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]));
        if (levels.some((level, at) => at && level > levels[at - 1] + 1)) faults.push('a level of headings left out');
        return faults;""")
    assert faults == []
    roles = (
        "return ['main', 'nav', 'header', 'footer', '[aria-live]'].map((one) => document.querySelectorAll(one).length)"
    )
    assert all(shown.run(roles))


CONTRAST = """
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const light = (colour) => {
        canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const style = getComputedStyle(document.documentElement), paper = light(style.getPropertyValue('--paper'));
    return arguments[0].map((name) => {
        const [a, b] = [light(style.getPropertyValue(name)), paper].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    });"""


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_have_enough_contrast(chromium, quick, dark):
    chromium.open(quick, dark=dark)
    text = ["--ink", "--soft", "--accent", "--good", "--bad", "--open"]
    assert min(chromium.run(CONTRAST, text)) >= 4.5
    assert min(chromium.run(CONTRAST, [f"--c{at}" for at in range(8)])) >= 3
    paper = chromium.run("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") != dark
    ink = chromium.run("return getComputedStyle(document.querySelector('.role-axis-label text')).fill")
    assert (ink == "rgb(28, 33, 38)") != dark  # charts follow without being drawn again


def test_a_phone_never_scrolls_sideways(chromium, quick, tmp_path):
    wide = tmp_path / "wide.html"
    wide.write_text(made_page(example(datasets=("digits", NASTY))), encoding="utf-8")
    for path in (quick, wide):
        chromium.open(path, width=390)
        chromium.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert chromium.run("return document.documentElement.scrollWidth") <= 390
        assert chromium.run("return document.querySelector('#panels svg').getBoundingClientRect().right") <= 390
        assert chromium.complaints() == []
    assert "<script>alert(1)" in chromium.text("charts")  # as text
    assert chromium.run("return document.querySelectorAll('script').length") == 3


def test_on_paper_everything_is_open_and_light(chromium, quick):
    chromium.open(quick, dark=True)
    closed = "return document.querySelectorAll('details:not([open])').length"
    before = chromium.run(closed)
    assert before
    chromium.run("window.dispatchEvent(new Event('beforeprint'))")
    assert chromium.run(closed) == 0
    chromium.screen(1280, dark=True, media="print")
    assert chromium.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    visible = "return [...arguments[0]].map((one) => getComputedStyle(document.querySelector(one)).display)"
    assert chromium.run(visible, ["nav", ".selects", "#points"]) == ["none"] * 3
    assert "none" not in chromium.run(visible, [".boxes[data-group=m]", "#numbers", "#panels svg"])
    chromium.run("window.dispatchEvent(new Event('afterprint'))")
    assert chromium.run(closed) == before
    made = chromium.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(made["data"]) > 50_000


def test_pages_without_results_or_with_one_seed_open(chromium, tmp_path):
    whole = example(seeds=(0,))
    frames = {
        "one": whole,
        "none": spoil(whole, whole["seed"] == 0, "nan", "loss is nan"),
        "empty": whole.iloc[:0],
        "bare": whole.assign(full_macs=float("nan"), latency_ms=float("nan")),
    }
    for name, frame in frames.items():
        path = tmp_path / f"{name}.html"
        path.write_text(made_page(frame, QUICK), encoding="utf-8")
        chromium.open(path)
        assert chromium.complaints() == [], name
        assert chromium.requests() == [path.as_uri()]
        expected = {"one": "Shown: 5 methods", "bare": "Shown: 5 methods"}.get(name, "Nothing to show")
        assert chromium.text("shown-points").startswith(expected), name


def test_two_thousand_cells_open_and_filter_in_seconds(chromium, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(made_page(many()), encoding="utf-8")
    chromium.open(path)
    assert chromium.run("return document.querySelectorAll('#panels figure').length") == 11
    assert not chromium.run("return document.getElementById('seeds').checked")
    chromium.choose("m", 0, False)
    assert chromium.run(MARKS, 3) == 35, "8 methods are shown, and one was taken out"
    assert chromium.complaints() == []


def test_of_many_methods_the_most_accurate_are_shown_first(chromium, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(made_page(many(14, 2, 2)), encoding="utf-8")
    chromium.open(path)
    assert chromium.text("shown-points").startswith("Shown: 8 of 14 methods")
    ticked = "return [...document.querySelectorAll('input[name=m]:checked')].map((one) => Number(one.value))"
    assert chromium.run(ticked) == [0, *range(7, 14)], "the suite's first one or two, then the most accurate"
    chromium.redrawn("document.querySelector('[data-all=m]').click()")
    assert chromium.text("shown-points").startswith("Shown: 14 methods")
