"""The overview that commands print: short whatever the suite, and it says where to look next."""

from __future__ import annotations

import pandas as pd

from tests.harness import small
from tests.harness.reports.test_report import POINTS, build, folder


def test_the_overview_is_one_table_of_at_most_30_lines_and_what_to_look_at_next(tmp_path):
    names = [f"method_{at}" for at in range(40)]
    of = small.suite(
        methods=[{"use": f"{small.FAKES}:steady", "name": name, "options": {"a": at}} for at, name in enumerate(names)],
        seeds=[0, 1],
        budgets=[0.2, 0.4, 0.6, 0.8, 1.0],
    )
    points = pd.concat([POINTS.assign(method=name, cell=f"{at:016x}") for at, name in enumerate(names)])
    overview = build(folder(tmp_path / "small", points), of).overview
    table, _, after = overview.partition("Look at next:")
    assert len(table.splitlines()) <= 30
    assert table.count("\n| `method_") == 16
    assert "24 more methods in table.md" in table
    assert "eavit-bench why small --method METHOD" in after
    assert "eavit-bench figures small" in after
    assert "eavit-bench claims" not in after
