"""Latency of submodels on a profiled device, predicted from a table of its layers."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import spearmanr

from eavit.deploy.files import check_version, read_json, write_json
from eavit.model.submodel import Backbone, Submodel

FORMAT, FORMAT_VERSION = "eavit latency profile", 2
TINY = 1e-9  # milliseconds, above 0 for logarithms
RUNTIMES = ("torch", "onnxruntime")


class ProfileError(ValueError):
    """A profile that cannot answer: of another backbone, machine or runtime, or a damaged file."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Conditions of a profile beside the machine."""

    runtime: str = "torch"
    threads: int = 1
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.runtime}-t{self.threads}-b{self.batch}"


def this_machine(runtime: str) -> dict[str, Any]:
    """The processor and the runtime that a profile holds for."""
    return {
        "processor": _processor(),
        "cores": cpu_count(),
        "system": platform.system(),
        "runtime": f"{runtime} {metadata.version(runtime)}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Profile:
    """Milliseconds of the parts of a ViT over its widths: outside the blocks, an attention branch, an MLP branch.

    A submodel's latency is their sum over its layers times ``pace``, which whole submodels were used to fit: weights
    that stay in the processor's caches between calls make a small submodel faster than its parts say, and a large one
    slower. ``held_out``: submodels that were not, with measured and predicted milliseconds.
    """

    backbone: Mapping[str, Any]
    setting: Setting
    machine: Mapping[str, Any]
    embeds: tuple[int, ...]
    heads: tuple[int, ...]
    mlps: tuple[int, ...]
    outside: tuple[float, ...]  # by embed
    attention: tuple[tuple[float, ...], ...]  # by embed and heads
    mlp: tuple[tuple[float, ...], ...]  # by embed and hidden width
    pace: tuple[tuple[float, float], ...] = ()  # sums of parts, ascending, and what measured submodels were over them
    held_out: tuple[tuple[str, float, float], ...] = ()
    noise: Mapping[str, float] = field(default_factory=dict)

    def check(self, backbone: Backbone) -> None:
        """Raise ProfileError unless the profile is of this backbone."""
        own = asdict(backbone)
        other = [f"{k} is {own[k]!r}, in the profile {v!r}" for k, v in self.backbone.items() if own.get(k) != v]
        if other:
            raise ProfileError(f"the profile is of another backbone: {'; '.join(other[:3])}; profile this one")

    def check_machine(self) -> None:
        """Raise ProfileError unless the profile is of this machine and of this version of the runtime."""
        here = this_machine(self.setting.runtime)
        other = [f"{k} is {here[k]!r}, in the profile {v!r}" for k, v in self.machine.items() if here.get(k) != v]
        if other:
            raise ProfileError(
                f"the profile is of another machine: {'; '.join(other)}; profile this one, or name the profile's file "
                "to choose for that machine"
            )

    def latency_ms(self, submodel: Submodel) -> float:
        """Predicted milliseconds of one call with the profiled batch."""
        total = self.sum_of_parts(submodel)
        if not self.pace:
            return total
        sums, paces = np.log(np.maximum(self.pace, TINY)).T
        return total * float(np.exp(np.interp(np.log(max(total, TINY)), sums, paces)))

    def sum_of_parts(self, submodel: Submodel) -> float:
        """Milliseconds of all parts of a submodel, before the pace."""
        e = submodel.embed
        outside = float(np.interp(e, self.embeds, self.outside))
        attention = sum(self._branch("attention", e, heads) for heads in submodel.heads if heads)
        mlp = sum(self._branch("mlp", e, hidden) for hidden in submodel.mlp if hidden)
        return outside + attention + mlp

    def _branch(self, name: str, embed: int, width: int) -> float:
        place = (name, embed, width)
        if place not in self._known:
            self._known[place] = float(self._tables[name]((embed, width)))
        return self._known[place]

    @cached_property
    def _known(self) -> dict[tuple[str, int, int], float]:
        """Branches that were asked for before: a search asks for the same ones again and again."""
        return {}

    @cached_property
    def _tables(self) -> dict[str, RegularGridInterpolator]:
        options = {"bounds_error": False, "fill_value": None}  # beyond the table: the slope at its edge
        return {
            "attention": RegularGridInterpolator((self.embeds, self.heads), rising(self.attention), **options),
            "mlp": RegularGridInterpolator((self.embeds, self.mlps), rising(self.mlp), **options),
        }

    @property
    def errors(self) -> NDArray[np.float64]:
        """Relative errors of the predictions for submodels that were not used to fit."""
        return np.array([abs(predicted / measured - 1) for _, measured, predicted in self.held_out])

    @property
    def median_error(self) -> float:
        """Median of the relative errors; NaN where no submodel was held out."""
        return float(np.median(self.errors)) if self.held_out else float("nan")

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of predicted and measured milliseconds; NaN where fewer than three were held out."""
        if len(self.held_out) < 3:
            return float("nan")
        _, measured, predicted = zip(*self.held_out, strict=True)
        return float(spearmanr(measured, predicted).statistic)

    def save(self, path: str | Path) -> Path:
        """Write the profile as JSON with a checksum."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        write_json(Path(path), values)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """The profile that :meth:`save` wrote; ProfileError if it is damaged, changed or too new."""
        path = Path(path)
        try:
            values = read_json(path, FORMAT)
            check_version(path, values, FORMAT, FORMAT_VERSION)
            if values["format_version"] < FORMAT_VERSION:
                raise ProfileError(f"{path}: from an older version of eavit; make it again with: eavit profile FAMILY")
            del values["format"], values["format_version"]
            nested = ("attention", "mlp", "pace", "held_out")
            tables: dict[str, Any] = {k: tuple(map(tuple, values.pop(k))) for k in nested}
            lists: dict[str, Any] = {k: tuple(values.pop(k)) for k in ("embeds", "heads", "mlps", "outside")}
            return cls(setting=Setting(**values.pop("setting")), **tables, **lists, **values)
        except FileNotFoundError as error:
            raise ProfileError(f"{path}: no such file; make it with: eavit profile FAMILY") from error
        except (KeyError, TypeError) as error:
            raise ProfileError(f"{path}: damaged: {error}") from error
        except ValueError as error:
            raise ProfileError(str(error)) from error


def rising(table: Any) -> NDArray[np.float64]:
    """The table without negative values, and never falling as a width grows: what noise alone can do."""
    positive = np.maximum(np.array(table, dtype=np.float64), 0.0)
    return np.maximum.accumulate(np.maximum.accumulate(positive, axis=0), axis=1)
