"""A job as a file: it comes back as it was, and whatever else lies there is an error that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.jobs.job import Job, JobError, JobFolder, JobLimits, entry_function

JOB = Job("j", "os.path:join", ["\ud800", 1.5, {}], JobLimits(1.0, 2.0, 3.0), "the title", 2, 3, 4, ("-m", "x"))


def test_a_job_comes_back_from_its_file(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "deep" / "folder")
    folder.write(JOB)
    assert folder.read() == JOB
    assert entry_function(JOB.entry) is os.path.join


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff", JOB.encode().replace(b'"title"', b'"titel"')])
def test_what_is_no_job_is_an_error_that_names_the_file(tmp_path: Path, text: bytes) -> None:
    folder = JobFolder(tmp_path)
    with pytest.raises(JobError, match=r"job\.json: No such file"):
        folder.read()
    folder.job.write_bytes(text)
    with pytest.raises(JobError, match=r"^/.*/job\.json: "):
        folder.read()
