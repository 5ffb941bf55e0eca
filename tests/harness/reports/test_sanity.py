from __future__ import annotations

import numpy as np
import pandas as pd
from example_points import FULL, example, row

from harness import plan
from harness.evaluation.check_names import BATCHES, CHANCE, DIAGNOSTICS_KEY, GROWING, MAJORITY, OVERFIT, PROBE, SLICED
from harness.evaluation.check_names import FULL as FULL_SIZE
from harness.reports import sanity
from tests.harness import small

N = 500


def bits(correct: int, n: int = N) -> np.ndarray:
    return np.arange(n) < correct


def cell(method: str, *accuracies: float, seed: int = 0, key: str = "") -> list[dict]:
    budgets = np.linspace(1 / len(accuracies), 1, len(accuracies))
    rows = [row(method, "d", seed, float(b), a) for b, a in zip(budgets, accuracies, strict=True)]
    return [{**one, "key": key or f"e{place}", "macs": int(FULL * one["budget"])} for place, one in enumerate(rows)]


def found(rows: list[dict], name: str, method: str = "ea_vit", bitmaps=None, records=None) -> sanity.SanityCheck:
    checks = sanity.run_checks(pd.DataFrame(rows), records or {}, bitmaps or {})
    (check,) = [check for check in checks if (check.name, check.method) == (name, method)]
    return check


def held(rows: list[dict]) -> dict:
    """Nested bitmaps: whoever has fewer right has none right that the other has wrong."""
    return {(one["cell"], one["budget"]): bits(one["correct"]) for one in rows}


# --- full size --------------------------------------------------------------------------------------------------


def test_full_size_as_good_as_the_plain_fine_tune():
    rows = cell("ea_vit", 0.90) + cell("fixed_uniform", 0.90)
    assert found(rows, FULL_SIZE).outcome == "passed"
    assert found(rows, FULL_SIZE, "fixed_uniform").outcome == "passed"


def test_full_size_far_below_fails_with_the_numbers():
    check = found(cell("ea_vit", 0.16) + cell("fixed_uniform", 0.95), FULL_SIZE)
    assert (check.outcome, check.budget) == ("failed", 1.0)
    assert "-79.0 points" in check.why


def test_a_full_size_below_its_linear_probe_is_flagged():
    """As when too high a learning rate wrecks the pretrained features."""
    rows = cell("ea_vit", 0.62) + cell("slice_untrained", 0.81)
    check = found(rows, PROBE)
    assert (check.outcome, check.budget) == ("failed", 1.0) and "-19.0 points" in check.why
    marked = sanity.marked_suspicious(pd.DataFrame(rows), [check])
    assert marked.set_index("method")["status"].to_dict() == {"ea_vit": "suspicious", "slice_untrained": "ok"}
    assert found(cell("ea_vit", 0.82) + cell("slice_untrained", 0.81), PROBE).outcome == "passed"
    assert found(rows, PROBE, "slice_untrained").why == "it is the linear probe"
    assert "no slice_untrained" in found(cell("ea_vit", 0.62), PROBE).why


def test_pairs_of_images_see_what_counts_cannot():
    """Three points on 500 images: alone noise; but all 15 images lost and none won is none."""
    rows = cell("ea_vit", 0.87) + cell("fixed_uniform", 0.90)
    assert found(rows, FULL_SIZE).outcome == "undecided"
    assert found(rows, FULL_SIZE, bitmaps=held(rows)).outcome == "failed"


def test_a_loss_within_a_point_is_shown_or_left_open():
    rows = cell("ea_vit", 0.898) + cell("fixed_uniform", 0.90)
    assert found(rows, FULL_SIZE).outcome == "undecided"
    assert found(rows, FULL_SIZE, bitmaps=held(rows)).outcome == "passed"


def test_what_cannot_be_compared_is_not_run():
    assert "no fixed_uniform" in found(cell("ea_vit", 0.9), FULL_SIZE).why
    apart = cell("ea_vit", 0.9) + cell("fixed_uniform", 0.9, seed=1)
    assert found(apart, FULL_SIZE).outcome == "not run"
    rows = cell("ea_vit", 0.5) + cell("fixed_uniform", 0.9)
    rows[0]["macs"] = FULL // 2
    assert found(rows, FULL_SIZE).why == "its choice at the full budget has 50 % of the full size"


# --- growing ----------------------------------------------------------------------------------------------------


def test_a_curve_that_grows_or_falls_within_noise_passes():
    assert found(cell("ea_vit", 0.5, 0.7, 0.9), GROWING).outcome == "passed"
    assert found(cell("ea_vit", 0.88, 0.90, 0.89), GROWING).outcome == "passed"


def test_a_fall_beyond_noise_fails_at_the_larger_budget():
    check = found(cell("ea_vit", 0.5, 0.9, 0.8), GROWING)
    assert (check.outcome, check.budget) == ("failed", 1.0)
    assert "-10.0 points from budget 0.666667 to 1" in check.why


def test_a_slow_fall_is_seen_although_no_step_is():
    assert found(cell("ea_vit", 0.92, 0.90, 0.88, 0.86, 0.84), GROWING).outcome == "failed"


def test_pairs_of_images_see_smaller_falls():
    rows = cell("ea_vit", 0.5, 0.90, 0.88)
    assert found(rows, GROWING).outcome == "passed"
    assert found(rows, GROWING, bitmaps=held(rows)).outcome == "failed"


def test_one_choice_for_all_budgets_cannot_fall():
    assert found(cell("ea_vit", 0.9, 0.9, key="e1"), GROWING).outcome == "not run"


def test_noise_alone_rarely_fails():
    """Cells of five equal choices on the same images: at most 5 % may fail, by the level of all pairs together."""
    rng, failed = np.random.default_rng(0), 0
    for seed in range(150):
        rows = cell("ea_vit", *[0.9] * 5, seed=seed)
        maps = {(one["cell"], one["budget"]): rng.random(N) < 0.9 for one in rows}
        for one in rows:
            one["correct"] = int(maps[one["cell"], one["budget"]].sum())
        failed += found(rows, GROWING, bitmaps=maps).outcome == "failed"
    assert failed / 150 < 0.08


# --- what the cell says -----------------------------------------------------------------------------------------


def test_checks_of_the_cell_are_read_from_its_reasons():
    rows = cell("ea_vit", 0.1, 0.9)
    rows[0] |= {"status": "suspicious", "reason": "accuracy 0.1 is not above chance 0.1; predictions differ between "
                "batch 1 and 64"}  # fmt: skip
    assert (found(rows, CHANCE).outcome, found(rows, CHANCE).why) == ("failed", "accuracy 0.1 is not above chance 0.1")
    assert found(rows, BATCHES).budget == 0.5
    assert found(rows, OVERFIT).outcome == "not run"


def test_checks_that_need_weights_are_read_from_the_record():
    suite = small.suite()
    planned = plan.cells(suite, small.prints(suite))[0]
    kept = small.record_of(planned).model_copy(
        update={"diagnostics": {DIAGNOSTICS_KEY: {OVERFIT: "", SLICED: "logits differ"}}}
    )
    rows = [{**one, "cell": planned.id} for one in cell("ea_vit", 0.9)]
    checks = {check.name: check for check in sanity.run_checks(pd.DataFrame(rows), {planned.id: kept}, {})}
    assert checks[OVERFIT].outcome == "passed"
    assert (checks[SLICED].outcome, checks[SLICED].why) == ("failed", "logits differ")


def test_failed_checks_make_points_suspicious_and_nothing_else_changes():
    points = pd.DataFrame(cell("ea_vit", 0.5, 0.9, 0.8) + cell("matformer", 0.5, 0.6, 0.7))
    marked = sanity.marked_suspicious(points, sanity.run_checks(points, {}, {}))
    assert marked["status"].tolist() == ["ok", "ok", "suspicious", "ok", "ok", "ok"]
    assert GROWING in marked["reason"].iloc[2]
    assert points["status"].eq("ok").all()
    same = [column for column in points if column not in ("status", "reason")]
    pd.testing.assert_frame_equal(marked[same], points[same])


def test_order_of_points_does_not_matter():
    points = example(seeds=(0, 1))
    assert sanity.run_checks(points.sample(frac=1, random_state=1), {}, {}) == sanity.run_checks(points, {}, {})


def test_a_score_of_the_whole_split_has_no_images_to_compare():
    rows = [{**one, "correct": float("nan")} for name in ("fixed_uniform", "ea_vit") for one in cell(name, 0.9, 0.5)]
    for name in (FULL_SIZE, GROWING, MAJORITY):
        check = found(rows, name)
        assert (check.outcome, check.why) == ("not run", "the score is of the whole split: no image is right or wrong")
    assert found(rows, CHANCE).outcome == "passed"
