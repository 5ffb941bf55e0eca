"""What a cell leaves: read as it is, judged by how its process ended, never believed against arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.execution import children
from harness.execution.children import Unusable, blame, checked, left
from harness.jobs.logs import CAP, CappedLog
from harness.results import store
from harness.results.record import failure, now
from harness.results.store import Outcome
from tests.harness import small
from tests.harness.engined import ROOT, cells_of, run, statuses, stubs
from tests.harness.small import acts


@pytest.mark.parametrize(
    ("code", "tail", "status", "reason"),
    [
        (1, "", "failed", "exit code 1 without a result"),
        (0, "No space left on device", "failed", "exit code 0 without a result"),
        (-9, "", "killed", "killed from outside by SIGKILL; memory may have run out"),
        (-15, "", "killed", "killed from outside by SIGTERM; memory may have run out"),
        (-6, "", "failed", "crashed with SIGABRT"),
        (-64, "", "failed", "crashed with SIGRTMAX"),
        (-6, "what():  std::bad_alloc\n", "oom", "no more memory was given; crashed with SIGABRT"),
        (1, "numpy.exceptions.MemoryError: 3 GiB\n", "oom", "no more memory was given; exit code 1 without a result"),
        (1, "OSError: No space left on device\n", "failed", "disk: No space left on device; exit code 1"),
        (1, "No space left on device" + "." * 3000, "failed", "exit code 1 without a result"),
    ],
)
def test_every_end_has_a_status_and_a_reason(code: int, tail: str, status: str, reason: str) -> None:
    found = blame(code, tail)
    assert found[0] == status
    assert found[1].startswith(reason)


@pytest.mark.parametrize(
    ("forge", "status", "reason"),
    [
        ({"correct": 65}, "nan", "budget 0.25: accuracy outside [0, 1]: 65 correct of 64"),
        ({"correct": -1}, "nan", "budget 0.25: accuracy outside [0, 1]: -1 correct of 64"),
        ({"macs": -5}, "failed", "budget 0.25: negative size: -5 MACs, 1 parameters"),
        ({"budget": 0.5}, "failed", "the outcome has points for [0.5, 1.0]"),
    ],
)
def test_numbers_that_cannot_be_are_no_result(tmp_path: Path, forge: dict[str, Any], status: str, reason: str) -> None:
    (bad,), (good,) = acts("bad", forge=forge), acts("good")
    summary = run(stubs(bad, good), tmp_path)
    assert statuses(summary) == {"bad": status, "good": "ok"}
    record = next(record for record in summary.records.values() if record.method == "bad")
    assert record.reason == reason
    assert {point.correct for point in record.points} == {None}


def test_an_outcome_of_another_cell_is_no_result() -> None:
    first, second = cells_of(small.suite(seeds=[0, 1]))
    outcome = Outcome(small.record_of(first))
    assert checked(outcome, first) is outcome
    with pytest.raises(Unusable, match=f"the outcome is that of cell {first.id}"):
        checked(outcome, second)


def test_where_the_first_process_left_nothing_a_failure_of_another_counts(tmp_path: Path) -> None:
    (cell,) = cells_of(small.suite())
    lost = Outcome(failure(cell, "oom", "no more", began=now(), environment={}))
    store.save(lost, tmp_path / "rank1" / "outcome")
    assert left(tmp_path).record.status == "oom"
    store.save(Outcome(small.record_of(cell)), tmp_path / "outcome")
    assert left(tmp_path).record.status == "ok"


def test_a_child_sees_what_is_allowed_and_no_secret() -> None:
    base = {
        "PATH": "/bin", "HOME": "/home/x", "LC_ALL": "C", "TZ": "UTC", "EAVIT_DATA": "d", "EAVIT_NURSERY": "0",
        "HF_HOME": "/hf", "HF_TOKEN": "t", "TORCH_HOME": "/th", "CUDA_VISIBLE_DEVICES": "1", "https_proxy": "p",
        "SSL_CERT_FILE": "c", "PYTHONPATH": "lib", "OMP_NUM_THREADS": "9", "LD_LIBRARY_PATH": "/l",
        # and not
        "AWS_SECRET_ACCESS_KEY": "s", "GITHUB_TOKEN": "s", "WANDB_API_KEY": "s", "HF_HUB_TOKEN": "s", "RANK": "1",
        "EAVIT_PASSWORD": "s", "PYTHONSTARTUP": "x", "WORLD_SIZE": "2", "RANDOM_SWITCH": "1", "PYTHONHASHSEED": "x",
    }  # fmt: skip
    seen = children.environment(3, base, Path("/w"))
    assert "s" not in seen.values()
    assert not {"RANK", "WORLD_SIZE", "PYTHONSTARTUP", "RANDOM_SWITCH"} & seen.keys()
    kept = set(list(base)[:15]) - {"EAVIT_DATA", "PYTHONPATH", "OMP_NUM_THREADS"}
    assert {name: seen[name] for name in kept} == {name: base[name] for name in kept}
    assert seen["OMP_NUM_THREADS"] == seen["MKL_NUM_THREADS"] == "3"
    assert seen["PYTHONHASHSEED"] == "0"
    assert seen["EAVIT_DATA"] == "/w/d"
    assert seen["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/w", "/w/lib"]


def test_a_temporary_folder_is_the_scratch_folder_by_a_short_name(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    short = children._temp(deep)
    assert len(str(short)) < 60
    assert short.resolve() == deep.resolve()
    assert children._temp(deep) == short  # what a killed run left is taken up again
    short.unlink()
    short.symlink_to(tmp_path)  # not ours: nothing may be written where somebody else points
    assert children._temp(deep) == deep
    short.unlink()
    assert children._temp(Path("/tmp/near")) == Path("/tmp/near")


def test_two_hundred_megabytes_of_output_are_cut_to_their_end(tmp_path: Path) -> None:
    summary = run(stubs(*acts("loud", act="loud", forge={"macs": -1})), tmp_path)  # failed: its log is kept
    kept = store.Store(tmp_path / "results").read(summary.ran[0])
    assert kept is not None
    assert len(kept.log) == CAP
    assert kept.log.endswith("xthe end\n")
    assert (tmp_path / "runs" / summary.ran[0] / "log.txt").stat().st_size <= 4 * CAP


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.write('x' * 3_000_000); print('the end')"
    for place in (Path("/dev/full"), tmp_path / "no" / "folder" / "log.txt"):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert CappedLog(process.stdout, place).close(20).endswith("the end\n")
        assert process.wait() == 0


def test_a_record_says_what_the_cell_took(tmp_path: Path) -> None:
    summary = run(stubs(*acts("a", seconds=0.3)), tmp_path)
    (record,) = summary.records.values()
    assert record.attempts == 1
    assert record.peak_mib is not None
    assert 5 < record.peak_mib < 500
    assert record.disk_mib is not None
    assert 0.004 <= record.disk_mib < 5
