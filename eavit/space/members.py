"""Operations that all kinds of spaces share: checks of widths and codes, neighbours, the member nearest to a cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from eavit.model.arguments import described, whole_numbers
from eavit.model.cost import Measure
from eavit.model.submodel import Backbone, Submodel

Genes = NDArray[np.int64]
Noise = NDArray[np.float64]
Widths = tuple[int, ...]  # widths to choose from, ascending

BISECTIONS = 12


def check_widths(backbone: Backbone, embeds: Widths, heads: Widths, mlps: Widths) -> None:
    """Raise ValueError unless each row of widths is ascending, unique and within the backbone's."""
    b = backbone
    rows = {"embeds": (embeds, b.embed), "heads": (heads, b.heads), "mlps": (mlps, b.mlp)}
    for name, (widths, limit) in rows.items():
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1 or widths[-1] > limit:
            raise ValueError(f"space: {name}={widths} must be ascending, unique and within 1..{limit}")


def widths_in_parts(full: int, parts: Iterable[int], of: int, multiple_of: int = 1) -> Widths:
    """Widths that are ``parts`` of ``full`` in ``of``-ths, rounded down, then up to a multiple of ``multiple_of`` but
    not beyond ``full``.
    """
    return tuple(sorted({min(full, ceil(max(1, full * part // of) / multiple_of) * multiple_of) for part in parts}))


def check_genes(genes: Sequence[int] | Genes, sizes: Genes) -> list[int]:
    """The code as a list; ValueError unless it has a value below each of ``sizes``."""
    if isinstance(genes, np.ndarray) and genes.ndim == 1 and genes.dtype.kind in "iu":
        code: list[int] = genes.tolist()
    else:
        code = list(whole_numbers("genes", genes, 0))
    if len(code) != len(sizes) or any(not 0 <= g < n for g, n in zip(code, sizes, strict=True)):
        raise ValueError(f"genes {code} do not fit this space: {len(sizes)} genes below {sizes.tolist()}")
    return code


def _moved(row: Widths, options: Widths, step: int, lowest: int) -> Iterator[Widths]:
    """``row`` with one layer's width moved ``step`` places among ``options``, to place ``lowest`` or above."""
    for layer, width in enumerate(row):
        if width in options and lowest <= (place := options.index(width) + step) < len(options):
            yield (*row[:layer], options[place], *row[layer + 1 :])


def neighbours(
    submodel: Submodel,
    step: int,
    embeds: Widths,
    heads: Widths,
    mlps: Widths,
    lowest: tuple[int, int] = (0, 0),
) -> Iterator[Submodel]:
    """Submodels with one width moved ``step`` places among its options: the embedding's, or one layer's.

    ``lowest`` is the first allowed place of heads and of hidden widths; a width that is no option does not move.
    """
    for (embed,) in _moved((submodel.embed,), embeds, step, 0):
        yield replace(submodel, embed=embed)
    for row in _moved(submodel.heads, heads, step, lowest[0]):
        yield replace(submodel, heads=row)
    for row in _moved(submodel.mlp, mlps, step, lowest[1]):
        yield replace(submodel, mlp=row)


def nearest_in_size(path: Callable[[float], Submodel], measure: Measure, target: float) -> Submodel:
    """The submodel on ``path`` (a level in 0..1 to a submodel, ascending) whose size comes closest to ``target``, by
    bisection; of those that this tries the closest one, where sizes do not rise all along.
    """
    if isinstance(target, bool) or not isinstance(target, Real):
        raise TypeError(f"target is {described(target)}; must be a number of {measure.name}")
    low, high = 0.0, 1.0
    tried: dict[Submodel, float] = {}
    for _ in range(BISECTIONS):
        level = (low + high) / 2
        submodel = path(level)
        spent = tried[submodel] = measure.of(submodel)
        low, high = (level, high) if spent < target else (low, level)
    return min(tried, key=lambda s: (abs(tried[s] - target), s.embed, s.heads, s.mlp))
