"""Linear layer on the first rows and columns of a weight.

Two slices of a weight have two backward passes, each of which fills memory with zeros and copies into it; and their
gradient comes transposed, for the rows do not lie close together. Of a large weight this costs more than a pass of a
small submodel, so one function multiplies straight into the slice of one gradient. Of a small weight the calls are what
costs, and a view is the cheapest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LARGE = 2**17  # numbers of a weight; between those of pico ViTs and of a tiny one


def sliced_linear(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int, groups: int = 1) -> Tensor:
    """Outputs (..., groups * rows) by the first columns of the first ``rows`` of each of ``groups`` blocks of rows."""
    if (groups * rows, x.shape[-1]) == weight.shape:
        return F.linear(x, weight, bias)
    trained = weight.requires_grad and torch.is_grad_enabled()
    if trained and weight.numel() >= LARGE and not torch.is_autocast_enabled(x.device.type):
        out: Tensor = _SlicedLinear.apply(x, weight, bias, rows, groups)
        return out
    first = None if bias is None else sliced_rows(bias, rows, groups)
    return F.linear(x, sliced(weight, rows, x.shape[-1], groups), first)


def sliced(weight: Tensor, rows: int, columns: int, groups: int = 1) -> Tensor:
    """The first ``columns`` of the first ``rows`` of each of ``groups`` blocks of rows: a view where there is one."""
    full, width = weight.shape[0] // groups, weight.shape[1]
    if (rows, columns) == (full, width):
        return weight
    if rows == full or groups == 1:  # one view, which has one backward pass
        return weight.as_strided((groups * rows, columns), weight.stride())
    down, right = weight.stride()
    return weight.as_strided((groups, rows, columns), (full * down, down, right)).flatten(0, 1)


def sliced_rows(bias: Tensor, rows: int, groups: int = 1) -> Tensor:
    """The first ``rows`` of each of ``groups`` blocks of a bias."""
    full = bias.shape[0] // groups
    if rows == full:
        return bias
    if groups == 1:
        return bias.narrow(0, 0, rows)
    (down,) = bias.stride()
    return bias.as_strided((groups, rows), (full * down, down)).flatten()


class _SlicedLinear(torch.autograd.Function):
    """The layer with one backward pass for both slices, which has no derivative itself."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int, groups: int) -> Tensor:
        first = None if bias is None else sliced_rows(bias, rows, groups)
        return F.linear(x, sliced(weight, rows, x.shape[-1], groups), first)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, ctx.rows, ctx.groups = inputs
        ctx.save_for_backward(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        flat, of_x, of_bias = grad.flatten(0, -2), None, None
        if ctx.needs_input_grad[0]:
            of_x = grad @ sliced(weight, ctx.rows, x.shape[-1], ctx.groups)
        if ctx.needs_input_grad[2]:
            of_bias = gradient_of_rows(bias, flat.sum(0), ctx.groups)
        return of_x, gradient_of_slice(weight, flat, x, ctx.groups), of_bias, None, None


def gradient_of_slice(weight: Tensor, grad: Tensor, x: Tensor, groups: int = 1) -> Tensor:
    """Gradient of a whole weight, of which a slice made ``grad`` (n, groups * rows) of inputs (..., columns)."""
    full, rows = torch.zeros_like(weight), grad.shape[1] // groups
    blocks = full.view(groups, -1, weight.shape[1])[:, :rows, : x.shape[-1]]
    for block, piece in zip(blocks, grad.chunk(groups, -1), strict=True):
        torch.mm(piece.t(), x.flatten(0, -2), out=block)
    return full


def gradient_of_rows(bias: Tensor, grad: Tensor, groups: int = 1) -> Tensor:
    """Gradient of a whole vector, of which the first rows of each block have ``grad``."""
    if grad.shape == bias.shape:
        return grad
    full = torch.zeros_like(bias)
    full.view(groups, -1)[:, : len(grad) // groups] = grad.view(groups, -1)
    return full
