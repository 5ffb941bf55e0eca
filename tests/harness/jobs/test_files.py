"""Files of others: links, pipes, devices, sizes and JSON that would harm a careless reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.jobs.files import UnreadableError, leftover_files, parse_json, read_regular, replace_files, write_atomic


def test_a_regular_file_is_read_whole_or_from_a_place_on(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 1000)
    assert read_regular(tmp_path / "f") == b"abc" * 1000
    assert read_regular(tmp_path / "f", limit=3, start=2997) == b"abc"
    with pytest.raises(UnreadableError, match="3000 bytes; at most 2999 are read"):
        read_regular(tmp_path / "f", limit=2999)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "zero", "folder", "none"):
        with pytest.raises(UnreadableError, match=name):
            read_regular(tmp_path / name)
    with pytest.raises(UnreadableError, match="not a regular file"):
        read_regular("/dev/zero")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": Infinity}', "Infinity is not a number"),
        (b"NaN", "NaN is not a number"),
        (b"\xff\xfe", "not JSON: 'utf-8' codec"),
        (b"1" * 5000, "not JSON: Exceeds the limit"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_of_others_is_plain_or_an_error(text: bytes, why: str) -> None:
    assert parse_json(b'{"a": [1.5, null]}', "x") == {"a": [1.5, None]}
    with pytest.raises(UnreadableError, match=f"^x: .*{why}"):
        parse_json(text, "x")


def test_files_take_the_place_of_old_ones_and_nothing_else_stays(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "a", b"old")
    replace_files(tmp_path / "new", {"a": b"1", "b": b"2"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {"a": b"1", "b": b"2"}


def test_one_that_cannot_be_written_leaves_all_as_they_were(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"old")
    with pytest.raises(OSError, match="too long"):
        replace_files(tmp_path, {"a": b"new", "x" * 300: b""})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_killed_at_any_moment_each_file_is_old_or_new_in_the_order_given(tmp_path: Path) -> None:
    """Fault 33."""
    code = (
        "import sys; from pathlib import Path; from harness.jobs.files import replace_files\n"
        "for turn in range(10**6):\n"
        "    replace_files(Path(sys.argv[1]), {f'{i:02}.svg': b'%09d' % turn for i in range(20)})\n"
        "    print('on', flush=True)\n"
    )
    replace_files(tmp_path, {f"{i:02}.svg": b"first" for i in range(20)})
    rng = np.random.default_rng(0)
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(float(rng.uniform(0.01, 0.2)))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        contents = [int(path.read_bytes()) for path in sorted(tmp_path.glob("*.svg"))]
        assert len(contents) == 20
        assert contents == sorted(contents, reverse=True) and contents[0] - contents[-1] <= 1
        for path in tmp_path.glob(".*.tmp"):
            path.unlink()


def test_leftover_files_are_those_of_the_dead(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    gone, other, foreign = (tmp_path / f".table.md.{number}.tmp" for number in (dead.pid, os.getppid(), "x"))
    for path in (gone, other, foreign):
        path.write_bytes(b"")
    assert list(leftover_files(tmp_path)) == [gone]
