"""``python -m tests.speed.latency [--case NAME ...] [--seconds N] [--redraw]``: predicted against measured latency.

Profiles each case as ``eavit profile`` does, with more submodels that the table has not seen, and writes to
results/latency/: a profile for each case, latency.png (predicted over measured), shares.png (latency over MACs, both as
shares of the full model's) and table.md. Cases that are not measured keep their profiles. A missed target is marked and
is no error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from eavit.adaptation.progress import Bars
from eavit.deploy.elastic import ElasticModel, FamilyRecord, MeasuredMember, Validation
from eavit.deploy.latency import Profile, Setting
from eavit.deploy.profiling import profile_latency
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from tests.speed.backbones import BACKBONES
from tests.speed.processes import ROOT

OUT = ROOT / "results" / "latency"
MEDIAN_ERROR, RANK_CORRELATION = 0.05, 0.98  # targets: at most, at least
HELD_OUT = 24
CASES: dict[str, tuple[str, Setting]] = {  # one thread each: milliseconds are processor time
    "pico-torch": ("pico", Setting("torch")),
    "pico-onnxruntime": ("pico", Setting("onnxruntime")),
    "pico-torch-batch16": ("pico", Setting("torch", batch=16)),
    "vit-s-torch": ("ViT-S", Setting("torch")),
    "vit-s-torch-batch16": ("ViT-S", Setting("torch", batch=16)),
    "vit-s-onnxruntime": ("ViT-S", Setting("onnxruntime")),
    "vit-s-onnxruntime-batch16": ("ViT-S", Setting("onnxruntime", batch=16)),
    "vit-b-torch": ("ViT-B", Setting("torch")),
    "vit-b-torch-batch16": ("ViT-B", Setting("torch", batch=16)),
    "vit-b-onnxruntime": ("ViT-B", Setting("onnxruntime")),
    "vit-b-onnxruntime-batch16": ("ViT-B", Setting("onnxruntime", batch=16)),
    "sketch": ("sketch", Setting("torch")),  # for the smoke test
}
HEADINGS = (
    "backbone",
    "runtime",
    "batch",
    "submodels",
    "ms",
    "median error",
    "rank correlation",
    "spread of repeats",
    "processor",
)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = [name for name in CASES if name != "sketch"]
    parser.add_argument("--case", action="append", choices=list(CASES), help=f"default: {', '.join(usual)}")
    parser.add_argument("--seconds", type=float, default=90.0, help="processor time to measure for in each case")
    parser.add_argument("--redraw", action="store_true", help="measure nothing; table and pictures of what is there")
    parser.add_argument("--out", type=Path, default=OUT, help="folder that is written; default: results/latency")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in [] if options.redraw else options.case or usual:
        measured(name, options.seconds).save(options.out / f"{name}.json")
    files = {name: options.out / f"{name}.json" for name in CASES}
    profiles = {name: Profile.load(file) for name, file in files.items() if file.exists()}
    draw(profiles, options.out / "latency.png")
    draw_shares(profiles, options.out / "shares.png")
    text = table(profiles)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{text}written: {options.out}\n")
    return 0


def measured(name: str, seconds: float) -> Profile:
    """Profile of a case: submodels of an untrained backbone, whose values do not change its speed."""
    backbone, setting = CASES[name]
    vit = BACKBONES[backbone].vit().eval()
    record = FamilyRecord((MeasuredMember(vit.backbone.full, 0, 1),), {}, Validation(1, ""))
    options = {"seconds": seconds, "held_out": HELD_OUT, "progress": (bars := Bars())}
    try:
        return profile_latency(ElasticModel(vit, record), setting.runtime, setting.threads, setting.batch, **options)
    finally:
        bars.close()


def verdict(value: str, met: bool) -> str:
    return f"{value} ({'met' if met else 'missed'})"


def row(name: str, profile: Profile) -> tuple[str, ...]:
    times = [ms for _, ms, _ in profile.held_out]
    return (
        f"{CASES[name][0]}",
        str(profile.machine["runtime"]),
        str(profile.setting.batch),
        str(len(times)),
        f"{min(times):.2f} to {max(times):.2f}",
        verdict(f"{profile.median_error:.1%}", profile.median_error <= MEDIAN_ERROR),
        verdict(f"{profile.rank_correlation:.3f}", profile.rank_correlation >= RANK_CORRELATION),
        f"{profile.noise['spread']:.1%}{' (busy machine)' if profile.noise['busy'] > 0.1 else ''}",
        f"{profile.machine['processor']}, {profile.machine['cores']} cores",
    )


def table(profiles: Mapping[str, Profile]) -> str:
    """Markdown with one row for each case."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(row(name, profile) for name, profile in profiles.items())]
    return "\n".join(
        [
            "# Latency: predicted and measured",
            "",
            "## Error of predicted latency",
            "",
            f"Targets: median error at most {MEDIAN_ERROR:.0%}, rank correlation at least {RANK_CORRELATION:g}.",
            "",
            *(f"| {' | '.join(cells)} |" for cells in lines),
            "",
        ]
    )


def panels(count: int, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels in rows of ``columns``."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in axes[count:]:
        empty.remove()
    return figure, axes[:count]


def draw(profiles: Mapping[str, Profile], path: Path) -> None:
    """Predicted over measured milliseconds, a panel for each case."""
    figure, each = panels(len(profiles))
    for axes, (name, profile) in zip(each, profiles.items(), strict=True):
        _, ms, predicted = zip(*profile.held_out, strict=True)
        ends = (0.9 * min(ms), 1.1 * max(ms))
        axes.fill_between(ends, [0.95 * end for end in ends], [1.05 * end for end in ends], color="0.9")
        axes.loglog(ends, ends, color="grey", linewidth=0.8)
        axes.loglog(ms, predicted, "o", markersize=3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="measured ms", ylabel="predicted ms")
        axes.set_title(f"{name}\nmedian error {profile.median_error:.1%}", fontsize=8)
    figure.savefig(path, dpi=110)


def draw_shares(profiles: Mapping[str, Profile], path: Path) -> None:
    """Measured latency over MACs of the submodels that were not used, as shares of the full model's; a panel for each
    backbone and runtime. On the grey line, half of the MACs take half of the time.
    """
    groups: dict[tuple[str, str], list[Profile]] = {}
    for name, profile in profiles.items():
        groups.setdefault((CASES[name][0], profile.setting.runtime), []).append(profile)
    figure, each = panels(len(groups), 3)
    for axes, ((backbone, runtime), members) in zip(each, groups.items(), strict=True):
        axes.plot((0, 1), (0, 1), color="grey", linewidth=0.8)
        for profile in members:
            whole = Backbone(**profile.backbone)
            macs = [cost.share(whole, Submodel.of(key)) for key, _, _ in profile.held_out]
            times = [ms / profile.latency_ms(whole.full) for _, ms, _ in profile.held_out]
            axes.plot(macs, times, "o", markersize=3, label=f"batch {profile.setting.batch}")
        axes.set(xlabel="share of MACs", ylabel="share of latency", xlim=(0, 1.05), ylim=(0, None))
        axes.set_title(f"{backbone}, {runtime}", fontsize=8)
        axes.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
