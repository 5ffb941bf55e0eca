"""Verbs on what is kept: changed by a digit, of another recipe, without common points."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import plan, suite
from harness.commands import app
from harness.commands.options import CommandError
from harness.reports.figures import figures

ROOT = Path(__file__).parents[3]
SUITE = str(ROOT / "suites" / "quick.toml")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "results" / "quick", tmp_path / "quick", ignore=shutil.ignore_patterns("cells", "figures"))
    return tmp_path / "quick"


def call(*words: object):
    return CliRunner().invoke(app.app, [str(word) for word in words])


def change(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    at = text.rindex("0.9")
    path.write_text(f"{text[:at]}0.8{text[at + 3 :]}", encoding="utf-8")


def test_a_digit_changed_in_what_is_kept_is_refused_or_warned_of(kept: Path) -> None:
    """Fault 44."""
    results = ("--results", kept.parent)
    assert call("verify", SUITE, *results).exit_code == 0
    change(kept / "points.csv")
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    said = f"{kept / 'points.csv'}: was changed after it was written: its checksum is not the one in SHA256SUMS"
    for verb in ("report", "figures"):
        done = call(verb, SUITE, *results)
        assert isinstance(done.exception, CommandError) and said in str(done.exception)
        assert "nothing was written: `eavit-bench run` writes it again" in str(done.exception)
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
    verified = call("verify", SUITE, *results)
    assert verified.exit_code == 1 and said in verified.stderr
    why = call("why", SUITE, *results, "--method", "ea_vit", "--budget", "0.2")
    assert why.exit_code == 0 and f"warning: {said}" in why.stderr
    for words in (("compare", kept, kept), ("regress", kept, "--baseline", kept), ("claims", SUITE, *results)):
        assert f"warning: {said}" in call(*words).stderr, words


def test_a_table_that_was_changed_is_made_again(kept: Path) -> None:
    call("report", SUITE, "--results", kept.parent)  # the suite may have changed since
    before = (kept / "table.csv").read_bytes()
    change(kept / "table.csv")
    done = call("report", SUITE, "--results", kept.parent)
    assert done.exit_code == 0
    assert "table.csv: was changed after it was written" in done.stderr and "it is written again" in done.stderr
    assert (kept / "table.csv").read_bytes() == before
    assert call("verify", SUITE, "--results", kept.parent).exit_code == 0


def test_what_the_suite_does_not_name_any_more_is_said(kept: Path, tmp_path: Path) -> None:
    other = tmp_path / "quick.toml"
    text = (ROOT / "suites" / "quick.toml").read_text(encoding="utf-8")
    other.write_text(text.replace("epochs = 4.0", "epochs = 5.0"), encoding="utf-8")
    done = call("report", other, "--results", kept.parent)
    rows = len((kept / "points.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert f"No cell has a record yet: {plan.count(suite.load(other))} planned." in done.stdout
    assert f"Not counted: {rows} rows of points.csv" in done.stdout
    claims = tmp_path / "quick.claims.toml"
    claims.write_bytes((ROOT / "suites" / "quick.claims.toml").read_bytes())
    judged = call("claims", other, "--results", kept.parent)
    assert judged.exit_code == 3 and f"not counted: {rows} rows" in judged.stderr


def test_a_folder_of_other_points_is_no_baseline(kept: Path) -> None:
    other = ROOT / "results" / "ablation"
    points = (kept / "points.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (kept / "points.csv").write_text(
        "".join([points[0], *(p for p in points if ",fixed_uniform," in p)]), encoding="utf-8"
    )
    done = call("regress", kept, "--baseline", other)
    assert done.exit_code == 2
    assert "the two have no point in common" in done.stdout


def test_a_report_of_the_same_results_is_not_made_again(kept: Path) -> None:
    first = call("report", SUITE, "--results", kept.parent)
    made = (kept / "table.csv").stat().st_mtime_ns
    again = call("report", SUITE, "--results", kept.parent)
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert (kept / "table.csv").stat().st_mtime_ns == made


def test_figures_that_are_up_to_date_are_not_drawn_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []

    def write_figures(data: object, folder: Path) -> figures.DrawnFigures:
        drawn.append(folder)
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / "one.svg").write_text("drawn")
        return figures.DrawnFigures((folder / "figures" / "one.svg",), (("other", "nothing was measured"),))

    monkeypatch.setattr(figures, "write_figures", write_figures)
    first, second = (call("figures", SUITE, "--results", kept.parent) for _ in range(2))
    assert first.exit_code == 0 and f"{kept / 'figures' / 'one.svg'}\n" in first.stdout
    assert "other is not drawn: nothing was measured" in first.stderr
    assert (second.stdout, second.stderr, drawn) == (first.stdout, first.stderr, [kept])
    (kept / "figures" / "one.svg").write_text("changed")
    assert call("figures", SUITE, "--results", kept.parent).stdout == first.stdout and len(drawn) == 2
