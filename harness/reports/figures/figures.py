"""All figures of a suite, from its report data alone, and why some cannot be drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from harness.jobs.files import replace_files
from harness.reports import stamp
from harness.reports.figures import chosen_shapes, effects, fronts, ranks, training
from harness.reports.figures.style import Drawn, Skipped, encode_figure, figure_style, fix_layout
from harness.reports.report_data import ReportData

KINDS = ("svg", "png")
LIST = "README.md"
FIGURES: tuple[Callable[[ReportData], Iterator[Drawn | Skipped]], ...] = (
    fronts.draw_fronts,
    ranks.draw_areas_and_ranks,
    ranks.draw_critical_differences,
    effects.draw_ablation,
    effects.draw_cost,
    fronts.draw_latency,
    chosen_shapes.draw_shapes_by_budget,
    chosen_shapes.draw_shapes_by_set,
    training.draw_search_fronts,
    training.draw_search_progress,
    training.draw_coverage,
)


@dataclass(frozen=True)
class DrawnFigures:
    """``skipped``: figures that are not there, each with the reason."""

    files: tuple[Path, ...]
    skipped: tuple[tuple[str, str], ...]


def write_figures(data: ReportData, folder: Path, kinds: Sequence[str] = KINDS) -> DrawnFigures:
    """Draw all figures into the folder ``figures`` of ``folder``; what else lies there is removed."""
    files: dict[str, bytes] = {}
    entries: list[tuple[str, str]] = []
    skipped: list[tuple[str, str]] = []
    with figure_style():
        for draw in FIGURES:
            for one in draw(data):
                if isinstance(one, Skipped):
                    skipped.append((one.name, one.why))
                    continue
                stem = file_stem(one.name, [stem for stem, _ in entries])
                fix_layout(one.figure)
                files |= {f"{stem}.{kind}": encode_figure(one.figure, kind) for kind in kinds}
                entries.append((stem, one.caption))
    files[LIST] = _list(data, entries, skipped, kinds).encode("utf-8")
    home = folder / stamp.FIGURES
    replace_files(home, files)
    for old in home.iterdir():
        if old.name not in files and old.is_file():
            old.unlink()
    return DrawnFigures(tuple(home / name for name in files), tuple(skipped))


def file_stem(name: str, taken: Sequence[str] = ()) -> str:
    """A name as part of a path on any system, unlike all that are ``taken`` where a system ignores case too."""
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:80].strip(".")
    stem = safe if safe == name else f"{safe}-{sha256(name.encode('utf-8')).hexdigest()[:8]}"
    lower, number, unique = {other.lower() for other in taken}, 1, stem
    while unique.lower() in lower:
        number += 1
        unique = f"{stem}-{number}"
    return unique


def _list(
    data: ReportData, entries: Sequence[tuple[str, str]], skipped: Sequence[tuple[str, str]], kinds: Sequence[str]
) -> str:
    lines = [
        f"# {_line(data.title or data.suite)}: figures",
        "",
        f"Drawn from `points.csv` and `records.jsonl` by `eavit-bench figures`, which replaces this folder as a whole. "
        f"Regime: {data.regime.replace('_', ' ')}.",
        "",
        *(f"{note}\n" for note in data.notices),
    ]
    for stem, caption in entries:
        links = " · ".join(f"[{kind}]({stem}.{kind})" for kind in kinds)
        lines.append(f"- **{stem}** ({links}): {_line(caption)}")
    if skipped:
        lines += ["", "Not drawn:", "", *(f"- {_line(name)}: {_line(why)}" for name, why in skipped)]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())
