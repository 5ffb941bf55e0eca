"""Files of others: links, pipes, devices, sizes and JSON that would harm a careless reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.jobs.files import UnreadableError, parse_json, read_regular


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
