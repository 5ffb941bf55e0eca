"""TOML files: read with any byte order mark and line end; whatever is wrong is one message with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness import toml
from harness.toml import TomlError


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "x.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("content", ["a = 1\nb = 'ø'\n", "\ufeffa = 1\nb = 'ø'\n", "a = 1\r\nb = 'ø'\r\n"])
def test_a_byte_order_mark_and_line_ends_change_nothing(tmp_path: Path, content: str) -> None:
    assert toml.read(written(tmp_path, content)) == {"a": 1, "b": "ø"}


DEEP = 100_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name = 'x'\nseeds = [0,, 1]\n", ":2: not TOML: "),
        ("name = 'x'\nseeds = [0]\nname = 'y'\n", ":3: not TOML: .*overwrite"),
        ("a = 1\nb = [1,", ":2: not TOML: "),
        (b"name = '\xff'", ": not UTF-8 text: invalid start byte at byte 8"),
        (b"a = 1\xff\xfe", ": not UTF-8 text: "),
        ("\na = " + "[" * DEEP, ":2: nested too deeply"),
        ("\n\na = " + "{a = " * DEEP, ":3: nested too deeply"),
        ("a = 1\nb = " + "9" * 5000 + "\nc = 2", ":2: an integer of too many digits"),
        ("a = 1\n" * 10 + "#" * toml.LARGEST, ": larger than 4194304 bytes"),
        ("a = 1\0", ":1: not TOML: "),
    ],
)
def test_what_cannot_be_read_is_reported_with_its_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    path, began = written(tmp_path, content), time.process_time()
    with pytest.raises(TomlError, match=f"^{path}{said}") as caught:
        toml.read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert time.process_time() - began < 5


def test_deep_keys_large_integers_and_dates_are_strange(tmp_path: Path) -> None:
    text = f"[{'.'.join('a' * 1000)}]\nx = 1\n[y]\nbig = {'9' * 4000}\nday = 2020-01-01\nlow = {-(2**63)}\nnone = nan\n"
    found = list(toml.unsupported_values(toml.read(written(tmp_path, text))))
    assert [line.partition(": ")[0] for line in found] == [".".join("a" * 21), "y.big", "y.day", "y.none"]
    assert found[0].endswith("nested more than 20 levels deep")
    assert found[1].endswith("...: only integers of 64 bits are allowed") and len(found[1]) < 150
    assert "dates and times are not allowed" in found[2] and "only finite numbers" in found[3]


def test_values_are_shown_on_one_short_line() -> None:
    assert toml.shown("a\nb\x1b[1m") == r"'a\nb\x1b[1m'"
    assert len(toml.shown("x" * 10**6)) == toml.SHOWN
