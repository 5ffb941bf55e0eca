"""Values and gradients of a sliced layer, by one function and by slices of slices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from eavit.model import sliced_linear as module
from eavit.model.sliced_linear import sliced_linear


def by_slices(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int, groups: int) -> Tensor:
    part = weight.unflatten(0, (groups, -1))[:, :rows][:, :, : x.shape[-1]].flatten(0, 1)
    return F.linear(x, part, None if bias is None else bias.unflatten(0, (groups, -1))[:, :rows].flatten())


def passed(layer, x: Tensor, weight: Tensor, bias: Tensor | None, *sizes: int) -> list[Tensor]:
    leaves = [leaf.detach().clone().requires_grad_() for leaf in (x, weight, bias) if leaf is not None]
    out = layer(*leaves, *([] if bias is not None else [None]), *sizes)
    generator = torch.Generator().manual_seed(0)
    (out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("large", [0, 10**9], ids=["one function", "views"])
@given(data=st.data())
def test_values_and_gradients_equal_those_of_slices(large, data):
    full, groups, width = (data.draw(st.integers(1, most)) for most in (5, 3, 6))
    rows, columns = data.draw(st.integers(1, full)), data.draw(st.integers(1, width))
    batch = data.draw(st.sampled_from([(3,), (2, 4)]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    shapes = (*batch, columns), (groups * full, width), (groups * full,)
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    bias = bias if data.draw(st.booleans()) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGE", large)
        found = passed(sliced_linear, x, weight, bias, rows, groups)
    for mine, theirs in zip(found, passed(by_slices, x, weight, bias, rows, groups), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-13, atol=1e-13)  # products may be summed in another order


@pytest.mark.parametrize("frozen", ["x", "bias"])
def test_a_frozen_input_has_no_gradient(frozen, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 0)
    tensors = {"x": torch.randn(2, 3), "weight": torch.randn(5, 4), "bias": torch.randn(5)}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name != frozen)
    sliced_linear(*tensors.values(), 2).sum().backward()
    assert [name for name, tensor in tensors.items() if tensor.grad is None] == [frozen]


def test_autocast_computes_in_its_own_type(monkeypatch):
    monkeypatch.setattr(module, "LARGE", 0)
    weight = torch.randn(5, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = sliced_linear(torch.randn(2, 3), weight, None, 2)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32


def test_transforms_of_functions_differentiate_it(monkeypatch):
    monkeypatch.setattr(module, "LARGE", 0)
    x, weight = torch.randn(2, 3), torch.randn(5, 4)
    found = torch.func.grad(lambda weight: sliced_linear(x, weight, None, 2).sum())(weight)
    wanted = torch.zeros(5, 4)
    wanted[:2, :3] = x.sum(0)
    assert torch.allclose(found, wanted)
