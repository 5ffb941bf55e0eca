"""What a record tells of the machine."""

from __future__ import annotations

import re

from harness.results.record import run_environment


def test_the_environment_separates_machines_and_names_none() -> None:
    about = run_environment(2, "c0ffee", workers=3, processes=4)
    assert (about["threads"], about["commit"], about["workers"], about["processes"]) == (2, "c0ffee", 3, 4)
    assert re.fullmatch("[0-9a-f]{12}", str(about["machine"]))
    assert about["machine"] == run_environment(1, None)["machine"]
    named = {
        "python",
        "torch",
        "timm",
        "numpy",
        "platform",
        "machine",
        "cpus",
        "threads",
        "workers",
        "processes",
        "commit",
    }
    assert set(about) == named
