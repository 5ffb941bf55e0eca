"""One cell in processes of its own, through a sweep: every end has a status, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

from harness.evaluation import execute
from harness.jobs.processes import alive
from harness.results.store import Store
from harness.sweep.cell_job import ENTRY
from tests.harness import small
from tests.harness.small import FAKES
from tests.harness.sweep.stub_sweeps import cells_of, run


def test_real_processes_end_as_they_should(tmp_path: Path) -> None:
    """Through a sweep, with torch: given choices, a littering method, and every end without a word."""
    ends = {
        "litter": ("ok", ""),
        "segfault": ("failed", "crashed with SIGSEGV"),
        "exit0": ("failed", "exit code 0 without a result"),
        "exit3": ("failed", "exit code 3 without a result"),
        "sigkill": ("killed", "killed from outside by SIGKILL; memory may have run out"),
        "nan": ("nan", "loss is nan at step 3"),
        "hoard": ("oom", "(peak "),
        "full": ("failed", "disk: [Errno 28] No space left on device"),
        "negative": ("failed", "forward_macs = -1.0: only finite numbers from 0 up are spent"),
    }
    methods = [
        {"use": f"{FAKES}:steady"},
        *({"name": kind, "use": f"{FAKES}:breaks", "options": {"how": kind}} for kind in ends),
        {"use": f"{FAKES}:follower", "options": {"of": "steady"}, "after": ["steady"]},
    ]
    summary = run(small.suite(methods=methods), tmp_path, entry=ENTRY, memory_gib=1.0)
    records = {record.method: record for record in summary.records.values()}
    assert {name: records[name].status for name in ends} == {name: status for name, (status, _) in ends.items()}
    for name, (_, reason) in ends.items():
        assert reason in records[name].reason
    assert (records["steady"].status, records["follower"].status) == ("ok", "ok")
    assert records["follower"].choices() == records["steady"].choices() == {"0.25": "w8", "1.0": "w32"}
    for other in ("litter", "follower"):
        assert records[other].points[1].correct == records["steady"].points[1].correct
    assert 50 < (records["hoard"].peak_mib or 0) < 1024
    assert not Path("litter.txt").exists()
    assert not (tmp_path / "runs" / records["steady"].cell).exists()


def test_a_data_loader_that_hangs_is_ended_with_its_workers(tmp_path: Path) -> None:
    methods = [{"name": "hang", "use": f"{FAKES}:breaks", "options": {"how": "hang"}}]
    suite = small.suite(methods=methods, timeout_minutes=20 / 60)
    summary = run(suite, tmp_path, entry=ENTRY)
    (record,) = summary.records.values()
    assert (record.status, record.reason) == ("timeout", "not done after 20 s")
    pids = (tmp_path / "runs" / record.cell / "work" / "pids").read_text().split()
    assert not any(alive(int(pid)) for pid in pids)


def test_a_killed_cell_goes_on_and_counts_all_its_time(tmp_path: Path) -> None:
    """Killed after 0.4 s of one phase and 0.6 s of the next; the 0.2 s that are left run in the second attempt."""
    suite = small.suite(methods=[{"use": f"{FAKES}:resumes"}, {"use": f"{FAKES}:steady"}])
    where = {"entry": ENTRY}
    cells = {cell.method: cell.id for cell in cells_of(suite)}
    first = run(suite, tmp_path, **where).records[cells["resumes"]]
    assert (first.status, first.attempts) == ("killed", 1)
    (tmp_path / "runs" / first.cell / "work" / execute.LEDGER).write_text('{"prepare": 0.5, "train": 7.25}')
    summary = run(suite, tmp_path, **where)
    again, other = summary.records[cells["resumes"]], summary.records[cells["steady"]]
    assert (again.status, again.attempts) == ("ok", 2)
    assert again.ledger["prepare"].seconds == 0.5
    assert 7.45 <= again.ledger["train"].seconds < 12
    assert again.ledger["train"].steps == 3, "what is not time is not carried here"
    assert [point.correct for point in again.points] == [point.correct for point in other.points]
    kept = Store(tmp_path / "results")
    first_bits, other_bits = kept.read(again.cell), kept.read(other.cell)
    assert first_bits is not None and other_bits is not None
    assert first_bits.bitmaps == other_bits.bitmaps
