"""Threads: what the environment says, else one for each physical core that this process may use."""

import os

import pytest
import torch

from eavit.adaptation import threads
from eavit.adaptation.threads import default_threads, physical_cores, torch_threads


def test_the_environment_goes_first(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == (3, "by OMP_NUM_THREADS")
    for empty in ("", "0", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", empty)
        assert default_threads() == (physical_cores(), "one for each physical core")


def test_siblings_of_one_core_count_once(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    for cpu, siblings in {0: "0-1", 1: "0-1", 2: "2-3"}.items():
        (tmp_path / str(cpu)).write_text(siblings)
    monkeypatch.setattr(threads, "SIBLINGS", f"{tmp_path}/{{}}")
    assert physical_cores() == 3  # of processor 5 nothing is known: a core of its own


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match=f"with {before + 1}"), torch_threads(before + 1):
        raise RuntimeError(f"with {torch.get_num_threads()}")
    assert torch.get_num_threads() == before
