"""What a job sees of the environment: what is allowed, nothing that is secret."""

from __future__ import annotations

import os
from pathlib import Path

from harness.jobs import environment
from harness.jobs.environment import ProjectVariables

ROOT = Path(__file__).resolve().parents[3]
PROJECT = ProjectVariables("EAVIT_", {"EAVIT_DATA": "data"})


def test_a_job_sees_what_is_allowed_and_no_secret() -> None:
    base = {
        "PATH": "/bin", "HOME": "/home/x", "LC_ALL": "C", "TZ": "UTC", "EAVIT_DATA": "d", "EAVIT_FORK": "0",
        "HF_HOME": "/hf", "HF_TOKEN": "t", "TORCH_HOME": "/th", "CUDA_VISIBLE_DEVICES": "1", "https_proxy": "p",
        "SSL_CERT_FILE": "c", "PYTHONPATH": "lib", "OMP_NUM_THREADS": "9", "LD_LIBRARY_PATH": "/l",
        # and not
        "AWS_SECRET_ACCESS_KEY": "s", "GITHUB_TOKEN": "s", "WANDB_API_KEY": "s", "HF_HUB_TOKEN": "s", "RANK": "1",
        "EAVIT_PASSWORD": "s", "PYTHONSTARTUP": "x", "WORLD_SIZE": "2", "RANDOM_SWITCH": "1", "PYTHONHASHSEED": "x",
    }  # fmt: skip
    seen = environment.clean(base, Path("/w"), 3, PROJECT)
    assert "s" not in seen.values()
    assert not {"RANK", "WORLD_SIZE", "PYTHONSTARTUP", "RANDOM_SWITCH"} & seen.keys()
    kept = set(list(base)[:15]) - {"EAVIT_DATA", "PYTHONPATH", "OMP_NUM_THREADS"}
    assert {name: seen[name] for name in kept} == {name: base[name] for name in kept}
    assert seen["OMP_NUM_THREADS"] == seen["MKL_NUM_THREADS"] == "3"
    assert seen["PYTHONHASHSEED"] == "0"
    assert seen["EAVIT_DATA"] == "/w/d"
    assert seen["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/w", "/w/lib"]
    assert environment.clean({}, Path("/w"), 3, PROJECT)["EAVIT_DATA"] == "/w/data"
    assert not [name for name in environment.clean(base, Path("/w")) if name.startswith("EAVIT")]
