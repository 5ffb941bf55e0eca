"""Masks of a segmentation: read with their images, in the same geometry, and refused by name where they are none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from harness.data import loading, samples
from harness.data.decoding import square_pixels
from harness.data.listings import Listing, describe_state, open_listing
from harness.data.locations import DataError
from harness.data.masks import MaskFiles, present_classes
from tests.harness.specs import Shown, Spec

PETS, VOC = ("harness.data.published:oxford_iiit_pets_masks", "harness.data.published:voc2012_masks")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for name in ("oxford_iiit_pets_masks", "voc2012_masks"):
        samples.write_sample(name, folder, classes=3, each=5, size=24)
    return folder


def loaded(use: str, root: Path, **more: Any) -> loading.LoadedDataset:
    spec = Spec("listing", use=use, path=str(root), **more)
    return loading.load_dataset(spec, Shown(16, 3))  # type: ignore[arg-type]


def test_pets_have_the_trimaps_of_torchvision(root: Path) -> None:
    listing = open_listing(PETS, {}, str(root))
    for split, name in (("train", "trainval"), ("test", "test")):
        theirs = torchvision.datasets.OxfordIIITPet(str(root), name, target_types="segmentation")
        assert len(theirs) == len(listing.splits[split]) == 15
        _same(listing, split, theirs, lambda values: np.where(values == 255, 255, values - 1))


def test_voc_has_the_masks_of_torchvision(root: Path) -> None:
    listing = open_listing(VOC, {}, str(root))
    assert len(listing.classes) == 21 and listing.classes[15] == "person"
    for split, name in (("train", "train"), ("test", "val")):
        theirs = torchvision.datasets.VOCSegmentation(str(root), image_set=name)
        assert len(theirs) == len(listing.splits[split]) == 100
        _same(listing, split, theirs, lambda values: values)


def _same(listing: Listing, split: str, theirs: Any, classes_of: Any) -> None:
    part = listing.splits[split]
    for index in (0, len(theirs) - 1):
        image, mask = theirs[index]
        assert np.array_equal(np.asarray(part.decoded(index)), np.asarray(image.convert("RGB")))
        assert isinstance(part.labels, MaskFiles)
        square = part.labels.square(index, image.size, 24, None, len(listing.classes))
        assert np.array_equal(square[:, 4:20], classes_of(np.asarray(mask)[:, 10:26])), "36 x 24, the centre cut out"


def test_masks_move_with_their_images_and_every_split_has_every_class(root: Path) -> None:
    data = loaded(PETS, root)
    data.check_task("pets", "segmentation")
    assert sum(data.sizes.values()) + data.dropped == 30
    for split in (data.fit, data.select_a, data.select_b):
        images, masks = next(split.batches(4))
        assert (images.shape[1:], masks.shape[1:], masks.dtype) == ((3, 16, 16), (16, 16), torch.uint8)
        assert set(masks.unique().tolist()) == {0, 1, 2}
        inside = images.std(1)[masks == 0].mean()  # stripes in colours on plain grey
        assert inside > 2 * images.std(1)[masks == 1].mean()


def test_a_mask_is_cut_as_its_image_is() -> None:
    values = np.zeros((30, 50), dtype=np.uint8)
    values[10:20, 20:30] = 1
    for resize in (None, 24):
        image = Image.fromarray(values * 255)
        pixels = square_pixels(image, 20, 1, resize)[0] > 127
        mask = _square(values, resize=resize)
        assert (mask == pixels).mean() > 0.97


def _square(values: np.ndarray, resize: int | None = None, classes: int = 2, first: int = 0) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mask.png"
        Image.fromarray(values).save(file)
        return MaskFiles([file], first).square(0, (50, 30), 20, resize, classes)


@pytest.mark.parametrize(
    ("values", "classes", "first", "fault"),
    [
        (np.full((30, 50), 2, np.uint8), 2, 0, r"mask\.png.?: value 2; allowed: 0 to 1, and 255"),
        (np.zeros((30, 50), np.uint8), 2, 1, r"value 0; allowed: 1 to 2, and 255"),
        (np.zeros((50, 30), np.uint8), 2, 0, r"no mask: 50 x 30 values of uint8, image 30 x 50"),
        (np.zeros((30, 50, 3), np.uint8), 2, 0, r"no mask: 30 x 50 x 3 values"),
    ],
)
def test_what_is_no_mask_is_named(values: np.ndarray, classes: int, first: int, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        _square(values, classes=classes, first=first)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"mask\.png.?: cannot be decoded"):
        MaskFiles([tmp_path / "mask.png"]).square(0, (5, 5), 4, None, 2)


def test_present_classes_leave_out_what_does_not_count() -> None:
    masks = np.array([[[0, 255]], [[2, 2]]], dtype=np.uint8)
    assert present_classes(masks, 3).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_a_changed_mask_is_a_changed_set(root: Path) -> None:
    request = {"use": PETS, "options": {}, "path": str(root)}
    before = describe_state(request)
    file = next((root / "oxford-iiit-pet" / "annotations" / "trimaps").iterdir())
    file.write_bytes(file.read_bytes() + b" ")
    assert before != describe_state(request) is not None


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"augment": "crop_flip"}, 'augment = "crop_flip": only "none" with masks'),
        ({"reading": "disk"}, 'reading = "disk": only for labels'),
    ],
)
def test_what_masks_cannot_do_yet_is_said(more: dict[str, Any], fault: str, root: Path) -> None:
    with pytest.raises(DataError, match=fault):
        loaded(PETS, root, **more)
