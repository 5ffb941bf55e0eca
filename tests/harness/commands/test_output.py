"""Printing: to a full disk, a closed pipe, a small character set; names that hold escape sequences."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands import output

PRINTS = """
import typer
from harness.commands import output
with output.protected():
    for n in range(3):
        typer.echo("a – b ≈ c " * 3)
    typer.echo("the end", err=True)
    {then}
"""


def printed(stdout: object, then: str = "pass", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRINTS.format(then=then)]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("then", ["pass", "raise SystemExit(0)"])
def test_a_full_disk_is_one_line_and_the_work_goes_on(then: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = printed(full, then)
    assert done.stderr == "the end\nstandard output: No space left on device: what follows was not written\n"
    assert done.returncode == 1


def test_a_reader_that_is_gone_is_no_fault() -> None:
    read, write = os.pipe()
    os.close(read)
    done = printed(write, "raise SystemExit(3)")
    os.close(write)
    assert (done.stderr, done.returncode) == ("the end\n", 3)


def test_a_closed_output_is_no_fault() -> None:
    command = [sys.executable, "-c", "import os; os.close(1)\n" + PRINTS.format(then="pass")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr.startswith("the end\n")


@pytest.mark.parametrize(("encoding", "said"), [("cp1252", "a \x96 b ? c "), ("utf-8", None)])
def test_characters_that_cannot_be_written_are_replaced(encoding: str, said: str | None, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        done = printed(file, PYTHONIOENCODING=encoding)
    text = (tmp_path / "out").read_bytes().decode("latin-1" if said else "utf-8")
    assert text.splitlines() == [((said or "a – b ≈ c ") * 3)] * 3
    assert done.returncode == 0


def test_control_characters_of_messages_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.warn("no such file: 'a\x1b[2Jb\r'\nnext: ø")
    assert capsys.readouterr().err == "warning: no such file: 'a\\x1b[2Jb\\r'\nnext: ø\n"
