"""Data sets of Hugging Face: saved folders and parquet files as the package itself writes them, and what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data import loading, samples
from harness.data.listings import Listing, MissingFilesError, listing_state, open_listing
from harness.data.locations import DataError
from tests.harness.specs import Shown, Spec

datasets = pytest.importorskip("datasets")  # of the extra `hub`
USE = "harness.data.hub:hub_dataset"


def table(split: str, each: int, label: Any = None, numbers: Any = (0, 1)) -> Any:
    features = {"image": datasets.Image(), "label": label or datasets.ClassLabel(names=["ant", "bee"])}
    images = [Image.fromarray(samples.drawn(split, n % 2, n, 16, 24)) for n in range(each)]
    columns = {"image": images, "label": [numbers[n % 2] for n in range(each)]}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def saved(folder: Path, **splits: Any) -> None:
    datasets.DatasetDict(splits).save_to_disk(folder)


def listed(root: Path, **options: Any) -> Listing:
    return open_listing(USE, options, str(root), download=False)


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """The same data set in two forms: ``saved`` and ``parquet``."""
    splits = {"train": table("train", 20), "validation": table("val", 8), "test": table("test", 8)}
    saved(tmp_path / "saved", **splits)
    for name, each in splits.items():
        file = tmp_path / "parquet" / "data" / f"{name}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        each.to_parquet(file)
    return tmp_path


def test_both_forms_give_the_images_labels_and_splits_of_the_package(both: Path) -> None:
    theirs = datasets.load_from_disk(str(both / "saved"))
    for name in ("saved", "parquet"):
        ours = listed(both, name=name)
        assert ours.classes == ("ant", "bee")
        assert {role: len(split) for role, split in ours.splits.items()} == {"train": 20, "select": 8, "test": 8}
        for role, split in (("train", "train"), ("select", "validation"), ("test", "test")):
            assert list(ours.splits[role].labels) == list(theirs[split]["label"])
            for index in range(len(theirs[split])):
                shown = np.asarray(ours.splits[role].decoded(index))
                assert np.array_equal(shown, np.asarray(theirs[split][index]["image"]))
        assert [path.parent.parent.name for path in ours.files if path.suffix == ".arrow"] == ["saved"] * (
            3 if name == "saved" else 0
        )


@pytest.mark.parametrize("name", ["saved", "parquet"])
def test_a_set_can_be_read_from_disk_by_workers(both: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAVIT_DATA", str(both / "kept"))
    spec = Spec("listing", use=USE, options={"name": name}, path=str(both), reading="disk", workers=2)
    loaded = loading.load_dataset(spec, Shown(16, 3))  # type: ignore[arg-type]
    assert loaded.sizes == {"fit": 20, "select_a": 4, "select_b": 4, "test": 8}
    assert next(loaded.fit.batches(4, seed=0))[0].shape == (4, 3, 16, 16)


def test_a_change_of_a_file_is_a_change_of_the_set(both: Path) -> None:
    before = listing_state(listed(both, name="parquet"))
    assert listing_state(listed(both, name="parquet")) == before
    table("train", 18).to_parquet(both / "parquet" / "data" / "train-00000-of-00001.parquet")
    changed = listed(both, name="parquet")
    assert len(changed.train) == 18
    assert listing_state(changed) != before


def test_splits_columns_and_labels_can_be_named(tmp_path: Path) -> None:
    named = table("train", 8, datasets.Value("string"), ("wren", "robin")).rename_column("label", "bird")
    saved(tmp_path / "birds", first=named, second=named.select(range(4)))
    listing = listed(tmp_path, name="birds", label="bird", splits={"train": "first", "test": "second"})
    assert listing.classes == ("robin", "wren")
    assert list(listing.train.labels)[:2] == [1, 0]
    assert {role: len(split) for role, split in listing.splits.items()} == {"train": 8, "test": 4}
    table("train", 6, datasets.Value("int64"), (0, 4)).save_to_disk(tmp_path / "one")
    assert listed(tmp_path, name="one").classes == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "img"}, "set: column 'img': is not there; allowed: image, label"),
        ({"image": "label", "splits": {"train": "train"}}, "column 'label': holds ClassLabel, no images"),
        ({"splits": {"train": "trian"}}, "set: split 'trian': is not there; allowed: train, test; nearest: train"),
        ({"splits": {"test": "test"}}, "set: splits.train: name the split to train on; the data set has: train, test"),
        ({"splits": {"fit": "train"}}, "set: splits.fit: unknown; allowed: train, select, test"),
        ({}, "set: a label is -1: a split without labels"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    saved(tmp_path / "set", train=table("train", 4), test=table("test", 4, numbers=(-1, -1)))
    with pytest.raises(DataError, match=message):
        listed(tmp_path, **{"name": "set", **options})


def test_a_folder_of_something_else_and_damaged_parquet_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="set: holds neither a data set of save_to_disk nor parquet files"):
        listed(tmp_path, name="set")
    (tmp_path / "set" / "train.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="set: cannot be read"):
        listed(tmp_path, name="set")


def test_what_the_hub_has_is_saved_below_the_data_root_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def load_dataset(name: str, config: str | None, cache_dir: str) -> Any:
        asked.append((name, config))
        assert Path(cache_dir).is_relative_to(tmp_path / "hub")
        return datasets.DatasetDict(train=table("train", 6))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    options = {"name": "someone/birds", "config": "small"}
    with pytest.raises(MissingFilesError, match=r"someone/birds: missing in .*hub/someone--birds--small"):
        listed(tmp_path, **options)
    for _ in range(2):
        assert len(open_listing(USE, options, str(tmp_path))) == 6
    assert asked == [("someone/birds", "small")]
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["someone--birds--small"]


def test_a_download_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object, **options: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match=r"someone/birds: missing in .*failed \(ConnectionError: no route to host\)"):
        open_listing(USE, {"name": "someone/birds"}, str(tmp_path))
    assert list(tmp_path.rglob("*")) == []


def test_without_the_package_the_line_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs the package datasets: python -m pip install 'eavit-bench\[hub\]'"):
        listed(tmp_path, name="set")
