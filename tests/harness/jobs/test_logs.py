"""Logs of cells: they name no place on the machine and are cut to their end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.jobs.logs import CAP, CappedLog, scrubbed
from tests.harness.sweep.stub_sweeps import ROOT


def test_logs_name_no_place_on_this_machine() -> None:
    packages = "/opt/v/lib/python3.11/site-packages"
    text = f'File "{ROOT}/harness/x.py", line 3\nFile "{packages}/torch/a.py"\n/home/bob/s/t.txt: no'
    assert scrubbed(text) == 'File "harness/x.py", line 3\nFile "torch/a.py"\n…/t.txt: no'
    assert scrubbed("Expected /home/bob/photos/train/<class>/<files>.") == "Expected …/train/<class>/<files>."
    assert scrubbed("1/2/3 and https://a.b/c/d") == "1/2/3 and https://a.b/c/d"


def test_a_log_is_cut_to_its_end(tmp_path: Path) -> None:
    printing = "import sys\nfor i in range(3000): sys.stdout.write('x' * 999 + '\\n')\nprint('the end')"
    process = subprocess.Popen([sys.executable, "-c", printing], stdout=subprocess.PIPE)
    assert process.stdout is not None
    tail = CappedLog(process.stdout, tmp_path / "log.txt").close(20)
    process.wait()
    assert len(tail) == CAP
    assert tail.endswith("the end\n")
    assert (tmp_path / "log.txt").stat().st_size <= 4 * CAP
    assert (tmp_path / "log.txt").read_text().endswith("the end\n")


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.write('x' * 3_000_000); print('the end')"
    for place in (Path("/dev/full"), tmp_path / "no" / "folder" / "log.txt"):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert CappedLog(process.stdout, place).close(20).endswith("the end\n")
        assert process.wait() == 0
