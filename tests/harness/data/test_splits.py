"""Dividing: by content and not by order, each image in one split, classes in proportion."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data import images, splits
from harness.data.locations import DataError


def labelled(pixels: np.ndarray, labels: list[int], classes: int) -> images.Images:
    return images.images_from_arrays(pixels, np.array(labels), [f"c{i}" for i in range(classes)])


def numbered(labels: list[int], classes: int) -> images.Images:
    """2 x 2 images whose bytes are their number: all different."""
    pixels = np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 2, 2)
    return labelled(pixels, labels, classes)


def members(divided: splits.DividedImages) -> dict[str, frozenset[bytes]]:
    return {name: frozenset(part.hashes) for name, part in divided.parts.items()}


@given(st.lists(st.integers(0, 2), max_size=60), st.randoms(use_true_random=False))
def test_splits_ignore_the_order_of_the_source(extra, random):
    whole = numbered([0, 1, 2] * 8 + extra, 3)
    order = list(range(len(whole)))
    random.shuffle(order)
    first, second = (splits.divide(splits.SourceSplits(part), {}) for part in (whole, whole.take(np.array(order))))
    assert members(first) == members(second)
    for name in splits.SPLITS:
        one, other = first.parts[name], second.parts[name]
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)


@given(st.lists(st.integers(0, 1), max_size=40), st.lists(st.integers(0, 15), max_size=60))
def test_equal_images_stay_together_and_nothing_is_lost(extra, copies):
    labels = [0, 1] * 8 + extra
    rows = list(range(len(labels))) + [row for row in copies if row < len(labels)]
    whole = numbered(labels, 2).take(np.array(rows))
    divided = splits.divide(splits.SourceSplits(whole), {})
    parts = list(members(divided).values())
    assert sum(map(len, parts)) == len(labels)
    assert frozenset.union(*parts) == frozenset(whole.hashes)
    assert sum(map(len, divided.parts.values())) == len(whole)


def test_one_image_with_two_labels_is_still_in_one_split():
    pixels = np.arange(40, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)
    twice = labelled(np.concatenate([pixels, pixels]), [0] * 40 + [1] * 40, 2)
    with pytest.raises(DataError, match="too few"):
        splits.divide(splits.SourceSplits(twice), {})  # all groups count as the first class: the second one has none
    more = labelled(
        np.concatenate([pixels, pixels[:20], np.arange(100, 120, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)]),
        [0] * 40 + [1] * 40,
        2,
    )
    parts = list(members(splits.divide(splits.SourceSplits(more), {})).values())
    assert sum(map(len, parts)) == 60


def test_default_shares_are_stratified():
    divided = splits.divide(splits.SourceSplits(numbered([0] * 400 + [1] * 100, 2)), {})
    counts = {name: np.bincount(part.labels).tolist() for name, part in divided.parts.items()}
    assert counts == {"fit": [240, 60], "select_a": [30, 7], "select_b": [30, 8], "test": [100, 25]} or counts == {
        "fit": [240, 60],
        "select_a": [30, 8],
        "select_b": [30, 7],
        "test": [100, 25],
    }


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 2), st.integers(0, 300))
def test_quotas_sum_stay_in_proportion_and_leave_no_class_out(counts, least, extra):
    counts = [max(count, least) for count in counts]
    size = min(sum(counts), least * len(counts) + extra)
    given_ = splits.proportional_quotas(counts, size, least)
    assert sum(given_) == size
    for count, quota in zip(counts, given_, strict=True):
        assert least <= quota <= count
        exact = Fraction(count * size, sum(counts))
        assert quota >= min(count, int(exact)) - least * len(counts)


def test_smaller_sizes_are_parts_of_larger_ones():
    whole = numbered([0, 1, 2, 3] * 100, 4)
    small, large = (
        splits.divide(splits.SourceSplits(whole), {"fit": n, "select": n // 2, "test": n // 2}) for n in (40, 80)
    )
    for name in ("fit", "test"):
        assert set(small.parts[name].hashes) < set(large.parts[name].hashes)
    assert [len(part) for part in small.parts.values()] == [40, 10, 10, 20]
    assert np.bincount(small.parts["fit"].labels).tolist() == [10] * 4
    assert np.bincount(small.parts["select_a"].labels, minlength=4).min() >= 2


def test_images_cut_for_select_and_not_wanted_there_are_trained_on():
    divided = splits.divide(splits.SourceSplits(numbered([0, 1] * 100, 2)), {"select": 8}).parts
    assert {name: len(part) for name, part in divided.items()} == {"fit": 142, "select_a": 4, "select_b": 4, "test": 50}
    official = numbered([0, 1] * 20, 2)
    source = splits.SourceSplits(numbered([0, 1] * 100, 2), select=official)
    assert not set(official.hashes) & set(splits.divide(source, {"select": 8}).parts["fit"].hashes)


@pytest.mark.parametrize("sizes", [{"fit": 2}, {"select": 5}, {"test": 2}])
def test_sizes_below_one_of_each_class_are_refused(sizes):
    with pytest.raises(DataError, match="too few"):
        splits.divide(splits.SourceSplits(numbered([0, 1, 2] * 20, 3)), sizes)


@pytest.mark.parametrize("key", ["fit", "select", "test"])
def test_sizes_above_what_is_there_are_refused(key):
    with pytest.raises(DataError, match=rf"{key} = 100 is more than the \d+"):
        splits.divide(splits.SourceSplits(numbered([0, 1] * 20, 2)), {key: 100})


def test_official_splits_are_kept_and_their_images_never_trained_on():
    train, test = numbered([0, 1] * 30, 2), numbered([0, 1] * 5, 2)
    divided = splits.divide(splits.SourceSplits(train, test=test), {})
    assert set(divided.parts["test"].hashes) == set(test.hashes)
    assert divided.dropped == 10
    assert not set(divided.parts["test"].hashes) & (
        set(divided.parts["fit"].hashes) | set(divided.parts["select_a"].hashes)
    )
    with pytest.raises(DataError, match=r"no image is left|too few"):
        splits.divide(splits.SourceSplits(test, test=train), {})


def test_one_image_is_an_error():
    with pytest.raises(DataError, match="too few"):
        splits.divide(splits.SourceSplits(numbered([0], 1)), {})
    with pytest.raises(DataError, match="too few"):
        splits.divide(splits.SourceSplits(numbered([0] * 20 + [1], 2)), {})


# --- several labels an image ------------------------------------------------------------------------------------


def several(count: int = 80, seed: int = 0) -> images.Images:
    """Three classes in a half, a quarter and an eighth of the images; some have none."""
    rng = np.random.default_rng(seed)
    plain = numbered([0] * count, 3)
    labels = torch.from_numpy((rng.random((count, 3)) < [0.5, 0.25, 0.125]).astype(np.int64))
    return images.Images(plain.pixels, labels, plain.classes, plain.hashes)


def test_an_image_of_several_labels_counts_for_the_rarest():
    part = several()
    counts, strata = part.labels.sum(0), part.strata
    assert counts[0] > counts[1] > counts[2]
    for labels, stratum in zip(part.labels.tolist(), strata.tolist(), strict=True):
        assert stratum == (max(label for label in range(3) if labels[label]) if any(labels) else 3)
    assert np.array_equal(part.class_counts, counts.numpy())


def test_several_labels_are_divided_without_losing_an_image_and_each_part_has_every_class():
    part = several(160)
    divided = splits.divide(splits.SourceSplits(part), {"select": 24})
    held = list(members(divided).values())
    assert sum(map(len, held)) == len(frozenset.union(*held)) == 160 - divided.dropped
    for one in divided.parts.values():
        assert (one.class_counts > 0).all() and (one.class_counts < len(one)).all()
    shares = [one.labels.double().mean(0) for one in divided.parts.values()]
    assert max(float((share - shares[0]).abs().max()) for share in shares) < 0.15


def test_a_class_that_a_part_lacks_or_has_in_all_images_is_named():
    part = several(160)
    lost, full = part.labels.clone(), part.labels.clone()
    lost[:, 2], full[:, 1] = 0, 1
    lost[:2, 2] = 1
    with pytest.raises(DataError, match=r"the \w+ split has no image of 1 class\(es\): c2"):
        splits.divide(splits.SourceSplits(images.Images(part.pixels, lost, part.classes, part.hashes)), {})
    with pytest.raises(DataError, match=r"all images of the fit split have the class c1"):
        splits.divide(splits.SourceSplits(images.Images(part.pixels, full, part.classes, part.hashes)), {})
