"""Cost of training, use of budgets and break-even."""

from __future__ import annotations

import pandas as pd
from example_points import example, row

from harness import plan
from harness.results.record import PhaseCost
from tests.harness import small
from tests.harness.reports.tables.shown_tables import line, page


def test_cost_use_and_cells():
    points = example()
    points.loc[(points.method == "ea_vit") & (points.budget == 0.2), "macs"] = 2_000_001
    text = page(points)
    assert line(text, "ea_vit", "Cost of training")[1:] == ["digits", "4,100", "31.2", "2 of 2"]
    assert line(text, "ea_vit", "Use of budgets")[1:] == ["100.0", "98.0", "98.0", "98.0", "98.0", "4"]
    assert line(text, "matformer", "Use of budgets")[-1] == "0"
    for cell in points["cell"].unique():
        assert text.count(f"`{cell}`") == 1


def test_break_even_sets_families_against_models_alone():
    points = example(methods=("ea_vit", "fixed_uniform"))
    points.loc[points.method == "ea_vit", "train_macs"] /= 2
    found = line(page(points), "ea_vit", "Break-even")
    assert found[1:3] == ["`fixed_uniform`", "from 3 sizes (3 to 3)"]  # 5 sizes cost 1, the family 0.5: more than 2.5
    assert "## Break-even" not in page(example(methods=("ea_vit", "matformer")))


def test_records_tell_commit_phases_resumed_cells_and_what_a_method_is():
    suite = small.suite(seeds=[0, 1], methods=[{"name": "plain", "use": "a.b:fixed_uniform"}, {"use": "a.b:elastic"}])
    records, rows = {}, []
    for cell in plan.cells(suite, small.prints(suite)):
        record = small.record_of(cell)
        search = {"search": PhaseCost(seconds=1, forward_macs=5e9)} if cell.method == "elastic" else {}
        about = {**record.environment, "commit": "0123456789abcdef+changes"}
        attempts = 2 if cell.seed == 0 and search else 1
        changed = {"ledger": {**record.ledger, **search}, "environment": about, "attempts": attempts}
        records[cell.id] = record.model_copy(update=changed)
        rows += [{**row(cell.method, "digits", cell.seed, b, 0.9), "cell": cell.id} for b in suite.budgets]
    text = page(pd.DataFrame(rows), records=records)
    assert "- Commit: 0123456789ab+changes." in text
    assert line(text, "elastic", "Cost of training")[3] == "31.2, 1 resumed"
    assert line(text, "elastic", "Cost by phase")[1:] == ["digits", "3,000", "3,000", "5"]
    assert line(text, "plain", "Cost by phase")[1:] == ["digits", "3,000", "3,000", "–"]
    assert line(text, "elastic", "Break-even")[1] == "`plain`"
