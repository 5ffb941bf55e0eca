"""Appearance of each method wherever it is drawn: colour, marker and dashes, one source for figures and page.

The colours of Okabe and Ito, darkened until each has a contrast of 3 to 1 on white; markers and dashes tell methods
apart in grey as well. The first eight methods differ in all three, the next ones in their combination.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = ("#0072B2", "#D55E00", "#00835F", "#B5508A", "#9A6B00", "#6A4BB5", "#333B41", "#6F8C00")
ON_DARK = ("#5AB4EE", "#FF8B45", "#35C79B", "#EA9AC8", "#E0B03A", "#B7A0FF", "#DFE4E8", "#B5D13C")
# matplotlib's name of the marker, and the same as an SVG path on the square from -1 to 1.
MARKERS = (
    ("o", "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z"),
    ("s", "M-.9,-.9H.9V.9H-.9Z"),
    ("^", "M0,-1.1L1.1,.9H-1.1Z"),
    ("D", "M0,-1.2L1.2,0L0,1.2L-1.2,0Z"),
    ("v", "M0,1.1L1.1,-.9H-1.1Z"),
    ("P", "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z"),
    ("X", "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0Z"),
    ("<", "M-1.1,0L.9,1.1V-1.1Z"),
    (">", "M1.1,0L-.9,1.1V-1.1Z"),
)
DASHES = ((), (5, 1.5), (1, 1.2), (4, 1.2, 1, 1.2), (7, 2))  # lengths of line and gap in line widths; (): solid


@dataclass(frozen=True, slots=True)
class Appearance:
    """``colour``: place in ``COLOURS`` and ``ON_DARK``; ``path``: the marker as SVG."""

    colour: int
    marker: str
    path: str
    dash: tuple[float, ...]


def appearance(index: int) -> Appearance:
    return Appearance(index % len(COLOURS), *MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])


def appearances(methods: Iterable[str]) -> dict[str, Appearance]:
    """Appearance of each method, assigned by sorted name, so that it is the same in all figures and on the page."""
    return {name: appearance(index) for index, name in enumerate(sorted(methods))}
