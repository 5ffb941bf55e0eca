"""Measurement of a latency profile on this machine: layers over a grid of widths, then whole submodels."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from eavit.deploy.elastic import ElasticModel, image_shape_of
from eavit.deploy.export import onnx_program
from eavit.deploy.forms import onnx_session
from eavit.deploy.latency import RUNTIMES, TINY, Profile, Setting, this_machine
from eavit.deploy.timing import Call, Timing, time_calls
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract
from eavit.options import allowed, whole
from eavit.space.product import ProductSpace
from eavit.training.task import Progress, silent

GRID = 4  # widths of each kind in the table
FITTED, HELD_OUT = 1, 10  # whole submodels to fit the sum of parts, beside one for two of those that test it
SHARE_OF_TABLE = 0.6  # of the time


class Sliceable(Protocol):
    """Backbone in many sizes: a profile is made of it."""

    @property
    def backbone(self) -> Backbone: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    def extract(self, submodel: Submodel) -> nn.Module: ...


class Unadapted:
    """A ViT before it is adapted: its submodels take as long as those of its family."""

    def __init__(self, model: nn.Module) -> None:
        self.vit = model if isinstance(model, NestedViT) else NestedViT.from_timm(model)
        self.backbone: Backbone = self.vit.backbone
        self.image_shape = image_shape_of(self.vit)

    def extract(self, submodel: Submodel) -> nn.Module:
        plain: nn.Module = extract(self.vit, submodel).eval()
        return plain


def callable_of(elastic: Sliceable, submodel: Submodel, setting: Setting) -> Call:
    """A call that runs a submodel on a batch of zeros in a runtime."""
    model, images = elastic.extract(submodel).cpu(), torch.zeros(setting.batch, *elastic.image_shape)
    if setting.runtime == "torch":

        def call() -> object:
            with torch.inference_mode():
                return model(images)

        return call
    session = onnx_session(onnx_program(model, images).SerializeToString(), setting.threads)
    feed = {"images": images.numpy()}
    return lambda: session.run(None, feed)


@contextmanager
def quiet_threads(count: int) -> Iterator[None]:
    """Torch with so many threads and without the collector of garbage inside."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(count)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def measure_submodels(
    elastic: Sliceable, submodels: Sequence[Submodel], setting: Setting, seconds: float = 5.0
) -> dict[Submodel, Timing]:
    """Measured latency of whole submodels on this machine, interleaved."""
    with quiet_threads(setting.threads):
        timings = time_calls(
            {str(s): callable_of(elastic, s, setting) for s in submodels}, seconds, threads=setting.threads
        )
    return {s: timings[str(s)] for s in submodels}


def profile_latency(
    elastic: ElasticModel | nn.Module,
    runtime: str = "torch",
    threads: int = 1,
    batch: int = 1,
    *,
    seconds: float = 60.0,
    grid: int = GRID,
    held_out: int = HELD_OUT,
    seed: int = 0,
    progress: Progress = silent,
) -> Profile:
    """Measure the latency table of a family, or of a ViT that is not adapted yet, on this machine in about so many
    seconds, and its error on whole submodels that it has not seen, ``held_out`` or a few more. With one thread,
    milliseconds are processor time, which is the wall time of an undisturbed call; with more they are wall time.
    """
    allowed("runtime", runtime, RUNTIMES)
    setting = Setting(runtime, whole("threads", threads, 1), whole("batch", batch, 1))
    source = elastic if isinstance(elastic, ElasticModel) else Unadapted(elastic)
    b = source.backbone
    space = ProductSpace.eavit(b)
    kept = [m.submodel for m in elastic.members] if isinstance(elastic, ElasticModel) else [narrowest(b)]
    embeds = spread_widths({*space.embeds, *(s.embed for s in kept)}, grid)
    heads = spread_widths({*space.heads, *(h for s in kept for h in s.heads)} - {0}, grid)
    mlps = spread_widths({*space.mlps, *(m for s in kept for m in s.mlp)} - {0}, grid)
    sessions = []
    for done, embed in enumerate(embeds):
        wanted = _row(b, embed, heads, mlps)
        share = SHARE_OF_TABLE * seconds / len(embeds)
        sessions.append(measure_submodels(source, [*wanted, b.full], setting, share))
        progress("table", done + 1, len(embeds))
    wholes = whole_submodels(space, FITTED + held_out * 3 // 2, seed)
    sessions.append(measure_submodels(source, [*wholes, b.full], setting, (1 - SHARE_OF_TABLE) * seconds))
    progress("submodels", 1, 1)
    *parts, measured = same_pace(sessions, b.full)
    table = Profile(
        asdict(b), setting, this_machine(runtime), embeds, heads, mlps, *_tables(b, embeds, heads, mlps, parts)
    )
    return fitted(table, {s: measured[s] for s in wholes}, _noise([t for each in sessions for t in each.values()]))


def narrowest(b: Backbone) -> Submodel:
    """Widths about as narrow as a method makes members of: a table covers them before there are members."""
    return Submodel(max(1, b.embed // 4), (1,) * b.depth, (max(1, b.mlp // 8),) * b.depth)


def same_pace(sessions: Sequence[Mapping[Submodel, Timing]], anchor: Submodel) -> list[dict[Submodel, float]]:
    """Milliseconds of each session at the pace of the fastest one: one submodel, the anchor, was measured in all, and
    the rest of a session is slower or faster with it.
    """
    best = min(session[anchor].median_ms for session in sessions)
    return [{s: t.median_ms * best / session[anchor].median_ms for s, t in session.items()} for session in sessions]


def spread_widths(widths: Iterable[int], count: int) -> tuple[int, ...]:
    """Select up to so many of some widths, evenly, with both ends; ascending."""
    ordered = sorted(set(widths))
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
    return tuple(dict.fromkeys(int(ordered[round(place)]) for place in places))


def _row(b: Backbone, embed: int, heads: Sequence[int], mlps: Sequence[int]) -> list[Submodel]:
    """Submodels of one embedding: without blocks, with attention alone, with MLPs alone."""
    none = (0,) * b.depth
    return [
        Submodel(embed, none, none),
        *(Submodel(embed, (h,) * b.depth, none) for h in heads),
        *(Submodel(embed, none, (m,) * b.depth) for m in mlps),
    ]


def _tables(
    b: Backbone,
    embeds: Sequence[int],
    heads: Sequence[int],
    mlps: Sequence[int],
    parts: Sequence[Mapping[Submodel, float]],
) -> Any:
    """Milliseconds outside the blocks, and of one branch of either kind."""
    outside, attention, mlp = [], [], []
    for embed, times in zip(embeds, parts, strict=True):
        none, *branches = (times[s] for s in _row(b, embed, heads, mlps))
        each = [(total - none) / b.depth for total in branches]
        outside.append(none)
        attention.append(tuple(each[: len(heads)]))
        mlp.append(tuple(each[len(heads) :]))
    return tuple(outside), tuple(attention), tuple(mlp)


def whole_submodels(space: ProductSpace, count: int, seed: int) -> list[Submodel]:
    """Submodels of mixed widths and depths over the whole range of MACs, the two ends included."""
    rng = np.random.default_rng([seed, 12])
    low, high = (float(np.log(cost.macs(space.backbone, s))) for s in (space.smallest, space.largest))
    drawn = [space.near(float(np.exp(low + (high - low) * (i + 0.5) / count)), rng) for i in range(count)]
    return list(dict.fromkeys([space.smallest, *drawn, space.largest]))


def fitted(table: Profile, measured: dict[Submodel, float], noise: dict[str, float]) -> Profile:
    """The table with the pace of every third whole submodel, smoothed over neighbours, and its error on the others."""
    wholes = sorted(measured, key=table.sum_of_parts)
    used = list(dict.fromkeys([*wholes[::3], wholes[-1]]))
    sums = [max(table.sum_of_parts(s), TINY) for s in used]
    paces = np.log([measured[s] / total for s, total in zip(used, sums, strict=True)])
    smooth = [float(np.exp(np.mean(paces[max(0, i - 1) : i + 2]))) for i in range(len(used))]
    final = replace(table, pace=tuple(zip(sums, smooth, strict=True)), noise=noise)
    others = [s for s in wholes if s not in used]
    return replace(final, held_out=tuple((str(s), measured[s], final.latency_ms(s)) for s in others))


def _noise(timings: Sequence[Timing]) -> dict[str, float]:
    return {
        "spread": float(np.median([t.spread for t in timings])),
        "disturbed": float(np.mean([t.disturbed for t in timings])),
        "busy": float(np.mean([t.busy for t in timings])),
    }
