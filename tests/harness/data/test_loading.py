"""Data sets as a cell gets them: loaded, named by a fingerprint, the test split sealed."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
import torch

from harness.data import batches, loading
from harness.data.loading import LeakError
from harness.data.locations import DataError
from tests.harness.specs import FROZEN, Shown, Spec


@pytest.mark.parametrize(
    ("source", "classes", "total"), [("digits", 10, 1797), ("mnist5k", 10, 5000), ("glyphs", 32, 4000)]
)
def test_sources_load_fast_and_whole(source, classes, total):
    start = time.process_time()
    loaded = loading.load_dataset(Spec(source), Shown())
    assert time.process_time() - start < 4  # under one second when nothing else runs
    assert sum(loaded.sizes.values()) == total
    assert loaded.num_classes == loaded.fit.num_classes == classes
    shown, labels = next(loaded.fit.batches(64))
    assert (shown.shape, shown.dtype, labels.dtype) == ((64, 1, 28, 28), torch.float32, torch.int64)
    assert (float(shown.min()), float(shown.max())) == pytest.approx((-1.0, 1.0))


def test_fingerprint_names_the_content():
    spec = Spec(fit=100, select=40, test=50)
    first = loading.load_dataset(spec, Shown()).fingerprint
    assert loading.load_dataset(spec, Shown()).fingerprint == first
    assert loading.load_dataset(spec, Shown(mean=(0.1,))).fingerprint == first
    others = [
        loading.load_dataset(Spec(fit=101, select=40, test=50), Shown()),
        loading.load_dataset(spec, Shown(size=14)),
    ]
    assert len({first, *(other.fingerprint for other in others)}) == 3


def test_split_does_not_depend_on_the_input_size():
    small, large = (loading.load_dataset(Spec(), Shown(size=size)) for size in (8, 28))
    assert torch.equal(small.fit.labels, large.fit.labels)
    assert torch.equal(small.test(FROZEN).labels, large.test(FROZEN).labels)


def test_channels_and_normalisation():
    grey = next(loading.load_dataset(Spec(), Shown(size=8)).fit.batches(4))[0]
    rgb = next(loading.load_dataset(Spec(), Shown(8, 3, (0.5, 0.4, 0.3), (0.5, 0.2, 1.0))).fit.batches(4))[0]
    level = grey[:, 0] * 0.5 + 0.5
    for channel, (mean, std) in enumerate(((0.5, 0.5), (0.4, 0.2), (0.3, 1.0))):
        assert torch.allclose(rgb[:, channel], (level - mean) / std, atol=1e-6)


def test_memory_is_bounded():
    with pytest.raises(DataError, match="GiB of memory"):
        loading.load_dataset(Spec(), Shown(size=2000))


def test_the_test_split_opens_once_for_frozen_choices():
    loaded = loading.load_dataset(Spec(fit=100, select=40, test=50), Shown())
    for wrong in ("", "open", "XYZ" * 10, FROZEN.upper(), None):
        with pytest.raises(LeakError):
            loaded.test(wrong)
    opened = loaded.test(FROZEN)
    assert len(opened) == 50
    assert loaded.test(FROZEN) is opened
    with pytest.raises(LeakError, match="choices must not change"):
        loaded.test("f" * 64)


def test_no_copy_and_no_attribute_holds_the_test_split():
    loaded = loading.load_dataset(Spec(fit=100, select=40, test=50), Shown())
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(LeakError):
            leak(loaded)
    public = [getattr(loaded, name) for name in dir(loaded) if not name.startswith("_")]
    lengths = {len(value) for value in public if isinstance(value, batches.MemorySplit)}
    assert lengths == {100, 20}
    assert "MemorySplit" not in repr(loaded).split("select_b=")[1].split(", classes")[1]
