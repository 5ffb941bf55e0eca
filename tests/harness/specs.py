"""Entries and images for the tests of data sets: what a suite's tables would say, and more than they could."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FROZEN = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Spec:
    source: str = "digits"
    name: str = "mine"
    fit: int | None = None
    select: int | None = None
    test: int | None = None
    path: str | None = None
    augment: str = "none"
    use: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    reading: str = "memory"
    workers: int = 0


@dataclass(frozen=True)
class Shown:
    size: int = 28
    channels: int = 1
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    resize: int | None = None
