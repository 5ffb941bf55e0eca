"""What a person is told while a suite runs."""

from __future__ import annotations

from harness.commands.progress import Lines, Tally
from harness.jobs.job import JobProgress
from tests.harness.small import acts
from tests.harness.sweep.stub_sweeps import cells_of, stubs


def test_plain_lines_tell_counts_and_the_time_left() -> None:
    now, lines = [0.0], list[str]()
    cells = cells_of(stubs(*acts("a", "b"), seeds=[0, 1]))
    told = Lines(Tally(workers=2, clock=lambda: now[0]), lines.append)
    told.begin(cells, 3)
    for cell in cells[:2]:
        told.start(cell)
    now[0] = 40.0
    told.tick()
    told.step(cells[1], JobProgress("train", 3, 9))
    told.finish(cells[0], "ok", 40.0, "")
    now[0] = 100.0
    told.tick()
    told.tick()
    told.finish(cells[1], "failed", 100.0, "why")
    assert lines[0].startswith("at work [0/4 cells · 2 running · 3 kept · time left unknown]")
    assert lines[1] == "ok          a · digits · seed 0 (0:40)  [1/4 cells · 1 running · 3 kept · about 0:40 left]"
    assert lines[2].endswith("; b · digits · seed 0: train 3/9")
    assert lines[3].startswith("failed      b · digits · seed 0 (1:40): why  [2/4 cells")
    assert len(lines) == 4
