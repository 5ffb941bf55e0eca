"""What tests of figures share: made-up records, and figures drawn from made-up points."""

from __future__ import annotations

from example_points import cell_of, example

from harness.reports.figures import style
from harness.reports.figures.style import Drawn, Skipped
from harness.reports.report_data import ReportData
from harness.results.record import Record

FRONT = [["e48-h3x2-m96x2", 0.2, 0.5], ["e96-h6x2-m384x2", 0.9, 0.9]]


def record(method="ea_vit", dataset="digits", seed=0, use="eavit.methods:ea_vit", **told) -> Record:
    stamp = "2026-11-22T00:00:00+00:00"
    return Record(
        cell=cell_of(method, dataset, seed), suite="quick", method=method, dataset=dataset, seed=seed,
        identity={"method": {"use": use}}, status="ok", points=(), started=stamp, finished=stamp, seconds=1.0,
        diagnostics=told,
    )  # fmt: skip


def of(points, records=(), **options):
    return ReportData("quick", points, records={one.cell: one for one in records}, **options)


def drawn(draw, made) -> dict[str, Drawn]:
    with style.figure_style():
        return {one.name: one for one in draw(made) if isinstance(one, Drawn)}


def skipped(draw, made) -> dict[str, str]:
    with style.figure_style():
        return {one.name: one.why for one in draw(made) if isinstance(one, Skipped)}


def steps_of(axis):
    return [line for line in axis.lines if line.get_drawstyle() == "steps-post"]


def few():
    return shaped(example(methods=("ea_vit", "fixed_uniform"), datasets=("digits",)))


def texts(figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def shaped(points):
    """Keys that differ by method, set and budget."""
    points = points.copy()
    wide = {"digits": 384, "mnist5k": 288}
    points["key"] = [
        f"e{int(96 * b)}-h6x3.{int(6 * b)}x3-m{wide.get(d, 192)}x5.{48 if m == 'ea_vit' else 0}" if k else None
        for m, d, b, k in zip(points.method, points.dataset, points.budget, points.key, strict=True)
    ]
    return points
