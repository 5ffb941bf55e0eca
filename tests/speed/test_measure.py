import json
from pathlib import Path

import numpy as np
import pytest

from tests.speed import measure
from tests.speed.backbones import BACKBONES, submodels
from tests.speed.timing import cpu_seconds, ratio
from tests.speed.training import Row


def test_speed_of_a_sketch_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert measure.main(["--backbone", "sketch", "--rounds", "1", "--out", str(tmp_path)]) == 0
    path = next(tmp_path.glob("*.json"))
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["machine"].keys() == {"cpu", "cores"}
    rows = report["measured"]["sketch"]["rows"]
    assert {row["what"] for row in rows} == {
        "forward+backward / timm",
        "optimiser step at 20 % / timm",
        "step of micro-batches / steps of one member, same MACs",
        "stage 2 step / stage 1 step, same MACs",
        "search: evaluations / extraction+forward",
        "fit loop / bare loop",
    }
    assert all(row["measured"]["ratio"] > 0 for row in rows)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(rows) + 1
    missed = sum(row["met"] is False for row in rows)
    assert f"{missed} of " in shown[-1]
    table = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    assert sum(line.endswith("| no |") for line in table) == missed
    assert sum(line.endswith("| yes |") for line in table) == sum(row["met"] is True for row in rows)


def test_a_backbone_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        measure.main(["--backbone", "ViT-H"])
    assert "'pico'" in capsys.readouterr().err


def test_no_round_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        measure.main(["--rounds", "0"])
    assert "must be at least 1" in capsys.readouterr().err


def test_what_was_not_measured_keeps_its_rows(tmp_path: Path):
    path, row = tmp_path / "x.json", Row("w", "b", "c", ratio(np.array([2.0]), np.array([1.0])), 1.5)
    for name, rounds in (("pico", 1), ("tiny", 2), ("pico", 3)):
        measure.write(path, name, [row], rounds)
    measured = json.loads(path.read_text(encoding="utf-8"))["measured"]
    assert {name: (one["rounds"], len(one["rows"])) for name, one in measured.items()} == {
        "pico": (3, 1),
        "tiny": (2, 1),
    }
    assert measured["tiny"]["rows"][0]["met"] is False


def test_the_submodels_that_are_timed_differ_and_skip_branches():
    members = submodels(BACKBONES["pico"].vit())
    assert len(set(members.values())) == len(members) >= 8
    assert all(0 in (*member.heads, *member.mlp) for member in members.values())


def test_calls_take_turns_and_short_ones_are_repeated():
    now, order = [0.0], []

    def call(name: str, seconds: float) -> None:
        now[0] += seconds
        order.append(name)

    calls = {"long": lambda: call("long", 1.0), "short": lambda: call("short", 0.02)}
    seconds = cpu_seconds(calls, 2, lambda: now[0])
    assert order == ["long", *["short"], "long", *["short"] * 2, *["short"] * 2, "long"]
    assert seconds["long"] == pytest.approx([1, 1])
    assert seconds["short"] == pytest.approx([0.02, 0.02])


def test_a_ratio_is_the_median_of_the_ratios_of_rounds():
    measured = ratio(np.array([2.0, 4.0, 9.0]), np.array([1.0, 4.0, 3.0]))
    assert (measured.ratio, measured.low, measured.high, measured.seconds, measured.of_seconds) == (2, 1.5, 2.5, 4, 3)


@pytest.mark.parametrize(("at_least", "met"), [(False, False), (True, True)])
def test_a_target_is_a_ceiling_or_a_floor(at_least: bool, met: bool):
    measured = ratio(np.array([6.0]), np.array([1.0]))
    assert Row("", "", "", measured, 5.0, at_least).met is met
    assert Row("", "", "", measured, None).met is None
