"""Data sets that a callable makes: where their folder is, when it is made again, why it cannot be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import picture_plugins
from harness.jobs.call import CallError
from harness.suite import SuiteError
from tests.harness import small


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "drawn_set.py").write_text("def draw(): return 1\n")
    return tmp_path


def suite(**options: Any) -> Any:
    return small.suite(datasets=[{"name": "drawn", "use": "drawn_set:draw", "options": options}])


def path_of(**options: Any) -> str:
    (entry,) = picture_plugins.located(suite(**options)).datasets
    assert entry.source == "folder" and entry.path is not None
    return entry.path


def test_the_folder_follows_code_and_options(root: Path) -> None:
    first = path_of(k=1)
    assert Path(first).parent == root / "data" / "plugins"
    assert path_of(k=1) == first != path_of(k=2)
    (root / "drawn_set.py").write_text("def draw(): return 2\n")
    assert path_of(k=1) != first


def test_what_lists_images_is_a_listing_with_its_own_path(root: Path) -> None:
    (root / "drawn_set.py").write_text("def draw() -> listings.Listing: ...\n")
    (entry,) = picture_plugins.located(suite()).datasets
    assert (entry.source, entry.path) == ("listing", None)
    assert picture_plugins.make_missing([entry], lambda text: pytest.fail(text)) == {}
    given = small.suite(datasets=[{"name": "drawn", "use": "drawn_set:draw", "path": "/somewhere"}])
    assert picture_plugins.located(given).datasets[0].path == "/somewhere"


def test_a_path_beside_pictures_is_refused(root: Path) -> None:
    given = small.suite(datasets=[{"name": "drawn", "use": "drawn_set:draw", "path": "p"}])
    with pytest.raises(SuiteError, match=r"datasets\[0\]\.path: 'p': leave it out where `use` makes the pictures"):
        picture_plugins.located(given)


def test_only_missing_pictures_are_made_and_a_failure_has_its_reason(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def call(entry: str, request: Any, deadline: float, project: Any) -> int:
        asked.append(request)
        raise CallError("no luck")

    monkeypatch.setattr(picture_plugins, "call", call)
    (entry,) = picture_plugins.located(suite(k=1)).datasets
    said: list[str] = []
    assert picture_plugins.make_missing([entry], said.append) == {"drawn": "no luck"}
    assert said == ["making the pictures of drawn with drawn_set:draw"]
    assert asked == [{"use": "drawn_set:draw", "options": {"k": 1}, "folder": entry.path}]
    Path(str(entry.path)).mkdir(parents=True)
    assert picture_plugins.make_missing([entry, *small.suite().datasets], said.append) == {}
    assert len(asked) == 1


def test_a_digest_knows_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    first = picture_plugins.pictures_digest(tmp_path)
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert picture_plugins.pictures_digest(tmp_path) != first
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    assert picture_plugins.pictures_digest(tmp_path) == first
