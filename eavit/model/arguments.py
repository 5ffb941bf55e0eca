"""Checks of arguments of the public functions: a message names the argument, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor


def described(value: Any) -> str:
    """A value and its type, in few characters."""
    text = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def whole_number(name: str, value: Any, least: int) -> int:
    """The value as an ``int``: a Python or numpy integer or a tensor of one, at least ``least``.

    >>> whole_number("embed", 6, least=1)
    6
    >>> whole_number("embed", 6.0, least=1)
    Traceback (most recent call last):
    TypeError: embed is 6.0 (float); must be a whole number, at least 1
    """
    if type(value) is not int:
        try:
            if getattr(value, "dtype", type(value)) in (bool, torch.bool):
                raise TypeError
            value = index(value)
        except TypeError:
            raise TypeError(f"{name} is {described(value)}; must be a whole number, at least {least}") from None
    if value < least:
        raise ValueError(f"{name} is {value}, must be at least {least}")
    return int(value)


def whole_numbers(name: str, values: Any, least: int) -> tuple[int, ...]:
    """The values as a tuple of ``int``: any iterable of whole numbers, each at least ``least``."""
    if type(values) is tuple and all(type(value) is int and value >= least for value in values):
        return values
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)) or getattr(values, "ndim", 1) != 1:
        raise TypeError(f"{name} is {described(values)}; must be a row of whole numbers, one for each layer")
    return tuple(whole_number(f"{name}[{place}]", value, least) for place, value in enumerate(values))


def floats(name: str, value: Any) -> Tensor:
    """The value, if it is a tensor of real floating-point numbers."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else described(value)
        raise TypeError(f"{name} is {kind}; must be a floating-point torch.Tensor")
    return value


def random_generator(name: str, value: Any) -> np.random.Generator:
    """The value, if it is numpy's random generator."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(f"{name} is {described(value)}; must be a numpy Generator, such as numpy.random.default_rng(0)")
    return value


def check_images(images: Any, channels: int, like: Tensor, name: str = "images") -> None:
    """Raise unless the images are a batch (b, channels, height, width) of the weights' device and dtype."""
    shape = f"(batch, {channels}, height, width)"
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} is {described(images)}; must be a torch.Tensor of shape {shape}")
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"{name} have the shape {tuple(images.shape)}, must be {shape}: {channels} channels")
    if images.device != like.device:
        raise ValueError(f"{name} are on {images.device}, the model is on {like.device}; move one of them")
    if images.dtype != like.dtype and not (
        images.is_floating_point() and torch.is_autocast_enabled(images.device.type)
    ):
        raise TypeError(f"{name} are {images.dtype}, the model's weights {like.dtype}; convert one of them")
