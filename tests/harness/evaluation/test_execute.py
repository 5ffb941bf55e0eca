"""One cell: frozen before tested, counted and doubted; every way to fail becomes a status."""

from __future__ import annotations

import csv
import errno
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import code_digest
from harness.data import loading, samples
from harness.evaluation import execute, measure
from harness.evaluation.execute import ProgressFile, run_cell
from harness.jobs.job import Job, JobFolder
from harness.results import cell_files, points
from harness.results.cell_files import Outcome
from harness.suite import Suite
from harness.sweep import cell_job
from harness.sweep.cell_job import ENTRY, CellJob
from tests.harness import fakes, small
from tests.harness.small import FAKES
from tests.harness.sweep.stub_sweeps import cells_of

BUDGETS = [0.01, 0.25, 0.3, 1.0]


@pytest.fixture(autouse=True)
def same_globals() -> Any:
    """A cell settles the globals of its process; here that process is the test's."""
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.random.set_rng_state(state)
    torch.use_deterministic_algorithms(False)


def cell(tmp_path: Path, method: str, changes: dict[str, Any] | None = None, **options: Any) -> Outcome:
    methods = [{"use": f"{FAKES}:{method}", "options": options}]
    suite = small.suite(**{"methods": methods, "budgets": BUDGETS, "grid": 0, **(changes or {})})
    task = CellJob(cell=cells_of(suite)[-1], suite=suite, given={}, commit="abc")
    return run_cell(task, tmp_path, lambda phase, done, total: None)


def answers(outcome: Outcome) -> list[tuple[str, str | None]]:
    return [(point.status, point.key) for point in outcome.record.points]


def test_a_cell_is_counted_and_tested(tmp_path: Path) -> None:
    outcome = cell(tmp_path, "steady")
    record = outcome.record
    assert (record.status, record.reason) == ("ok", "")
    assert answers(outcome) == [("unreachable", None), ("ok", "w8"), ("ok", "w8"), ("ok", "w32")]
    assert record.full_macs == 32 * (64 + 10)
    assert [point.macs for point in record.points] == [None, 8 * 74, 8 * 74, 32 * 74]
    assert [point.params for point in record.points[1:]] == [8 * 74, 8 * 74, 32 * 74]
    assert record.points[3].correct == outcome.correct(1.0).sum() > 60
    assert record.points[3].n == len(outcome.correct(1.0)) == 100
    assert outcome.bitmaps.keys() == {0.25, 0.3, 1.0}
    assert record.ledger["train"].images == 200
    told = {"widths": [2, 8, 16, 32], "loss": "NaN", "share": 0.5}
    assert record.diagnostics == told | {"sanity_ladder": {"one batch can be overfitted": ""}}
    assert record.environment["commit"] == "abc"
    assert record.data["sizes"] == {"fit": 200, "select_a": 30, "select_b": 30, "test": 100}


def test_the_same_cell_twice_is_the_same(tmp_path: Path) -> None:
    """But for times. The second time after other draws from the global generators."""

    def timeless(outcome: Outcome) -> tuple[Any, ...]:
        points = [point.model_copy(update={"latency_ms": None}) for point in outcome.record.points]
        return points, outcome.bitmaps, outcome.record.choice_hash, outcome.record.data

    first = timeless(cell(tmp_path, "steady"))
    torch.rand(7)
    assert timeless(cell(tmp_path, "steady")) == first


def test_an_equal_choice_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    outputs = measure.split_outputs
    monkeypatch.setattr(measure, "split_outputs", lambda *args: calls.append(args) or outputs(*args))
    outcome = cell(tmp_path, "steady")
    assert len(calls) == 2
    assert outcome.bitmaps[0.25] == outcome.bitmaps[0.3]
    assert outcome.record.points[1].latency_ms == outcome.record.points[2].latency_ms


def test_outputs_are_kept_for_a_suite_with_metrics(tmp_path: Path) -> None:
    outcome = cell(tmp_path, "steady", {"metrics": [{"use": "any.where:at_all"}], "grid": 5})
    labels, outputs = cell_files.unpack_outputs(outcome.outputs)
    assert outputs.keys() == {0.25, 0.3, 1.0}
    for budget, logits in outputs.items():
        assert logits.shape == (100, 10)
        assert ((logits.argmax(1) == labels) == outcome.correct(budget)).all()
    assert cell(tmp_path, "steady").outputs == b""


def test_the_area_is_the_mean_over_a_grid_of_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    outputs = measure.split_outputs
    monkeypatch.setattr(measure, "split_outputs", lambda *args: calls.append(args) or outputs(*args))
    record = cell(tmp_path, "steady", {"grid": 5}).record
    assert [(point.status, point.key) for point in record.points][1:] == [("ok", "w8"), ("ok", "w8"), ("ok", "w32")]
    assert [round(point.budget, 4) for point in record.grid] == [0.01, 0.0316, 0.1, 0.3162, 1.0]
    assert [point.key for point in record.grid] == [None, None, "w2", "w8", "w32"]
    assert len(calls) == 3  # each choice once, though w8 and w32 answer budgets of the suite too
    hits = [0.1, 0.1, *(point.correct / point.n for point in record.grid[2:])]
    assert record.area == pytest.approx(sum(hits) / 5)
    known = {point.key: point.correct for point in record.points}
    assert {point.key: point.correct for point in record.grid[3:]} == {key: known[key] for key in ("w8", "w32")}


def test_a_budget_of_the_grid_without_an_answer_costs_the_area_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select = fakes.Family.select

    def only_declared(self: fakes.Family, budget: float) -> Any:
        return select(self, {b: b for b in BUDGETS}[budget])

    monkeypatch.setattr(fakes.Family, "select", only_declared)
    record = cell(tmp_path, "steady", {"grid": 5}).record
    assert (record.status, record.area) == ("ok", None)
    assert [point.status for point in record.grid] == ["unreachable", "failed", "failed", "failed", "ok"]
    assert "no area: 3 of 5 budgets of the grid failed, first 0.0316" in str(record.diagnostics["notes"])


def test_choices_are_frozen_before_the_test_split_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    opened, select = loading.LoadedDataset.test, fakes.Family.select
    monkeypatch.setattr(
        loading.LoadedDataset, "test", lambda self, frozen: events.append(f"test {frozen}") or opened(self, frozen)
    )
    monkeypatch.setattr(fakes.Family, "select", lambda self, b: events.append("select") or select(self, b))
    outcome = cell(tmp_path, "steady")
    assert events == ["select"] * len(BUDGETS) + [f"test {outcome.record.choice_hash}"]


def test_a_choice_over_its_budget_is_excluded(tmp_path: Path) -> None:
    outcome = cell(tmp_path, "greedy")
    assert [point.status for point in outcome.record.points] == ["failed", "failed", "failed", "ok"]
    assert outcome.record.points[1].reason == "over budget: 2368 MACs counted, 592 allowed"
    assert outcome.record.points[1].correct is None
    assert outcome.record.status == "failed"
    assert outcome.bitmaps.keys() == {1.0}


def test_nothing_reachable_is_no_failure_and_opens_no_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.LoadedDataset, "test", lambda self, frozen: pytest.fail("the test split was opened"))
    outcome = cell(tmp_path, "nothing")
    assert outcome.record.status == "unreachable"
    assert {point.status for point in outcome.record.points} == {"unreachable"}


@pytest.mark.parametrize(
    ("method", "status", "reason"),
    [
        (
            "blind",
            "suspicious",
            "budget 0.25: accuracy 0.100 is not above chance 0.100; accuracy 0.100 is not above the",
        ),
        ("moody", "suspicious", "budget 0.25: .*predictions differ between batch 1 and 64"),
        ("infinite", "nan", "budget 0.25: the module's logits hold NaN or infinity"),
    ],
)
def test_suspicions_are_reported(tmp_path: Path, method: str, status: str, reason: str) -> None:
    outcome = cell(tmp_path, method)
    assert outcome.record.status == status
    assert re.search(reason, outcome.record.reason), outcome.record.reason
    assert outcome.record.points[1].status == status
    assert (outcome.record.points[1].correct is None) == (status == "nan")


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("nan", "nan", "loss is nan at step 3"),
        ("memory", "oom", "MemoryError: no more (peak "),
        ("cpu_memory", "oom", "(peak "),
        ("data", "skipped", "data: class 3 is empty"),
        ("leak", "failed", "leak: the test split opens only for"),
        ("value", "failed", "ValueError: no luck in "),
    ],
)
def test_what_a_method_raises_is_a_status(tmp_path: Path, how: str, status: str, reason: str, capsys: Any) -> None:
    outcome = cell(tmp_path, "breaks", how=how)
    record = outcome.record
    assert record.status == status
    assert reason in record.reason
    assert [(point.status, point.reason, point.correct) for point in record.points] == [
        (status, record.reason, None)
    ] * 4
    assert str(Path.cwd()) not in record.reason
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"input": {"size": 9, "channels": 1}}, "failed", "the backbone does not take images (1, 9, 9) of [input]"),
        (
            {"backbone": {"use": f"{FAKES}:Tiny", "options": {"pixels": 64, "width": 8, "num_clases": 3}}},
            "failed",
            "options.num_clases: unknown option; allowed: pixels, width",
        ),
        ({"backbone": {"use": f"{FAKES}:wide"}}, "failed", "BackboneError: the backbone gives (2, 3) for 2 images"),
        ({"datasets": [{"name": "x", "source": "folder", "path": "/nowhere"}]}, "skipped", "data: "),
        ({"methods": [{"use": "no_such_house:x"}]}, "failed", "no_such_house cannot be imported"),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, changes: dict[str, Any], status: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    def wide(num_classes: int) -> fakes.Tiny:
        return fakes.Tiny(64, 8, 3)

    monkeypatch.setattr(fakes, "wide", wide, raising=False)
    record = cell(tmp_path, "steady", changes).record
    assert record.status == status
    assert reason in record.reason, record.reason


def csv_lines(outcome: Outcome, tmp_path: Path) -> list[list[str]]:
    suite = small.suite(methods=[{"use": f"{FAKES}:steady"}], budgets=BUDGETS)
    planned = replace(cells_of(suite)[0], id=outcome.record.cell)
    points.write_points(tmp_path / "points.csv", points.point_rows([planned], {planned.id: outcome.record}))
    lines = (tmp_path / "points.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + len(BUDGETS), "one line a point"
    return list(csv.reader(lines[1:]))


@pytest.mark.parametrize("kind", [*fakes.KEYS, "unreadable"])
def test_a_choice_key_that_is_not_200_printable_characters_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    outcome = cell(tmp_path, "strange_key", kind=kind)
    assert outcome.record.status == "failed"
    assert re.search("ChoiceError: budget 0.01: (choice key '|str.choice. of a Strange raises)", outcome.record.reason)
    assert len(outcome.record.reason) < 400
    for line in csv_lines(outcome, tmp_path):
        assert all(value.isprintable() and not value.startswith("=") for value in line)


@pytest.mark.parametrize("error", ["ValueError", "FloatingPointError"])
@pytest.mark.parametrize("kind", [*fakes.MESSAGES, "unreadable"])
def test_a_reason_is_one_printable_line(tmp_path: Path, kind: str, error: str) -> None:
    outcome = cell(tmp_path, "strange_message", kind=kind, error=error)
    assert outcome.record.status == ("nan" if error == "FloatingPointError" and kind != "unreadable" else "failed")
    assert 0 < len(outcome.record.reason) < 1100
    assert kind != "unreadable" or outcome.record.reason == "Unreadable: its message cannot be read: RuntimeError"
    for line in csv_lines(outcome, tmp_path):
        assert all(value.isprintable() and not value.startswith("=") for value in line)


@pytest.mark.parametrize("kind", ["raises", "exits", "deep", "deeper_than_kept", "large", "no_mapping", "tuple_keys"])
def test_a_report_that_cannot_be_kept_costs_the_report_alone(tmp_path: Path, kind: str) -> None:
    outcome = cell(tmp_path, "strange_report", kind=kind)
    assert (outcome.record.status, outcome.record.reason) == ("ok", "")
    cell_files.save_outcome(outcome, tmp_path / "outcome")
    (note,) = cell_files.load_outcome(tmp_path / "outcome").record.diagnostics["notes"]
    assert note.startswith("report() was dropped: ")
    assert len(note) < 300


def job_of(suite: Suite) -> Job:
    task = CellJob(cell=cells_of(suite)[0], suite=suite, given={})
    return cell_job.job_of(task, ENTRY, memory_gib=None, disk_gib=1.0)


def test_a_thread_left_running_neither_costs_the_cell_nor_keeps_its_process(tmp_path: Path) -> None:
    folders = JobFolder(tmp_path / "cell")
    for folder in (folders.scratch, folders.work, folders.out):
        folder.mkdir(parents=True)
    suite = small.suite(methods=[{"use": f"{FAKES}:threaded", "options": {"seconds": 300.0}}])
    folders.write(job_of(suite))
    command = [sys.executable, "-m", "harness.jobs.supervisor", str(folders.root)]
    subprocess.run(command, check=True, timeout=120, cwd=Path(__file__).parents[3])
    record = cell_files.load_outcome(folders.result).record
    assert record.status == "ok"
    assert record.diagnostics["notes"] == ["1 thread(s) left running: 'l\\neft'"]


def test_progress_is_json_lines_and_not_too_many(tmp_path: Path) -> None:
    progress = ProgressFile(tmp_path / "out" / "p.jsonl")
    for done in range(1000):
        progress("train", done, 1000)
    lines = [json.loads(line) for line in (tmp_path / "out" / "p.jsonl").read_text().splitlines()]
    assert lines[0] == {"phase": "train", "done": 0, "total": 1000}
    assert len(lines) < 10


def test_a_cell_runs_only_the_code_and_data_it_was_planned_with(tmp_path: Path) -> None:
    suite = small.suite()
    (planned,) = cells_of(suite)
    seen = cell(tmp_path, "steady").record.data["fingerprint"]
    uses = {"backbone": suite.backbone.use, "method": suite.methods[0].use}
    digests = {part: code_digest.digest(use) for part, use in uses.items()}

    def outcome(**content: Any) -> tuple[str, str]:
        asked = replace(planned, content={**planned.content, **content})
        record = run_cell(CellJob(cell=asked, suite=suite, given={}), tmp_path, lambda phase, done, total: None).record
        return record.status, record.reason

    assert outcome(code=digests, data=seen) == ("ok", "")
    assert outcome(code=digests, data=None) == ("ok", "")
    named = "tests.harness.made_metrics:share_right"  # code that an option names
    assert outcome(code={**digests, named: code_digest.digest(named)}, data=seen) == ("ok", "")
    status, reason = outcome(code={**digests, named: "0" * 64}, data=seen)
    assert status == "failed" and reason.startswith(f"code: {named} is not what this cell was planned with")
    status, reason = outcome(code=digests, data="f" * 64)
    assert status == "failed"
    assert reason.startswith("data: 'digits' changed after planning: it was ffffffffffff and is ")
    for part, use in uses.items():
        status, reason = outcome(code={**digests, part: "0" * 64}, data=seen)
        assert status == "failed"
        assert reason.startswith(f"code: {use} is not what this cell was planned with")


def test_a_cell_in_another_number_of_processes_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    record = cell(tmp_path, "steady", {"processes": 2}).record
    assert record.status == "failed"
    assert record.reason == "ProcessesError: the suite says processes = 2, and this cell runs in 3 (WORLD_SIZE)"


@pytest.mark.parametrize(("method", "options", "exit_code"), [("steady", {}, 0), ("breaks", {"how": "nan"}, 1)])
def test_a_process_beside_the_first_one_tells_only_of_its_failure(
    tmp_path: Path, method: str, options: dict[str, str], exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.LoadedDataset, "test", lambda self, frozen: pytest.fail("the test split was opened"))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.chdir(tmp_path)
    folders = JobFolder(tmp_path / "cell")
    for folder in (folders.scratch, folders.work, folders.out):
        folder.mkdir(parents=True)
    suite = small.suite(methods=[{"use": f"{FAKES}:{method}", "options": options}], processes=2)
    assert execute.run_job(job_of(suite), folders) == exit_code
    assert Path.cwd() == folders.scratch / "rank1"
    found = [str(path.relative_to(folders.out)) for path in folders.out.rglob("result")]
    assert found == (["rank1/result"] if exit_code else [])
    assert not list(folders.work.iterdir()), "the ledger is kept by the first one"
    if exit_code:
        assert cell_files.load_outcome(folders.out / "rank1" / "result").record.status == "nan"


def test_on_a_full_disk_the_outcome_takes_the_place_of_what_the_cell_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = JobFolder(tmp_path)
    for folder in (folders.scratch / "deep", folders.work, folders.out):
        folder.mkdir(parents=True)
    (folders.work / "checkpoint").write_text("x")
    save = cell_files.save_outcome

    def full(outcome: Outcome, folder: Path) -> None:
        if (folders.work / "checkpoint").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        save(outcome, folder)

    monkeypatch.setattr(cell_files, "save_outcome", full)
    outcome = cell(tmp_path / "cell", "nothing")
    execute._leave(outcome, folders.result, folders)
    assert cell_files.load_outcome(folders.result).record == outcome.record
    assert not list(folders.scratch.iterdir())


# --- several labels an image ------------------------------------------------------------------------------------


def chest(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    samples.write_sample("medmnist", tmp_path, classes=4, each=24, options={"set": "chestmnist"})
    entry = {
        "name": "chestmnist", "source": "listing", "use": "harness.data.published:medmnist",
        "options": {"set": "chestmnist"}, "path": str(tmp_path),
    }  # fmt: skip
    return {"datasets": [entry], "task": "multi_label", "backbone": {"use": f"{FAKES}:backbone"}, **changes}


def test_several_labels_have_scores_of_the_whole_split(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    changes = chest(tmp_path, grid=5)
    outcome = cell(tmp_path / "work", "steady", changes)
    record = outcome.record
    assert record.status in ("ok", "suspicious"), record.reason  # random features learn little from stripes
    last = record.points[-1]
    assert last.correct is None and last.n == 96 and not outcome.bitmaps
    assert last.scores is not None and set(last.scores) == {"mean_average_precision", "auroc"}
    assert record.value(last) == last.scores["mean_average_precision"]
    assert record.data["chance"] == {"auroc": 0.5, "mean_average_precision": pytest.approx(0.3125, abs=0.1)}
    lowest = [point for point in record.grid if point.status == "unreachable"]
    values = [record.chance] * len(lowest) + [record.value(p) for p in record.grid if p.scores is not None]
    assert lowest and record.area == pytest.approx(sum(values) / len(record.grid))  # type: ignore[arg-type]
    assert record.diagnostics["sanity_ladder"] == {"one batch can be overfitted": ""}
    assert cell_files.parse_record(record.model_dump_json().encode(), "here") == record


def test_labels_of_another_task_are_refused(tmp_path: Path) -> None:
    changes = {**chest(tmp_path), "task": "classification"}
    (tmp_path / "work").mkdir()
    record = cell(tmp_path / "work", "steady", changes).record
    assert record.status == "skipped"
    assert "chestmnist: its labels are those of task = 'multi_label'" in record.reason


def test_what_is_no_better_than_guessing_several_labels_is_suspicious(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    record = cell(tmp_path / "work", "blind", chest(tmp_path, score="auroc")).record
    assert record.status == "suspicious"
    assert "AUROC 0.500 is not above chance 0.500" in record.reason


# --- a class for each pixel -------------------------------------------------------------------------------------


def pets(tmp_path: Path, pool: str = "") -> dict[str, Any]:
    (tmp_path / "work").mkdir()
    samples.write_sample("oxford_iiit_pets_masks", tmp_path, classes=2, each=20, size=32)
    entry = {
        "name": "pets", "source": "listing", "use": "harness.data.published:oxford_iiit_pets_masks",
        "path": str(tmp_path),
    }  # fmt: skip
    options = {
        "tag": "vit_tiny_patch16_224", "pretrained": False, "img_size": 32, "patch_size": 4, "embed_dim": 12,
        "depth": 2, "num_heads": 3, "global_pool": pool,
    }  # fmt: skip
    return {
        "datasets": [entry],
        "task": "segmentation",
        "input": {"size": 32, "channels": 3},
        "backbone": {"use": "eavit.weights:timm_vit", "options": options},
        "methods": [{"use": "eavit.methods:fixed_uniform"}],
        "schedule": {"epochs": 8.0, "batch": 8, "lr": 3e-3},
        "budgets": [0.6, 1.0],
    }


def test_masks_have_a_mean_iou(tmp_path: Path) -> None:
    record = cell(tmp_path / "work", "", pets(tmp_path)).record
    assert record.status == "ok", record.reason
    last = record.points[-1]
    assert last.correct is None and last.n == 40
    assert last.scores == {"mean_iou": record.value(last)}
    assert record.value(last) > 0.5 > record.chance > 0.2  # type: ignore[operator]
    assert set(record.diagnostics["sanity_ladder"].values()) == {""}  # type: ignore[union-attr]


def test_a_backbone_that_pools_its_tokens_is_no_backbone_of_masks(tmp_path: Path) -> None:
    record = cell(tmp_path / "work", "", pets(tmp_path, "token")).record
    assert record.status == "failed"
    assert "not (2, tokens, 3); set global_pool = ''" in record.reason
