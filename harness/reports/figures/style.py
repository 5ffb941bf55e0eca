"""The style of every figure, its sheet, and its bytes: widths of a paper's columns, looks that survive grey print.

The same figure gives the same bytes: no date, no version, no random id, fonts as outlines or embedded.
"""

from __future__ import annotations

import io
import textwrap
import unicodedata
from collections.abc import Container, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from harness.reports.appearance import COLOURS, appearances

ONE, TWO = 3.25, 6.75  # inches: one and two columns of a paper
FONT = "DejaVu Sans"  # comes with matplotlib: the same on every machine
INK, GREY, FAINT = "#222222", "#666666", "#DDDDDD"
BLUES = LinearSegmentedColormap.from_list("widths", ["#FFFFFF", "#9CC6E3", "#2E7EB8", "#0A3159"])  # white is nothing
BASE: dict[Any, Any] = {
    "font.family": FONT,
    "text.color": INK,
    "text.parse_math": False,  # a method may be called $x$
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": "#888888",
    "axes.unicode_minus": True,
    "svg.hashsalt": "eavit-bench",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "path.simplify": False,
}
PAPER: dict[Any, Any] = {
    **BASE,
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "legend.fontsize": 7,
    "legend.frameon": False,
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
NOTE = 6.0  # points
LINE, ROW = 0.115, 0.128  # inches: of a note, and of a row of the legend


@dataclass(frozen=True)
class Drawn:
    """``name`` is the file's, without its ending."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Skipped:
    name: str
    why: str


def figure_style(settings: Mapping[Any, Any] = PAPER) -> AbstractContextManager[None]:
    """Whatever the caller's own settings are."""
    context: AbstractContextManager[None] = matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings})
    return context


def fix_layout(figure: Figure) -> None:
    """Find every panel's place once, and not again for each format.

    Places are rounded: the layout's solver goes by addresses in memory, so its last digits differ from run to run.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)  # "none" would leave a placeholder, for which each format is drawn twice
    for axis in figure.axes:
        left, bottom, width, height = (round(float(part), 4) for part in axis.get_position().bounds)
        axis.set_position((left, bottom, width, height))


def encode_figure(figure: Figure, kind: str) -> bytes:
    """``png``, ``svg`` or ``pdf``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200, metadata=METADATA[kind])
    return buffer.getvalue()


# --- looks --------------------------------------------------------------------------------------------------------


def method_looks(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Their appearances as keywords of matplotlib."""
    return {
        name: {
            "color": COLOURS[one.colour],
            "marker": one.marker,
            "linestyle": (0, one.dash) if one.dash else "-",
        }
        for name, one in appearances(methods).items()
    }


def legend_handles(methods: Sequence[str], drawn: Container[str] | None = None) -> list[Line2D]:
    """Entries of the legend, of those ``drawn`` alone if given."""
    looks = {name: look for name, look in method_looks(methods).items() if drawn is None or name in drawn}
    return [Line2D([], [], label=label(name, 40), linewidth=1.1, markersize=3.5, **has) for name, has in looks.items()]


# --- text ---------------------------------------------------------------------------------------------------------


def label(name: str, most: int = 28) -> str:
    """A name that fits: its middle left out where it is long, what the font lacks as an escape, on one line."""
    plain = unicodedata.normalize("NFC", str(name))
    text = "".join(char if _drawable(char) else _escaped(char) for char in plain)
    if text.startswith("_"):
        text = f" {text}"  # matplotlib leaves labels that begin with _ out of the legend
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - tail - 1]}…{text[-tail:]}"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


@cache
def _drawable(char: str) -> bool:
    return char == " " or (
        unicodedata.category(char)[0] not in "CZ" and bool(get_font(findfont(FONT)).get_char_index(ord(char)))
    )


@cache
def text_width(text: str, size: float) -> float:
    """Inches."""
    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text, size=size, prop=FontProperties(family=FONT), usetex=False)
    return float(path.get_extents().width) / 72


def wrapped(lines: Sequence[str], width: float) -> list[str]:
    """Notes of 6 points, broken to ``width`` inches."""
    most = int(width / (0.535 * NOTE / 72))
    return [part for line in lines for part in textwrap.wrap(line.replace(" %", "\u00a0%"), most)]


def macs_text(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.2g} {name}" if value < 100 * unit else f"{value / unit:.0f} {name}"
    return f"{value:.3g}"


def name_list(names: Sequence[str], most: int = 4) -> str:
    """List the first few names for a note, and the number of the others."""
    head = ", ".join(label(name) for name in names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


# --- sheets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sheet:
    figure: Figure
    axes: Any  # ndarray of Axes, rows x columns

    @property
    def flat(self) -> list[Axes]:
        return list(self.axes.flat)


def sheet(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    legend: Sequence[Any] = (),
    notes: Sequence[str] = (),
    **grid: Any,
) -> Sheet:
    """Panels of ``height`` inches in all; legend and notes get their own strip below, so that nothing overlaps."""
    lines = wrapped(notes, width - 0.1)
    rank = _legend_columns(legend, width)
    strip = ROW * -(-len(legend) // rank) + LINE * len(lines) + (0.05 if legend else 0.0) + (0.06 if lines else 0.0)
    whole, share = height + strip, strip / (height + strip)
    engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02, rect=(0, share, 1, 1 - share))
    figure = Figure(figsize=(width, whole), layout=engine, facecolor="white")
    FigureCanvasAgg(figure)
    _strip(figure, legend, rank, lines, share)
    return Sheet(figure, figure.subplots(rows, columns, squeeze=False, **grid))


def _legend_columns(legend: Sequence[Any], width: float) -> int:
    """Number of columns that fit; matplotlib fills them one after the other."""
    wide = [text_width(str(handle.get_label()), 7) + 0.43 for handle in legend]
    for count in range(len(wide), 1, -1):
        if sum(float(part.max()) for part in np.array_split(wide, count)) <= width - 0.1:
            return count
    return 1


def _strip(figure: Figure, legend: Sequence[Any], rank: int, lines: Sequence[str], share: float) -> None:
    width, high = map(float, figure.get_size_inches())
    if legend:
        figure.legend(
            handles=list(legend),
            loc="upper left",
            bbox_to_anchor=(0.04 / width, share),
            ncols=rank,
            handlelength=2.6,
            handletextpad=0.5,
            columnspacing=1.0,
            labelspacing=0.25,
            borderpad=0,
            borderaxespad=0,
        ).set_in_layout(False)
    for line, note in enumerate(reversed(lines)):
        at = (0.05 / width, (0.04 + LINE * line) / high)
        figure.text(*at, note, fontsize=NOTE, color=GREY, va="bottom", in_layout=False)


def grid_size(count: int, columns: int) -> tuple[int, int]:
    """Rows and columns for so many panels."""
    across = max(1, min(columns, count))
    return max(1, -(-count // across)), across


def empty_panel(axis: Axes, why: str) -> None:
    """An empty panel that says why."""
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", color=GREY, fontsize=NOTE)
    axis.set_xticks([])
    axis.set_yticks([])


def label_axes(page: Sheet, count: int) -> list[Axes]:
    """Hides the panels after the first ``count``; of each column the lowest one left, which gets the labels."""
    left: dict[int, Axes] = {}
    columns = page.axes.shape[1]
    for at, axis in enumerate(page.flat):
        axis.set_visible(at < count)
        if at < count:
            left[at % columns] = axis
    for axis in left.values():
        axis.tick_params(axis="x", labelbottom=True)
    return list(left.values())


def name_rows(axis: Axes, names: Sequence[str]) -> None:
    """One row a name, the first on top."""
    axis.set_yticks(range(len(names)), [label(name, 24) for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    vertical_grid(axis)


def horizontal_grid(axis: Axes) -> None:
    axis.grid(axis="y", color=FAINT, linewidth=0.5)


def vertical_grid(axis: Axes) -> None:
    axis.grid(axis="x", color=FAINT, linewidth=0.5)


def offsets(count: int, reach: float) -> list[float]:
    """Places for so many marks beside each other, around 0."""
    return [0.0] if count == 1 else [float(at) for at in np.linspace(-reach, reach, count)]


def cell_text(axis: Axes, x: float, y: float, text: str, *, dark: bool, size: float) -> None:
    """A number within a cell of a heat map; white on a ``dark`` one."""
    color = "white" if dark else INK
    axis.text(x, y, text, color=color, ha="center", va="center", in_layout=False, fontsize=size)


def draw_dots(axis: Axes, values: Sequence[float], row: float, reach: float) -> None:
    """Single values of a row, spread a little across it."""
    axis.plot(values, [row + up for up in offsets(len(values), reach)], ".", color=INK, markersize=2.4)
