from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np

from harness.reports.figures.swap import replace_folder


def test_the_new_folder_takes_the_place_of_the_old_one(tmp_path):
    replace_folder(tmp_path / "figures", {"old.svg": b"old"})
    replace_folder(tmp_path / "figures", {"new.svg": b"new"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == {"new.svg": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_leftovers_of_the_dead_are_cleared_those_of_the_living_not(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = [tmp_path / f".figures.{pid}.tmp" for pid in (dead.pid, os.getppid())]
    for folder in left:
        folder.mkdir()
    replace_folder(tmp_path / "figures", {"a.svg": b"a"})
    assert [folder.exists() for folder in left] == [False, True]


def test_killed_at_any_moment_the_folder_is_all_old_or_all_new(tmp_path):
    """Fault 33, with real kills in the middle of replacing."""
    code = (
        "import sys; from pathlib import Path; from harness.reports.figures.swap import replace_folder\n"
        "for turn in range(10**6):\n"
        "    replace_folder(Path(sys.argv[1]), {f'{i}.svg': b'%d' % turn for i in range(20)})\n"
        "    print('on', flush=True)\n"
    )
    folder = tmp_path / "figures"
    replace_folder(folder, {f"{i}.svg": b"first" for i in range(20)})
    rng = np.random.default_rng(0)
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(float(rng.uniform(0.01, 0.2)))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        contents = [path.read_bytes() for path in folder.iterdir()]
        assert len(contents) == 20
        assert len(set(contents)) == 1
        assert contents[0] != b"first"
