"""Pages for tests: of golden/quick, a run of the quick suite as it was once, and of made-up points."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from example_points import BUDGETS, row

from harness import suite
from harness.reports import report
from harness.reports.page import page
from harness.reports.report_data import ReportData
from harness.reports.tables import tables
from harness.suite import Suite

RAN = Path(__file__).parent / "golden" / "quick"
QUICK = suite.load(RAN / "quick.toml")
NASTY = "<script>alert(1)</script>\"'`${x} & --> ü " + "ж" * 260


def quick_data() -> ReportData:
    return report.read_report_data(RAN, QUICK)


def quick_page() -> str:
    data = quick_data()
    judged = report.claims_for_page(data, QUICK, RAN / "quick.toml")
    return page.render_page(data, QUICK, tables.report_page(data), judged).decode("utf-8")


def suite_of(points: pd.DataFrame, of: Suite = QUICK) -> Suite:
    """The suite with the methods and data sets of the points."""
    methods = [of.methods[0].model_copy(update={"name": name}) for name in points["method"].unique()]
    sets = [of.datasets[0].model_copy(update={"name": name}) for name in points["dataset"].unique()]
    seeds = tuple(int(seed) for seed in sorted(points["seed"].unique()))
    return of.model_copy(update={"methods": tuple(methods), "datasets": tuple(sets), "seeds": seeds})


def made_page(points: pd.DataFrame, of: Suite | None = None, **about: object) -> str:
    """``of``: the suite whose cells are planned; without one, that of the points."""
    of = of or (suite_of(points) if len(points) else QUICK)
    planned = product((m.name for m in of.methods), (d.name for d in of.datasets), of.seeds)
    data = ReportData(
        of.name,
        points,
        planned=frozenset(planned),
        reference=of.methods[0].name,
        leading=(of.methods[0].name,),
        **about,
    )
    return page.render_page(data, of, tables.report_page(data)).decode("utf-8")


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
