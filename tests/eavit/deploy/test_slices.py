"""Parts of tensors are read once each, and are those of the file."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eavit.deploy.slices import SlicedWeights, boxes, runs

TENSOR = torch.arange(60.0).reshape(6, 10)


@pytest.fixture
def weights(tmp_path):
    save_file({"a": TENSOR, "b.c": torch.ones(3), "b.d": torch.zeros(2)}, tmp_path / "w.safetensors")
    return SlicedWeights(tmp_path / "w.safetensors")


def test_places_become_runs():
    assert list(runs([0, 1, 2, 5, 7, 8])) == [slice(0, 3), slice(5, 6), slice(7, 9)]
    assert list(runs([])) == []
    assert len(list(boxes([[0, 1, 4], [2, 3], [9]]))) == 2


def test_each_value_is_read_once(weights):
    assert torch.equal(weights.part("a", ((0, 1), (0, 1, 2))), TENSOR[:2, :3])
    assert weights.bytes_read == 6 * 4
    assert torch.equal(weights.part("a", ((0, 1, 4), (0, 1, 2, 3))), TENSOR[[0, 1, 4]][:, :4])
    assert weights.bytes_read == 12 * 4
    assert torch.equal(weights.part("a", ((1, 4), (2, 3))), TENSOR[[1, 4]][:, 2:4])
    assert weights.bytes_read == 12 * 4
    assert torch.equal(weights.read("a"), TENSOR)
    assert weights.bytes_read == TENSOR.numel() * 4


def test_parts_in_any_order_are_those_of_the_file(weights):
    rng = np.random.default_rng(0)
    for _ in range(20):
        axes = tuple(tuple(sorted(rng.choice(n, rng.integers(1, n + 1), replace=False).tolist())) for n in (6, 10))
        assert torch.equal(weights.part("a", axes), TENSOR[list(axes[0])][:, list(axes[1])])


def test_consecutive_parts_share_memory(weights):
    small, large = weights.part("a", ((0, 1), (0, 1))), weights.part("a", ((0, 1, 2), (0, 1, 2)))
    assert small.data_ptr() == large.data_ptr()


def test_names_are_found_by_their_start(weights):
    assert weights.names("b.") == ["b.c", "b.d"]
    with pytest.raises(ValueError, match="no part of it is asked for"):
        weights.part("b.c", ((),))
