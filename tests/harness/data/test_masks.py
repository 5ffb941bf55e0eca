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
from tests.harness.specs import FROZEN, Shown, Spec

PETS, VOC, CITYSCAPES = (
    f"harness.data.published:{name}_masks" for name in ("oxford_iiit_pets", "voc2012", "cityscapes")
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for name in ("oxford_iiit_pets_masks", "voc2012_masks", "cityscapes_masks"):
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


def test_cityscapes_has_the_masks_of_torchvision_and_its_19_classes(root: Path) -> None:
    listing, known = open_listing(CITYSCAPES, {}, str(root)), torchvision.datasets.Cityscapes.classes
    counted = {each.train_id: each.name for each in known if each.train_id in range(19)}
    assert listing.classes == tuple(counted[index] for index in range(19))
    table = np.full(256, 255)
    table[[each.id for each in known]] = [each.train_id % 256 for each in known]  # -1 is a number plate
    for split, name in (("train", "train"), ("test", "val")):
        theirs = torchvision.datasets.Cityscapes(str(root / "cityscapes"), name, target_type="semantic")
        ours = {str(path): index for index, path in enumerate(listing.splits[split].images)}
        assert sorted(ours) == sorted(theirs.images) and len(ours) == 95
        for index in (0, 50, 94):
            labels, place = listing.splits[split].labels, ours[theirs.images[index]]
            assert isinstance(labels, MaskFiles)
            mask = table[np.asarray(theirs[index][1])]
            assert np.array_equal(labels.decoded(place, theirs[index][0].size, 19), mask)
            assert len(np.unique(mask)) == 3 - (listing.classes[0] in theirs.images[index])


def test_a_missing_mask_of_cityscapes_is_named_and_the_folder_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing in .*cityscapes: leftImg8bit/train, .*after registration"):
        open_listing(CITYSCAPES, {}, str(tmp_path))
    samples.write_sample("cityscapes_masks", tmp_path, each=1, size=12)
    gone = tmp_path / "cityscapes/gtFine/val/aachen/aachen_000003_000000_gtFine_labelIds.png"
    gone.unlink()
    with pytest.raises(DataError, match=rf"1 of 38 images are missing, the first {gone}"):
        open_listing(CITYSCAPES, {}, str(tmp_path))


def difference(masks: torch.Tensor, images: torch.Tensor) -> float:
    """Share of counted pixels whose class is not that of the image, where stripes are class 0 and grey is class 1."""
    stripes = (images - images.median()).abs().amax(1) > 0.15
    counted = masks < 2
    return float(((masks == 0) != stripes)[counted].float().mean())


@pytest.mark.parametrize("reading", ["memory", "disk"])
@pytest.mark.parametrize("augment", ["none", "shift", "crop", "crop_flip"])
def test_masks_are_augmented_as_their_images_are(augment: str, reading: str, root: Path) -> None:
    fit = loaded(PETS, root, augment=augment, reading=reading).fit
    images, masks = next(fit.batches(12, seed=1))
    assert (masks.shape, masks.dtype) == ((12, 16, 16), torch.uint8) and set(masks.unique().tolist()) <= {0, 1, 2, 255}
    assert difference(masks, images) < 0.75 * difference(masks, images.roll(2, -1))
    assert difference(masks, images) < 0.6 * difference(masks.flip(-1), images)
    assert (masks == 255).any() == (augment == "shift")


def test_batches_of_disk_are_those_of_memory(root: Path) -> None:
    for augment in ("none", "crop_flip"):
        disk, memory = (
            loaded(VOC, root, augment=augment, reading=reading, workers=2 * (reading == "disk"))
            for reading in ("disk", "memory")
        )
        for name in ("fit", "select_a", "select_b"):
            pairs = zip(*(getattr(data, name).batches(16, seed=3) for data in (disk, memory)), strict=True)
            assert all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))
        assert torch.equal(disk.test(FROZEN).labels, memory.test(FROZEN).labels)


@pytest.mark.parametrize("augment", ["imagenet_crop_flip", "segmentation"])
def test_crops_of_the_originals_take_their_masks_along(augment: str, root: Path) -> None:
    alone, two = (loaded(PETS, root, augment=augment, reading="disk", workers=workers).fit for workers in (0, 2))
    batches = list(zip(alone.batches(7, seed=2), two.batches(7, seed=2), strict=True))
    for (images, masks), (others, of_others) in batches:
        assert torch.equal(images, others) and torch.equal(masks, of_others), "workers change no bit"
        assert (images.shape, masks.shape, masks.dtype) == ((7, 3, 16, 16), (7, 16, 16), torch.uint8)
    images, masks = (torch.cat(part) for part in zip(*(one for one, _ in batches), strict=True))
    assert difference(masks, images) < 0.7 * difference(masks.flip(-1), images)
    plain = next(alone.batches(7))
    assert torch.equal(plain[1], alone.labels[:7]) and not torch.equal(plain[1], batches[0][0][1])


def test_masks_on_disk_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path))
    samples.write_sample("oxford_iiit_pets_masks", tmp_path, classes=2, each=6, size=12)
    first = loaded(PETS, tmp_path, reading="disk").fingerprint
    monkeypatch.setattr(MaskFiles, "square", lambda *given: pytest.fail("cut again"))
    assert loaded(PETS, tmp_path, reading="disk").fingerprint == first
    monkeypatch.undo()
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path))
    file = next((tmp_path / "oxford-iiit-pet/annotations/trimaps").iterdir())
    Image.fromarray(np.asarray(Image.open(file)) % 3 + 1).save(file)
    assert loaded(PETS, tmp_path, reading="disk").fingerprint != first
    assert len(list((tmp_path / "masks").iterdir())) == 2
