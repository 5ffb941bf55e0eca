"""Identity from end to end: real files of code and data are edited, and exactly the touched cells get other ids."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness import code_digest, fingerprints, plan, suite
from harness.data import loading, locations, published, samples
from harness.fingerprints import Known
from harness.plan import Prints
from harness.suite import Suite
from tests.harness import small
from tests.harness.commands import in_process

COUNT = itertools.count()
Ids = dict[tuple[str, str, int], str]


def pictures(root: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for name, i in itertools.product(("cat", "dog"), range(8)):
        file = root / "train" / name / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(file)
    return root


class World:
    """A suite file with a plugin of three methods and two folders of images, all of it in one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.plugin, self.read = root, f"world{next(COUNT)}", 0
        for name, text in {
            "__init__": "",
            "net": "def backbone(num_classes): ...\n",
            "helper": "X = 1\n",
            "one": "from . import helper\ndef method(tag=''): ...\n",
            "two": f"def method(tag=''):\n    from {self.plugin}.helper import X\n",
            "three": "def method(tag=''): ...\n",
        }.items():
            self.file(name).parent.mkdir(parents=True, exist_ok=True)
            self.file(name).write_text(text)
        importlib.invalidate_caches()
        pictures(root / "red", 1)
        pictures(root / "blue", 2)

    def file(self, module: str) -> Path:
        return self.root / self.plugin / f"{module}.py"

    def raw(self, **changes: Any) -> dict[str, Any]:
        return small.raw(**{
            "backbone": {"use": f"{self.plugin}.net:backbone"},
            "datasets": [{"name": name, "source": "folder", "path": name} for name in ("red", "blue")],
            "methods": [{"name": m, "use": f"{self.plugin}.{m}:method"} for m in ("one", "two", "three")],
            "seeds": [0, 1],
            **changes,
        })  # fmt: skip

    def suite(self, **changes: Any) -> Suite:
        return suite.parse(suite.anchored(self.raw(**changes), self.root), "world.toml")

    def prints(self, **changes: Any) -> Prints:
        return fingerprints.prints_of(self.suite(**changes), self.root / "cache")

    def ids(self, **changes: Any) -> Ids:
        given = self.suite(**changes)
        return {(c.method, c.dataset, c.seed): c.id for c in plan.cells(given, self.prints(**changes))}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.syspath_prepend(tmp_path)
    made = World(tmp_path)

    def here(reader: str, requests: list[dict[str, Any]], *options: Any) -> list[dict[str, Any]]:
        """In this process, which has torch already: the other process is tested by itself below."""
        made.read += len(requests)
        return [loading.describe_dataset(request) for request in requests]

    monkeypatch.setenv("EAVIT_DATA", str(tmp_path / "root"))
    monkeypatch.setattr(fingerprints, "call_each", here)
    return made


def touched(before: Ids, after: Ids) -> set[tuple[str, str]]:
    assert before.keys() == after.keys()
    return {key[:2] for key in before if before[key] != after[key]}


def grow(path: Path, text: str) -> Callable[[], object]:
    return lambda: path.write_text(path.read_text() + text)


METHODS, SETS = ("one", "two", "three"), ("red", "blue")
ALL = set(itertools.product(METHODS, SETS))


def flipped(file: Path) -> None:
    """One pixel changed by one."""
    pixels = np.array(Image.open(file))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(file)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda w: grow(w.file("one"), "Y = 1\n")(), {("one", d) for d in SETS}),
        (lambda w: grow(w.file("helper"), "Y = 1\n")(), {(m, d) for m in ("one", "two") for d in SETS}),
        (lambda w: grow(w.file("net"), "Y = 1\n")(), ALL),
        (lambda w: grow(w.file("__init__"), "Y = 1\n")(), ALL),
        (lambda w: flipped(w.root / "red" / "train" / "cat" / "3.png"), {(m, "red") for m in METHODS}),
        (lambda w: (w.root / "blue" / "train" / "dog" / "3.png").unlink(), {(m, "blue") for m in METHODS}),
        (lambda w: (w.root / "red/train/cat").rename(w.root / "red/train/cow"), {(m, "red") for m in METHODS}),
        (lambda w: grow(w.file("one"), "# a comment\n\n")(), set()),
        (lambda w: w.file("two").write_text("'''What it is.'''\n" + w.file("two").read_text()), set()),
        (lambda w: (w.root / "red" / "train" / "cat" / "3.png").rename(w.root / "red/train/cat/x.png"), set()),
        (lambda w: os.utime(w.root / "red" / "train" / "cat" / "3.png"), set()),
        (lambda w: shutil.rmtree(w.root / "cache"), set()),
    ],
)  # fmt: skip
def test_an_edit_touches_exactly_its_cells(
    world: World, edit: Callable[[World], object], expected: set[tuple[str, str]]
) -> None:
    before = world.ids()
    edit(world)
    assert touched(before, world.ids()) == expected


def test_code_that_an_option_names_counts_for_that_method(world: World) -> None:
    rule = f"{world.plugin}.rule"
    methods = [{"name": m, "use": f"{world.plugin}.{m}:method"} for m in METHODS]
    methods[1] |= {"options": {"tag": f"{rule}:mine"}}
    missing = world.ids(methods=methods)
    assert f"{rule}:mine" not in world.prints(methods=methods).code
    world.file("rule").write_text("def mine(): ...\n")
    importlib.invalidate_caches()
    before = world.ids(methods=methods)
    assert touched(missing, before) == {("two", d) for d in SETS}
    grow(world.file("rule"), "Y = 1\n")()
    assert touched(before, world.ids(methods=methods)) == {("two", d) for d in SETS}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": {"lr": 0.5}}, ALL),
        ({"threads": 2}, ALL),
        ({"processes": 2, "timeout_minutes": 1, "memory_gib": 2.0, "disk_gib": 1}, set()),
        ({"title": "T", "name": "other"}, set()),
    ],
)  # fmt: skip
def test_the_recipe_counts_and_how_it_is_run_does_not(world: World, changes: Any, expected: set[Any]) -> None:
    assert touched(world.ids(), world.ids(**changes)) == expected


def test_splits_and_augmentation_touch_their_set(world: World) -> None:
    sets = [{**entry, "fit": 6} if entry["name"] == "red" else entry for entry in world.raw()["datasets"]]
    assert touched(world.ids(), world.ids(datasets=sets)) == {(m, "red") for m in METHODS}


def test_order_names_and_keys_change_nothing(world: World) -> None:
    raw, before = world.raw(), world.ids()
    turned = {key: raw[key][::-1] for key in ("datasets", "methods", "seeds")}
    assert world.ids(**turned) == before
    renamed = [{**entry, "name": f"{entry['name']} ø"} for entry in raw["datasets"]]
    assert set(world.ids(datasets=renamed).values()) == set(before.values())
    renamed = [{**entry, "name": f"{entry['name']}-2"} for entry in raw["methods"]]
    assert set(world.ids(methods=renamed).values()) == set(before.values())


def test_the_same_folder_elsewhere_is_the_same(world: World, tmp_path: Path) -> None:
    before = world.ids()
    for name in ("red", "blue"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    sets = [{"name": name, "source": "folder", "path": f"moved/{name}"} for name in ("red", "blue")]
    assert world.ids(datasets=sets) == before


def test_an_archive_of_a_folder_is_the_same_data(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path / "root"))
    before = world.ids()
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "red")
    sets = [{"name": "red", "source": "folder", "path": "packed.zip"}, world.raw()["datasets"][1]]
    assert world.ids(datasets=sets) == before
    (folder,) = (tmp_path / "root" / "unpacked").iterdir()
    stamp = folder.stat().st_mtime_ns
    assert loading.load_dataset(world.suite(datasets=sets).datasets[0], world.suite().input).num_classes == 2
    assert [kept.stat().st_mtime_ns for kept in (tmp_path / "root" / "unpacked").iterdir()] == [stamp]


# --- the cache ------------------------------------------------------------------------------------------------------


def test_data_is_read_once(world: World) -> None:
    world.ids()
    assert world.read == 2
    world.ids()
    assert world.read == 2
    world.ids(input={"size": 9, "channels": 1})
    assert world.read == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"key": "x", "fingerprint": "y", "fit": 1}', b"\xff"])
def test_a_damaged_cache_is_made_again(world: World, damage: bytes) -> None:
    before = world.ids()
    for file in (world.root / "cache").iterdir():
        file.write_bytes(damage)
    assert world.ids() == before
    assert world.read == 4
    assert world.ids() == before
    assert world.read == 4


def test_a_stranger_in_the_cache_is_not_believed(world: World) -> None:
    before = world.ids()
    one, two = sorted((world.root / "cache").iterdir())
    one.write_bytes(two.read_bytes())
    assert world.ids() == before


def test_data_that_changes_while_it_is_read_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read = fingerprints.call_each

    def slowly(*request: Any) -> Any:
        answer = read(*request)
        flipped(world.root / "red" / "train" / "cat" / "3.png")
        return answer

    monkeypatch.setattr(fingerprints, "call_each", slowly)
    world.ids()
    assert len(list((world.root / "cache").iterdir())) == 1


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(world: World) -> None:
    (world.root / "cache").write_text("a file where the folder should be")
    assert len(world.ids()) == 12
    assert world.read == 2


@pytest.mark.parametrize("version", ["COUNTER_VERSION"])
def test_another_counter_reads_again(world: World, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ids()
    monkeypatch.setattr(fingerprints, version, 99)
    world.ids()
    assert world.read == 4


def test_the_key_covers_all_code_that_reads_images() -> None:
    read = set(code_digest.Project("harness").closure(fingerprints.READER))
    assert {f"harness.data.{name}" for name in ("archive", "image_folder", "images", "sources", "splits")} <= read


def test_no_byte_of_a_warm_plan_comes_from_torch_and_it_is_fast(tmp_path: Path) -> None:
    given = small.suite(datasets=[{"name": "digits"}, {"name": "mnist5k"}])
    for entry in given.datasets:
        key = fingerprints._key(entry, given.input, None)
        fingerprints._remember(tmp_path, Known(key=key, fingerprint="ab" * 32, fit=200))
    script = f"""
        import sys, time
        from pathlib import Path
        from harness import fingerprints, plan, suite
        given = suite.Suite.model_validate_json({given.model_dump_json()!r})
        began = time.process_time()
        found = fingerprints.prints_of(given, Path({str(tmp_path)!r}), print)
        spent = time.process_time() - began
        print(found.data["mnist5k"][:2], "torch" in sys.modules, "numpy" in sys.modules, spent < 0.6, spent)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:4] == ["ab", "False", "False", "True"], done.stdout


# --- listings -------------------------------------------------------------------------------------------------------


def test_a_listing_is_read_again_when_a_file_changes_and_missing_where_there_is_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "call_each", in_process.called_each)
    use = "harness.data.published:eurosat"
    given = small.suite(
        datasets=[{"name": "land", "use": use, "source": "listing", "path": str(world.root), "reading": "disk"}]
    )
    monkeypatch.setattr(published, "_torchvision", lambda *given: None)
    assert "EuroSAT: missing in" in fingerprints.prints_of(given, world.root / "cache").missing["land"]
    samples.write_sample("eurosat", world.root, classes=2, each=6, size=8)
    said: list[str] = []
    first, again = (fingerprints.prints_of(given, world.root / "cache", said.append) for _ in range(2))
    assert first == again and first.data["land"] and len(said) == 1
    pictures(world.root, 3)
    (world.root / "eurosat" / "2750" / "Land0" / "Land0_0.jpg").unlink()
    assert fingerprints.prints_of(given, world.root / "cache").data["land"] != first.data["land"]


# --- data that is not there, and the other process ------------------------------------------------------------------


def test_missing_data_is_reported_and_no_error(world: World) -> None:
    sets = [*world.raw()["datasets"], {"name": "gone", "source": "folder", "path": "nowhere"}]
    found = world.prints(datasets=sets)
    assert found.data["gone"] is None
    assert found.missing["gone"].startswith('data set "gone" (source "folder"): path = ')
    assert "there is no such folder" in found.missing["gone"]
    before = world.ids(datasets=sets)
    pictures(world.root / "nowhere", 3)
    assert touched(before, world.ids(datasets=sets)) == {(m, "gone") for m in METHODS}


def test_damaged_data_is_reported_and_read_again_when_mended(world: World) -> None:
    bad = world.root / "red" / "train" / "cat" / "3.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:30])
    found = world.prints()
    assert (found.data["red"], found.data["blue"] is None) == (None, False)
    assert "3.png: cannot be decoded" in found.missing["red"]
    bad.write_bytes(whole)
    assert world.prints().missing == {}


def test_a_package_that_is_not_installed_is_reported_before_any_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(locations.PACKAGED, "digits", ("no_such_package", "x.csv"))
    found = fingerprints.prints_of(small.suite(), Path("unused"))
    assert "no_such_package is not installed" in found.missing["digits"]


def test_the_other_process_tells_what_load_tells(tmp_path: Path) -> None:
    pictures(tmp_path / "red", 1)
    bad = pictures(tmp_path / "blue", 2) / "train" / "cat" / "3.png"
    bad.write_bytes(b"no image")
    sets = [{"name": f"{name} 'ø/", "source": "folder", "path": str(tmp_path / name)} for name in ("red", "blue")]
    given, told = small.suite(datasets=sets), []
    found = fingerprints.prints_of(given, tmp_path / "cache", told.append)
    assert found.data == {"red 'ø/": loading.load_dataset(given.datasets[0], given.input).fingerprint, "blue 'ø/": None}
    assert "3.png: cannot be decoded" in found.missing["blue 'ø/"]
    assert told == ["reading red 'ø/, blue 'ø/ to know what is in there"]
    assert json.loads(next((tmp_path / "cache").iterdir()).read_text())["fingerprint"] == found.data["red 'ø/"]


def test_a_reader_that_dies_is_reported_for_what_it_did_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_reader.py").write_text(
        "import os\n"
        "def describe(request):\n"
        "    if request['dataset']['name'] == 'digits':\n"
        "        return {'fingerprint': 'cd' * 32, 'fit': 9}\n"
        "    print('no more memory', flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(fingerprints, "READER", "dying_reader:describe")
    given = small.suite(datasets=[{"name": "digits"}, {"name": "mnist5k"}])
    monkeypatch.setattr(fingerprints, "_key", lambda entry, input, listed: entry.name)
    found = fingerprints.prints_of(given, tmp_path / "cache")
    assert found.data == {"digits": "cd" * 32, "mnist5k": None}
    assert found.fit == {"digits": 9}
    assert (
        found.missing["mnist5k"]
        == "reading it failed: killed from outside by SIGKILL; memory may have run out: no more memory"
    )
