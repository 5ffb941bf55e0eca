"""Images that stay on disk: the batches of memory, the same for every number of workers, and what is kept in files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from harness.data import disk, listings, loading, samples
from harness.data.batches import named_generator
from harness.data.locations import DataError
from tests.harness.specs import FROZEN, Shown, Spec

INPUT = Shown(16, 3)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path))
    samples.write_sample("oxford_iiit_pets", tmp_path, classes=2, each=12, size=24)
    return tmp_path


def spec(**changes: Any) -> Any:
    return replace(Spec("listing", use="harness.data.published:oxford_iiit_pets", reading="disk"), **changes)


def load(input: Any = INPUT, **changes: Any) -> loading.LoadedDataset:
    return loading.load_dataset(spec(**changes), input)


def equal(first: Any, second: Any) -> bool:
    pairs = list(zip(first, second, strict=True))
    return bool(pairs) and all(torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


def kept(root: Path, folder: str) -> list[Path]:
    return sorted(file for file in (root / folder).glob("*") if file.is_file())


@pytest.mark.parametrize("augment", ["none", "shift", "crop_flip"])
@pytest.mark.parametrize("resize", [None, 20])
def test_batches_are_those_of_memory(root: Path, augment: str, resize: int | None) -> None:
    input = replace(INPUT, resize=resize)
    ours, memory = load(input, augment=augment), load(input, augment=augment, reading="memory")
    assert equal(ours.fit.batches(5, seed=1, epoch=2), memory.fit.batches(5, seed=1, epoch=2))
    assert equal(ours.fit.batches(5), memory.fit.batches(5))
    assert equal(ours.select_a.batches(3), memory.select_a.batches(3))
    assert equal(ours.select_b.batches(3, seed=4), memory.select_b.batches(3, seed=4))
    assert equal(ours.test(FROZEN).batches(7), memory.test(FROZEN).batches(7))
    assert ours.sizes == memory.sizes


@pytest.mark.parametrize("augment", ["imagenet_crop", "imagenet_crop_flip"])
def test_workers_change_no_bit(root: Path, augment: str) -> None:
    state = torch.get_rng_state()
    alone, two = load(augment=augment, workers=0), load(augment=augment, workers=2)
    assert equal(alone.fit.batches(4, seed=3, epoch=1), two.fit.batches(4, seed=3, epoch=1))
    assert equal(alone.fit.batches(4), two.fit.batches(4))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    assert not equal(alone.fit.batches(4, seed=3, epoch=1), alone.fit.batches(4, seed=3, epoch=2))


def test_an_epoch_can_be_entered_in_its_middle(root: Path) -> None:
    fit = load(augment="imagenet_crop_flip").fit
    assert equal(islice(fit.batches(4, seed=3), 2, None), list(fit.batches(4, seed=3))[2:])


def test_crops_are_those_of_torchvision_from_the_original_image(root: Path) -> None:
    loaded = load(augment="imagenet_crop")
    listing = listings.open_listing(spec().use, {}, None)
    order = torch.randperm(len(loaded.fit), generator=named_generator("batches", 5, 0))
    places = loaded.fit._read._places  # type: ignore[attr-defined]
    crop = v2.RandomResizedCrop(16, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), interpolation=InterpolationMode.BICUBIC)
    shown, _ = next(loaded.fit.batches(3, seed=5))
    for pixels, row in zip(shown, order.tolist(), strict=False):
        torch.manual_seed(named_generator("crops", 5, 0, row).initial_seed())
        expected = np.asarray(crop(disk.original(listing, int(places[row])))).transpose(2, 0, 1)
        assert np.array_equal(((pixels * 0.5 + 0.5) * 255).round().numpy(), expected)


def test_half_of_the_crops_are_mirrored(root: Path) -> None:
    plain, flips = load(augment="imagenet_crop").fit, load(augment="imagenet_crop_flip").fit
    pairs = [
        (one, other)
        for epoch in range(4)
        for left, right in zip(
            plain.batches(4, seed=0, epoch=epoch), flips.batches(4, seed=0, epoch=epoch), strict=True
        )
        for one, other in zip(left[0], right[0], strict=True)
    ]
    mirrored = [torch.equal(other, one.flip(-1)) for one, other in pairs]
    assert all(flip or torch.equal(one, other) for (one, other), flip in zip(pairs, mirrored, strict=True))
    assert 0.25 < sum(mirrored) / len(mirrored) < 0.75


def test_evaluation_is_resize_and_centre_crop_of_torchvision(root: Path) -> None:
    input = replace(INPUT, resize=20)
    listing = listings.open_listing(spec().use, {}, None)
    transform = v2.Compose([v2.Resize(20, InterpolationMode.BICUBIC), v2.CenterCrop(16)])
    shown, _ = next(load(input).fit.batches(2))
    places = load(input).fit._read._places  # type: ignore[attr-defined]
    for pixels, place in zip(shown, places.tolist(), strict=False):
        expected = np.asarray(transform(disk.original(listing, place))).transpose(2, 0, 1)
        assert np.array_equal(((pixels * 0.5 + 0.5) * 255).round().numpy(), expected)


def test_hashes_are_kept_until_a_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load().fingerprint
    (table,) = kept(root, disk.HASHES)
    monkeypatch.setattr(disk, "content_hash", lambda pixels: pytest.fail("hashed again"))
    assert load().fingerprint == first
    monkeypatch.undo()
    monkeypatch.setenv("EAVIT_DATA", str(root))
    for damaged in (b"", table.read_bytes()[:200], b"\x93NUMPY"):
        table.write_bytes(damaged)
        assert load().fingerprint == first
    image = next((root / "oxford-iiit-pet" / "images").glob("*.jpg"))
    samples._photographs(image.parent, 24, {image.name: ("train", 7, 7)})
    assert load().fingerprint != first
    assert len(kept(root, disk.HASHES)) == 2


def test_pixels_of_evaluation_splits_are_written_once_and_at_the_first_reading(root: Path) -> None:
    loaded = load()
    assert kept(root, disk.PIXELS) == []
    first = list(loaded.select_a.batches(4))
    (file,) = kept(root, disk.PIXELS)
    assert file.stat().st_size == len(loaded.select_a) * 3 * 16 * 16
    shutil.rmtree(root / "oxford-iiit-pet" / "images")
    assert equal(loaded.select_a.batches(4), first)
    with pytest.raises(DataError, match="cannot be decoded"):
        list(loaded.select_b.batches(4))
    assert kept(root, disk.PIXELS) == [file]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_gone_is_named_by_every_worker(root: Path, workers: int) -> None:
    loaded = load(augment="imagenet_crop", workers=workers)
    shutil.rmtree(root / "oxford-iiit-pet" / "images")
    with pytest.raises(DataError, match=rf"^{root}/oxford-iiit-pet/images/breed_\S+\.jpg: cannot be decoded: "):
        next(loaded.fit.batches(4, seed=0))


def test_equal_images_never_lie_in_two_splits(root: Path) -> None:
    images = root / "oxford-iiit-pet" / "images"
    shutil.copy(images / "breed_0_test3.jpg", images / "breed_0_train5.jpg")
    assert load().dropped == load(reading="memory").dropped == 1


def test_the_fingerprint_follows_content_labels_and_sizes(root: Path) -> None:
    first = load().fingerprint
    assert load(workers=2, augment="imagenet_crop").fingerprint == first
    assert load(fit=10).fingerprint != first
    assert load(reading="memory").fingerprint != first
    annotations = root / "oxford-iiit-pet" / "annotations" / "trainval.txt"
    lines = annotations.read_text().replace("breed_0_train0 1", "breed_0_train0 2")
    annotations.write_text(lines)
    assert load().fingerprint != first


def test_an_image_folder_is_read_from_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path / "root"))
    for label in range(2):
        names = {f"train/c{label}/{n}.jpg": ("train", label, n) for n in range(8)}
        samples._photographs(tmp_path / "folder", 24, names)
    given = Spec("folder", path=str(tmp_path / "folder"), augment="crop")
    memory, ours = (loading.load_dataset(replace(given, reading=r), INPUT) for r in ("memory", "disk"))  # type: ignore[arg-type]
    assert equal(memory.fit.batches(3, seed=1), ours.fit.batches(3, seed=1))
    assert equal(memory.test(FROZEN).batches(3), ours.test(FROZEN).batches(3))


def test_memory_has_no_limit_on_disk_and_names_the_way_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.images.MEMORY_LIMIT", 1000)
    with pytest.raises(DataError, match='reading = "disk"'):
        load(reading="memory")
    assert loading.check_dataset(spec(), INPUT) == load().sizes  # type: ignore[arg-type]
