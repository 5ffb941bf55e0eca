"""All figures of a results folder, from ``points.csv`` and ``records.jsonl`` alone, and why some are not there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from harness.reports.figures import chosen_shapes, effects, fronts, ranks, training
from harness.reports.figures.figure_data import Material, Reported, read
from harness.reports.figures.style import Drawn, Skipped, encoded, settle, style
from harness.reports.figures.swap import replace_folder

KINDS = ("svg", "png")  # "pdf" too when asked: it takes as long as both
LIST = "README.md"
FIGURES: tuple[Callable[[Material], Iterator[Drawn | Skipped]], ...] = (
    fronts.fronts,
    ranks.summary,
    ranks.critical,
    effects.ablation,
    effects.cost,
    fronts.latency,
    chosen_shapes.by_budget,
    chosen_shapes.by_set,
    training.search,
    training.progress,
    training.coverage,
)


@dataclass(frozen=True)
class Written:
    """``skipped``: figures that are not there, each with the reason."""

    files: tuple[Path, ...]
    skipped: tuple[tuple[str, str], ...]


def write(
    folder: Path | str,
    title: str = "",
    *,
    regime: str = "equal_steps",
    reference: str | None = None,
    alone: Sequence[str] | None = None,
    reported: Sequence[Reported] = (),
    kinds: Sequence[str] = KINDS,
) -> Written:
    """Draw all figures of ``results/<suite>`` into its folder ``figures``, which is replaced as a whole.

    ``reference``: the method that others are compared with, by default that of the first point. ``alone``: methods that
    train a model of its own for each size, by default those whose recipe is called ``fixed_…``. ``reported``: other
    people's figures, drawn hollow. Raises ValueError or OSError where there are no points, StoreError where a record
    is damaged; then the old figures stay.
    """
    home = Path(folder)
    files, entries, skipped = _drawn(read(home, reference, alone, reported), kinds)
    files[LIST] = _listed(title or home.name, regime, entries, skipped, kinds).encode("utf-8")
    replace_folder(home / "figures", files)
    return Written(tuple(home / "figures" / name for name in files), tuple(skipped))


def _drawn(
    material: Material, kinds: Sequence[str]
) -> tuple[dict[str, bytes], list[tuple[str, str]], list[tuple[str, str]]]:
    files: dict[str, bytes] = {}
    entries: list[tuple[str, str]] = []
    skipped: list[tuple[str, str]] = []
    with style():
        for draw in FIGURES:
            for one in draw(material):
                if isinstance(one, Skipped):
                    skipped.append((one.name, one.why))
                    continue
                stem = file_stem(one.name)
                settle(one.figure)
                files |= {f"{stem}.{kind}": encoded(one.figure, kind) for kind in kinds}
                entries.append((stem, one.caption))
    return files, entries, skipped


def file_stem(name: str) -> str:
    """A name as part of a path on any system; what had to be changed gets a mark of its own, so that no two meet."""
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:80].strip(".")
    return safe if safe == name else f"{safe}-{sha256(name.encode('utf-8')).hexdigest()[:8]}"


def _listed(
    title: str,
    regime: str,
    entries: Sequence[tuple[str, str]],
    skipped: Sequence[tuple[str, str]],
    kinds: Sequence[str],
) -> str:
    lines = [
        f"# {_line(title)}: figures",
        "",
        f"Drawn from `points.csv` and `records.jsonl` by `eavit-bench figures`, which replaces this folder as a whole. "
        f"Regime: {regime.replace('_', ' ')}.",
        "",
    ]
    for stem, caption in entries:
        links = " · ".join(f"[{kind}]({stem}.{kind})" for kind in kinds)
        lines.append(f"- **{stem}** ({links}): {_line(caption)}")
    if skipped:
        lines += ["", "Not drawn:", "", *(f"- {_line(name)}: {_line(why)}" for name, why in skipped)]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())
