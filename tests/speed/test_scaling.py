"""The scaling program times what it names, and its powers are those of the values it writes."""

import pandas as pd
import pytest

from tests.faults.speed import Took
from tests.speed import scaling


def test_a_factor_is_measured_drawn_and_tabled(tmp_path, monkeypatch):
    small = {n: scaling.Size(channels=64, layers=n, side=2, images=1) for n in (2, 4)}
    monkeypatch.setitem(scaling.FACTORS, "layers", ("layers", small))
    assert scaling.main(["--only", "layers", "--rounds", "1", "--out", str(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "scaling.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.csv", "scaling.png", "table.md"}
    assert found["value"].tolist() == [2, 2, 4, 4]
    assert (found["seconds"] > 0).all()
    full, part = (found[found["what"] == what] for what in found["what"].unique())
    assert (part["macs"].to_numpy() <= 0.4 * full["macs"].to_numpy()).all()
    assert scaling.table(found) == (tmp_path / "table.md").read_text()


def test_each_report_of_cells_is_a_first_one(monkeypatch):
    there = []

    def bench(place, verb, suite):
        table = place / "results" / suite.removesuffix(".toml") / "table.md"
        there.append((verb, table.exists()))
        table.parent.mkdir(parents=True, exist_ok=True)
        table.touch()
        return Took(wall=0.0, cpu=2.0 if verb == "report" else 1.0)

    monkeypatch.setattr(scaling, "bench", bench)
    monkeypatch.setattr(scaling, "fill", lambda place, suite: None)
    planned, reported = scaling.commands([100], rounds=2)
    assert [exists for verb, exists in there if verb == "report"] == [False, False]
    assert [(row["what"], row["seconds"]) for row in (planned, reported)] == [("plan", 1.0), ("report", 2.0)]


def test_the_power_is_that_of_the_two_largest_values():
    rows = pd.DataFrame({"value": [1, 10, 100], "seconds": [5.0, 1.0, 100.0]})
    assert scaling.exponent(rows) == pytest.approx(2.0)
