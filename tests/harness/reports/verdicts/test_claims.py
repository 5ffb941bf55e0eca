"""Claims: every fault of the file at once; verdicts by hand; what is missing decides nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from example_points import BUDGETS, FULL, example, row, spoil

from harness import suite
from harness.reports.verdicts import claim_file, claims
from harness.reports.verdicts.claims import CAP
from harness.results.results import Results
from harness.suite import Suite

ROOT = Path(__file__).resolve().parents[4]
SETS = tuple(f"set{at}" for at in range(5))


def of(methods=("a", "b"), datasets=("x",), seeds=(0, 1, 2), budgets=(0.5, 1.0)) -> Suite:
    raw = {
        "name": "quick", "budgets": list(budgets), "seeds": list(seeds), "backbone": {"use": "m:f"},
        "input": {"size": 8, "channels": 1},
        "datasets": [{"name": name, "source": "folder", "path": name} for name in datasets],
        "methods": [{"use": f"m:{name}", "name": name} for name in methods],
    }  # fmt: skip
    return suite.parse(raw, "quick.toml")


def points(given: Suite, leads, base=0.5) -> pd.DataFrame:
    """``leads``: what A has above B, by (data set, seed, budget)."""
    rows = []
    for dataset in given.datasets:
        for seed in given.seeds:
            for budget in given.budgets:
                for method, accuracy in (("a", base + leads(dataset.name, seed, budget)), ("b", base)):
                    rows.append({**row(method, dataset.name, seed, budget, 0.5), "accuracy": accuracy, "classes": 10})
    return pd.DataFrame(rows)


def claim(**values):
    return {"id": "one", "text": "A beats B", "a": "a", "b": "b", "metric": "accuracy", "budget": 0.5, **values}


def judged(given: Suite, found: pd.DataFrame, **values):
    without = [key for key, value in values.items() if value is None]
    entry = {key: value for key, value in claim(**values).items() if key not in without}
    (verdict,) = claims.judge_claims(
        claim_file.parse_claims({"claims": [entry]}, given, "quick.claims.toml"), found, given
    )
    return verdict


def near(mean: float, spread: float = 0.01):
    """Seeds 0, 1, 2 at the mean and a spread to either side."""
    return lambda _dataset, seed, _budget: mean + spread * (seed - 1)


# --- the file -----------------------------------------------------------------------------------------------------


# --- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "by", "outcome"),
    [
        (0.05, 0.02, "supported"),  # the interval is 0.05 ± 0.0248
        (0.05, 0.03, "undecided"),
        (0.05, 0.08, "refuted"),
        (-0.005, -0.05, "supported"),  # not worse by more than 5 points
        (-0.05, 0.0, "refuted"),
    ],
)
def test_verdict_is_where_the_interval_lies(mean, by, outcome):
    given = of()
    found = judged(given, points(given, near(mean)), by=by)
    assert found.outcome == outcome
    assert found.interval.estimate == pytest.approx(mean)
    assert found.interval.half == pytest.approx(4.302652729911275 * 0.01 / 3**0.5)
    assert (found.seeds, found.sets) == (3, 1)


def test_less_turns_the_lead_round():
    given = of()
    found = judged(given, points(given, near(-0.05)), direction="less", by=0.02)
    assert (found.outcome, found.interval.estimate) == ("supported", pytest.approx(0.05))


def test_seeds_needed_are_the_first_that_would_do():
    given = of()
    found = judged(given, points(given, near(0.02, 0.02)))
    assert found.outcome == "undecided"
    from scipy.stats import t

    first = next(n for n in range(4, 100) if t.ppf(0.975, n - 1) * 0.02 / n**0.5 < 0.02)
    assert found.needed == first == 7
    assert judged(given, points(given, near(0.0001, 0.02))).needed == CAP + 1


def test_one_seed_or_no_spread_decides_nothing():
    lone = of(seeds=(0,))
    found = judged(lone, points(lone, near(0.3)))
    assert (found.outcome, found.reason, found.needed, found.interval.low) == ("undecided", "1 seed", None, None)
    tied = judged(of(), points(of(), near(0.3, 0.0)))
    assert (tied.outcome, tied.interval.low) == ("undecided", None)
    assert tied.reason.startswith("no spread")


def test_counted_macs_need_no_spread():
    given = of()
    found = points(given, near(0.0))
    found.loc[found["method"] == "a", "train_macs"] = 1e12
    verdict = judged(given, found, metric="train_macs", budget=None, direction="less")
    assert (verdict.outcome, verdict.interval.kind) == ("supported", "counted")
    assert judged(given, found, metric="train_macs", budget=None).outcome == "refuted"
    assert judged(given, found, metric="macs").outcome == "undecided", "equal is neither above nor below"


def test_all_budgets_means_every_single_one():
    given = of()
    mixed = points(given, lambda _d, seed, budget: (0.2 if budget == 0.5 else -0.1) + 0.01 * (seed - 1))
    assert judged(given, mixed, budget="all").outcome == "refuted"
    assert judged(given, mixed, budget="mean").outcome == "supported"
    weak = points(given, lambda _d, seed, budget: (0.2 if budget == 0.5 else 0.001) + 0.01 * (seed - 1))
    found = judged(given, weak, budget="all")
    assert (found.outcome, found.interval.estimate) == ("undecided", pytest.approx(0.001))
    assert any("budget 1, the worst of 2" in note for note in found.notes)
    assert judged(given, points(given, near(0.2)), budget="all").outcome == "supported"


def test_at_least_k_sets_are_decided_one_by_one():
    given = of(datasets=SETS)
    good = {"set0": 0.3, "set1": 0.3, "set2": 0.3, "set3": 0.0, "set4": -0.3}
    found = points(given, lambda name, seed, _b: good[name] + 0.01 * (seed - 1))
    outcomes = [judged(given, found, at_least=k).outcome for k in (1, 2, 3, 4, 5)]
    assert outcomes == ["supported", "supported", "supported", "undecided", "refuted"]
    assert len(judged(given, found, at_least=3).notes) == 5


def test_at_least_is_corrected_over_sets():
    """Each set alone would be just enough at its own level; five of them are not."""
    given = of(datasets=SETS)
    just = 4.302652729911275 * 0.01 / 3**0.5 * 1.02
    found = points(given, near(just))
    assert judged(given, found, sets=["set0"]).outcome == "supported"
    assert judged(given, found, at_least=1).outcome == "undecided"


def test_sets_like_these_is_wider_than_these_sets():
    given = of(datasets=SETS)
    found = points(given, lambda name, seed, _b: 0.1 * int(name[-1]) - 0.02 + 0.01 * (seed - 1))
    here, like = judged(given, found), judged(given, found, scope="sets like these", by=0.05)
    assert (here.outcome, like.outcome) == ("supported", "undecided")
    assert like.needed == CAP + 1, "more seeds do not make more sets"


def test_area_is_one_number_a_seed():
    given = of()
    found = judged(given, points(given, near(0.1)), metric="area", budget=None)
    assert found.outcome == "supported"
    assert found.interval.n == 3


@pytest.mark.parametrize(
    ("status", "method", "reason"),
    [
        ("oom", "a", "a oom on x (1 of 3 seeds)"),
        ("unreachable", "b", "b unreachable on x (1 of 3 seeds)"),
        (None, "a", "a missing on x (1 of 3 seeds)"),
    ],
)
def test_what_is_missing_decides_nothing(status, method, reason):
    given = of()
    found = points(given, near(0.3))
    gone = (found["method"] == method) & (found["seed"] == 1) & (found["budget"] == 0.5)
    found = found[~gone] if status is None else spoil(found, gone, status)
    verdict = judged(given, found)
    assert (verdict.outcome, verdict.reason, verdict.interval) == ("undecided", reason, None)
    assert judged(given, found, budget=1.0).outcome == "supported", "the other budget is whole"


def test_nothing_at_all():
    verdict = judged(of(), points(of(), near(0.3))[:0])
    assert (verdict.outcome, verdict.reason) == (
        "undecided",
        "a missing on x (3 of 3 seeds); b missing on x (3 of 3 seeds)",
    )


@pytest.mark.parametrize(("key", "value"), [("full_macs", FULL // 2), ("n", 400), ("classes", 7)])
def test_other_yardsticks_are_not_comparable(key, value):
    given = of()
    found = points(given, near(0.3))
    found.loc[found["method"] == "b", key] = value
    verdict = judged(given, found)
    assert verdict.outcome == "undecided"
    assert verdict.reason.startswith(f"not comparable on x: {key} ")


def test_other_suites_points_do_not_count():
    given = of()
    found = points(given, near(0.3))
    other = found.assign(suite="core", accuracy=0.0)
    for both in ([other, found], [found, other]):
        assert judged(given, pd.concat(both)) == judged(given, found)


def test_over_budget_is_a_count():
    given = of()
    found = points(given, near(0.0))
    asked = {"metric": "over_budget", "b": None, "budget": None}
    fine = judged(given, found, **asked)
    assert (fine.outcome, fine.notes[0]) == ("supported", "0 of 6 choices over budget, mean use 98.0%")
    found.loc[(found["method"] == "a") & (found["seed"] == 0) & (found["budget"] == 0.5), ["macs", "status"]] = [
        FULL,
        "failed",
    ]
    assert judged(given, found, **asked).outcome == "refuted"
    missing = points(given, near(0.0))
    assert judged(given, missing[missing["seed"] != 2], **asked).outcome == "undecided"


def test_suspicious_points_are_reported():
    given = of()
    found = points(given, near(0.3))
    found.loc[(found["method"] == "a") & (found["seed"] == 0), "status"] = "suspicious"
    assert judged(given, found).notes == ("1 points are suspicious",)


def test_exit_codes_and_lines():
    given = of()
    yes, no, open_ = (judged(given, points(given, near(m, s))) for m, s in ((0.3, 0.01), (-0.3, 0.01), (0.02, 0.02)))
    assert [claims.claims_exit_code(list(v)) for v in ((yes,), (yes, no, open_), (yes, open_), ())] == [0, 1, 3, 0]
    told = claims.claim_lines((yes, open_))
    assert told[0] == "supported  one: A beats B"
    assert "accuracy at 0.5, a minus b: 30.00 points (95%: 27.52 points to 32.48 points, these sets)" in told[1]
    assert any("seeds a set that would decide it, if means and spreads stay: 7" in line for line in told)
    assert told[-1] == (
        "2 claims: 1 supported, 0 refuted, 1 undecided. Each stands at its own level, uncorrected for their number."
    )


def test_verdicts_do_not_depend_on_the_order_of_rows():
    given = of(methods=("ea_vit", "matformer"), datasets=("digits", "mnist5k"), budgets=BUDGETS)
    found = example(seeds=(0, 1, 2))
    entries = [claim(a="ea_vit", b="matformer", budget=budget, id=str(budget)) for budget in ("all", "mean")]
    read = claim_file.parse_claims({"claims": entries}, given, "q")
    mixed = found.sample(frac=1, random_state=1)
    assert claims.claim_lines(claims.judge_claims(read, mixed, given)) == claims.claim_lines(
        claims.judge_claims(read, found, given)
    )


def test_a_claim_that_is_just_false_is_rarely_supported():
    """The lead is the margin itself: both wrong verdicts together come in about 5 of 100."""
    given, rng, wrong = of(datasets=("x", "y")), np.random.default_rng(0), 0
    base = points(given, near(0.0))
    mine = base["method"] == "a"
    read = claim_file.parse_claims({"claims": [claim()]}, given, "q")
    for _ in range(150):
        drawn = base.assign(accuracy=base["accuracy"].mask(mine, 0.5 + rng.normal(0, 0.02, len(base))))
        wrong += claims.judge_claims(read, drawn, given)[0].outcome != "undecided"
    assert wrong <= 15


def test_the_claims_of_every_suite_are_read_and_those_with_results_judged():
    files = sorted((ROOT / "suites").glob("*.claims.toml"))
    judged = 0
    for path in files:
        given = suite.load(path.with_name(path.name.replace(".claims", "")))
        read = claim_file.load_claims(path, given)
        found = ROOT / "results" / given.name / "points.csv"
        if not found.exists():  # claims are written before the first run
            continue
        verdicts = claims.judge_claims(read, Results.read(found.parent, given).points, given)
        assert [verdict.claim.id for verdict in verdicts] == [entry.id for entry in read]
        assert all(verdict.interval is not None or verdict.notes or verdict.reason for verdict in verdicts)
        judged += 1
    assert judged
