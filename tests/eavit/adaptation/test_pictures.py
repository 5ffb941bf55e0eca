"""Folders of pictures: divided by content, read with the model's preprocessing, refused by place."""

import numpy as np
import pytest
import torch
from PIL import Image

from eavit.adaptation.pictures import (
    PicturesError,
    describe_samples,
    digest_of_samples,
    picture_loader,
    read_pictures,
)

DATA = {"input_size": [1, 8, 8], "mean": [0.5], "std": [0.5], "interpolation": "bicubic", "crop_pct": 1.0}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    """Two classes of ten and five pictures, each of one grey value."""
    for name, count in (("cat", 10), ("dog", 5)):
        for i in range(count):
            write(tmp_path / "photos" / name / f"{i}.png", 10 * i + (name == "dog"))
    return tmp_path / "photos"


def test_a_fifth_of_each_class_is_for_validation(photos):
    folder = read_pictures(photos)
    assert folder.classes == ("cat", "dog")
    assert [sum(label == c for _, label in folder.val) for c in (0, 1)] == [2, 1]
    assert [sum(label == c for _, label in folder.train) for c in (0, 1)] == [8, 4]
    assert not {p for p, _ in folder.train} & {p for p, _ in folder.val}


def test_the_division_follows_the_content_not_the_names(photos):
    before = {path.read_bytes() for path, _ in read_pictures(photos).val}
    for path in sorted(photos.rglob("*.png"), reverse=True):
        path.rename(path.with_name(f"renamed-{99 - int(path.stem)}.png"))
    assert {path.read_bytes() for path, _ in read_pictures(photos).val} == before


def test_equal_files_stay_together(photos):
    for i in range(5):
        write(photos / "dog" / f"copy{i}.png", 1)
    folder = read_pictures(photos)
    assert not {p.read_bytes() for p, _ in folder.train} & {p.read_bytes() for p, _ in folder.val}


def test_official_folders_are_taken(photos, tmp_path):
    (tmp_path / "both").mkdir()
    photos.rename(tmp_path / "both" / "train")
    write(tmp_path / "both" / "val" / "dog" / "a.png", 3)
    folder = read_pictures(tmp_path / "both")
    assert (len(folder.train), folder.val) == (15, ((tmp_path / "both" / "val" / "dog" / "a.png", 1),))
    write(tmp_path / "both" / "val" / "cow" / "a.png", 3)
    with pytest.raises(PicturesError, match=r"classes \['cow'\] are not in"):
        read_pictures(tmp_path / "both")


def test_pictures_are_normalised_as_the_model_expects(photos):
    folder = read_pictures(photos)
    loader = picture_loader(folder.val, folder.classes, DATA, 2)
    images, labels = next(iter(loader))
    value = np.asarray(Image.open(folder.val[0][0]))[0, 0] / 255
    assert images.shape == (2, 1, 8, 8)
    assert torch.allclose(images[0], torch.full((1, 8, 8), (value - 0.5) / 0.5, dtype=torch.float32), atol=1e-5)
    assert labels.tolist() == [0, 0]
    assert loader.dataset.classes == folder.classes


def test_flips_are_drawn_only_where_they_are_asked_for(photos):
    picture = np.tile(np.linspace(0, 255, 8, dtype=np.uint8), (8, 1))
    Image.fromarray(picture).save(photos / "cat" / "0.png")
    sample = [(photos / "cat" / "0.png", 0)]

    def rising(flip):
        images = [
            image[0, 0, 4]
            for _ in range(20)
            for image, _ in picture_loader(sample, "ab", DATA, 1, training=True, flip=flip)
        ]
        return [bool(row[-1] > row[0]) for row in images]

    assert all(rising(False))
    assert 0 < sum(rising(True)) < 20


def test_bad_folders_are_refused_with_their_place(photos, tmp_path):
    with pytest.raises(PicturesError, match="nothing is no folder"):
        read_pictures(tmp_path / "nothing")
    with pytest.raises(PicturesError, match="subfolder of pictures for each of 2 or more classes"):
        read_pictures(photos / "cat")
    (photos / "dog" / "0.png").rename(tmp_path / "one.png")
    for path in (photos / "dog").iterdir():
        path.unlink()
    with pytest.raises(PicturesError, match="classes, has 'cat' alone"):
        read_pictures(photos)
    (tmp_path / "one.png").rename(photos / "dog" / "0.png")
    with pytest.raises(PicturesError, match="class 'dog' has 1 distinct picture"):
        read_pictures(photos)


def test_a_damaged_picture_is_named(photos):
    (photos / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(PicturesError, match=r"cat/0\.png: cannot be read"):
        list(picture_loader([(photos / "cat" / "0.png", 0)], "ab", DATA, 1))


def test_counts_are_told_by_class(photos):
    assert describe_samples(read_pictures(photos).train) == "12 pictures, 4 to 8 a class"


def test_the_digest_names_pictures_and_classes_not_files(photos):
    def digest():
        folder = read_pictures(photos)
        return digest_of_samples((*folder.train, *folder.val), folder.classes)

    before = digest()
    (photos / "cat" / "0.png").rename(photos / "cat" / "another.png")
    assert digest() == before
    (photos / "cat" / "another.png").rename(photos / "dog" / "another.png")
    assert digest() != before
