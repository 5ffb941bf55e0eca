"""Checks of arguments: what passes, and messages that name argument, value and what is allowed."""

import doctest
import re

import numpy as np
import pytest
import torch

from eavit.model import arguments
from eavit.model.arguments import described, whole_number, whole_numbers


def test_the_examples_of_the_docstrings_are_true():
    results = doctest.testmod(arguments)
    assert results.attempted and not results.failed


@pytest.mark.parametrize("value", [3, np.int8(3), np.array(3), torch.tensor(3), torch.tensor([3])], ids=repr)
def test_whole_numbers_of_any_kind_become_ints(value):
    assert type(whole_number("x", value, 0)) is int and whole_number("x", value, 0) == 3


@pytest.mark.parametrize(
    "value", [3.0, "3", None, True, np.True_, torch.tensor(True), torch.tensor(3.0), [3]], ids=repr
)
def test_anything_else_is_refused_with_its_value(value):
    with pytest.raises(TypeError, match=re.escape(f"width is {described(value)}; must be a whole number, at least 1")):
        whole_number("width", value, 1)


def test_rows_name_the_place_of_the_fault():
    assert whole_numbers("heads", (w for w in (2, np.int64(0))), 0) == (2, 0)
    with pytest.raises(ValueError, match=r"heads\[1\] is -1, must be at least 0"):
        whole_numbers("heads", [2, -1], 0)
    with pytest.raises(TypeError, match=r"heads\[0\] is 2.5 \(float\)"):
        whole_numbers("heads", (2.5, 1), 0)
    for value in ("21", 3, torch.ones(2, 2, dtype=torch.int64), None):
        with pytest.raises(TypeError, match=r"heads is .*; must be a row of whole numbers, one for each layer"):
            whole_numbers("heads", value, 0)


def test_values_are_described_briefly():
    assert described(torch.ones(3, 4)) == "a tensor of shape (3, 4) (Tensor)"
    assert len(described("x" * 1000)) < 100
