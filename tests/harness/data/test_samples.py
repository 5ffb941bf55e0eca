"""Samples of published sets: equal each time, and with what a caller asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data import published, samples
from harness.data.listings import open_listing


def content(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("name", ["cifar10", "dtd", "medmnist"])
def test_the_same_arguments_give_the_same_files(name: str, tmp_path: Path) -> None:
    for place in ("a", "b"):
        samples.write_sample(name, tmp_path / place, classes=2, each=2, size=16)
    first, second = content(tmp_path / "a"), content(tmp_path / "b")
    assert first == second and first


def test_every_published_set_has_a_sample() -> None:
    assert set(samples.WRITERS) == set(published.__all__)


def test_an_unknown_name_has_its_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'cifar1': no such sample; .*cifar10"):
        samples.write_sample("cifar1", tmp_path)


def test_size_and_number_are_as_requested(tmp_path: Path) -> None:
    samples.write_sample("oxford_iiit_pets", tmp_path, classes=2, each=5, size=40)
    listing = open_listing("harness.data.published:oxford_iiit_pets", {}, str(tmp_path))
    assert np.bincount(listing.train.labels).tolist() == [5, 5]
    assert listing.train.decoded(0).size == (60, 40)


def test_images_of_one_class_differ_and_classes_differ_more() -> None:
    same, near, far = (
        samples.drawn("train", *place, 32, 32).astype(float).mean((0, 1)) for place in ((0, 0), (0, 1), (1, 0))
    )
    assert not np.array_equal(samples.drawn("train", 0, 0, 8, 8), samples.drawn("train", 0, 1, 8, 8))
    assert not np.array_equal(samples.drawn("train", 0, 0, 8, 8), samples.drawn("test", 0, 0, 8, 8))
    assert abs(same - near).max() < 60 and far.shape == (3,)
