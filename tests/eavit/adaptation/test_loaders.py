"""Loaders: what cannot be adapted on is refused by name; what is read is repeatable."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from eavit.adaptation.loaders import (
    CheckedLoader,
    Expected,
    FitSplit,
    LoaderError,
    count_images,
    in_batches,
    read_validation,
)
from tests.eavit.families import loader

EXPECTED = Expected(1, (4, 4), 3)
X = torch.zeros(2, 1, 4, 4)
Y = torch.tensor([0, 1])

BAD = {
    "empty": ([], "train gave no batch"),
    "dropped": (loader(8, 16, drop_last=True), "train gave no batch; its drop_last"),
    "a batch, no list": ((X, Y), r"batch 1 is .*must be a pair"),
    "triples": ([(X, Y, Y)], "must be a pair"),
    "dictionaries": ([{"images": X, "labels": Y}], "must be a pair"),
    "bytes": ([(X.byte(), Y)], r"images are (.|\n)*must be a float tensor"),
    "one image": ([(X[0], Y[:1])], r"images are (.|\n)*must be a float tensor"),
    "arrays": ([(X.numpy(), Y)], r"images are (.|\n)*must be a float tensor"),
    "channels": ([(X.expand(2, 3, 4, 4), Y)], "3 channels, the model takes 1; build it with in_chans=3"),
    "size": ([(torch.zeros(2, 1, 8, 8), Y)], "images are 8 x 8, the model takes 4 x 4.*img_size"),
    "label too high": ([(X, Y + 2)], "label 3 is out of range: the model's head has 3 classes"),
    "label below 0": ([(X, Y - 1)], "label -1 is out of range"),
    "soft labels": ([(X, torch.rand(2))], "labels are .*one whole number"),
    "one-hot labels": ([(X, torch.eye(2).long())], "labels are .*one whole number"),
    "too few labels": ([(X, Y[:1])], "labels are .*one whole number"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_loader_is_refused_by_name(case):
    batches, said = BAD[case]
    with pytest.raises(LoaderError, match=said):
        list(CheckedLoader("train", batches, EXPECTED).read(0))


@pytest.mark.parametrize("once", [iter([(X, Y)]), (pair for pair in [(X, Y)]), zip([X], [Y], strict=True)])
def test_what_can_be_read_once_only_is_refused(once):
    with pytest.raises(LoaderError, match=r"val is .*read once only; give a DataLoader or a list"):
        CheckedLoader("val", once, EXPECTED)


def test_a_loader_that_is_empty_the_second_time_is_refused():
    class Once:
        def __init__(self):
            self.batches = [(X, Y)]

        def __iter__(self):
            while self.batches:
                yield self.batches.pop()

    checked = CheckedLoader("train", Once(), EXPECTED)
    assert len(list(checked.read(0))) == 1
    with pytest.raises(LoaderError, match="give them again each time"):
        list(checked.read(0))


@pytest.mark.parametrize("value", [3, None, X[0, 0, 0, 0]])
def test_what_is_no_loader_is_refused(value):
    with pytest.raises((LoaderError, TypeError)):
        list(CheckedLoader("train", value, EXPECTED).read(0))


class Noisy(torch.utils.data.Dataset):
    """Images from all three global generators."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        noise = torch.rand(1, 4, 4) + np.random.rand() + random.random()  # noqa: NPY002
        return noise, index % 3


def test_an_epoch_is_named_by_its_numbers_whatever_was_drawn_before():
    split = FitSplit(CheckedLoader("train", DataLoader(Noisy(), 8, shuffle=True), EXPECTED), 40, 3)
    first = list(split.batches(16, seed=1, epoch=2))
    torch.rand(7), np.random.rand(5), random.random()  # noqa: NPY002
    again = list(split.batches(16, seed=1, epoch=2))
    other = list(split.batches(16, seed=1, epoch=3))
    assert [len(labels) for _, labels in first] == [16, 16]
    assert all(torch.equal(a, b) for pairs in zip(first, again, strict=True) for a, b in zip(*pairs, strict=True))
    assert not torch.equal(first[0][0], other[0][0])


def test_what_is_drawn_between_two_batches_does_not_matter():
    split = FitSplit(CheckedLoader("train", DataLoader(Noisy(), 8, shuffle=True), EXPECTED), 40, 3)
    quiet = [images for images, _ in split.batches(8, seed=0)]
    disturbed = []
    for images, _ in split.batches(8, seed=0):
        torch.rand(3)
        disturbed.append(images)
    assert torch.equal(torch.cat(quiet), torch.cat(disturbed))


def test_reading_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    list(CheckedLoader("train", DataLoader(Noisy(), 8, shuffle=True), EXPECTED).read(4))
    assert torch.equal(torch.rand(3), wanted)


def test_a_loaders_own_generator_is_named_too():
    shuffled = DataLoader(Noisy(), 8, shuffle=True, generator=torch.Generator())
    split = FitSplit(CheckedLoader("train", shuffled, EXPECTED), 40, 3)
    first, again = (torch.cat([x for x, _ in split.batches(8, seed=0, epoch=1)]) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(("size", "short", "lengths"), [(5, True, [5, 5, 2]), (5, False, [5, 5]), (12, True, [12])])
def test_batches_are_cut_anew_in_the_same_order(size, short, lengths):
    pairs = [(torch.arange(a, b)[:, None], torch.arange(a, b)) for a, b in ((0, 7), (7, 8), (8, 12))]
    made = list(in_batches(pairs, size, short=short))
    assert [len(labels) for _, labels in made] == lengths
    assert torch.equal(torch.cat([labels for _, labels in made]), torch.arange(sum(lengths)))
    assert all(torch.equal(images[:, 0], labels) for images, labels in made)


def test_images_are_counted_without_reading_where_the_loader_knows():
    class Unread(TensorDataset):
        reads = 0

        def __getitem__(self, index):
            Unread.reads += 1
            return super().__getitem__(index)

    data = Unread(torch.zeros(50, 1, 4, 4), torch.zeros(50, dtype=torch.long))
    assert count_images(CheckedLoader("train", DataLoader(data, 8), EXPECTED)) == (50, 8)
    assert count_images(CheckedLoader("train", DataLoader(data, 8, drop_last=True), EXPECTED)) == (48, 8)
    assert Unread.reads == 16
    assert count_images(CheckedLoader("train", [(X, Y)] * 3, EXPECTED)) == (6, 2)


@pytest.mark.parametrize("gib", [1.0, 0.0])
def test_folds_share_out_every_class_and_together_are_all(gib):
    images = read_validation(CheckedLoader("val", loader(50, 8), EXPECTED), gib)
    for fold in (images.fold_a, images.fold_b):
        assert torch.bincount(fold.labels).min() >= 8
        pairs = list(fold.batches(7))
        assert torch.equal(torch.cat([y for _, y in pairs]), fold.labels)
        assert sum(len(x) for x, _ in pairs) == len(fold)
    assert len(images.fold_a) + len(images.fold_b) == len(images.whole) == 50
    assert torch.equal(torch.cat([x for x, _ in images.whole.batches(9)]), torch.cat([x for x, _ in loader(50, 8)]))


def test_the_fingerprint_changes_with_an_image_or_a_label():
    def sha(x, y):
        return read_validation(CheckedLoader("val", [(x, y)], EXPECTED)).sha256

    assert sha(X, Y) == sha(X.clone(), Y.clone())
    assert len({sha(X, Y), sha(X + 1e-6, Y), sha(X, Y.flip(0))}) == 3


def test_a_validation_loader_that_shuffles_is_refused_when_it_is_read_again():
    torch.manual_seed(0)

    class Shuffled:
        def __init__(self):
            self.passes = 0

        def __iter__(self):
            self.passes += 1
            yield X, Y.roll(self.passes)

    images = read_validation(CheckedLoader("val", Shuffled(), EXPECTED), cache_gib=0)
    with pytest.raises(LoaderError, match=r"val gives its images in another order.*shuffle=False"):
        list(images.whole.batches(2))


def test_one_image_is_too_few_to_validate_on():
    with pytest.raises(LoaderError, match="at least 2"):
        read_validation(CheckedLoader("val", [(X[:1], Y[:1])], EXPECTED))
