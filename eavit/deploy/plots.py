"""Plots of a profile, of a choice and of a family, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eavit.deploy.elastic import ElasticModel, MeasuredMember
from eavit.deploy.latency import Profile
from eavit.deploy.limits import Count
from eavit.model import cost
from eavit.model.submodel import Submodel


def _axes(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no global state, no display

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def save_profile_plot(profile: Profile, path: Path) -> Path | None:
    """Predicted over measured milliseconds of submodels that the table has not seen; None without matplotlib."""
    if find_spec("matplotlib") is None or not profile.held_out:
        return None
    figure, axes = _axes("measured ms", "predicted ms")
    _, measured, predicted = zip(*profile.held_out, strict=True)
    ends = (0.9 * min(measured), 1.1 * max(measured))
    axes.plot(ends, ends, color="grey", linewidth=1)
    axes.loglog(measured, predicted, "o")
    axes.set_title(
        f"{profile.setting}: median error {profile.median_error:.1%}, rank correlation {profile.rank_correlation:.3f}",
        fontsize=9,
    )
    figure.savefig(path, dpi=120)
    return path


def save_choice_plot(elastic: ElasticModel, profile: Profile, choice: MeasuredMember, path: Path) -> Path | None:
    """Accuracy over predicted milliseconds of all members, the choice marked; None without matplotlib."""
    if find_spec("matplotlib") is None:
        return None
    figure, axes = _axes(f"predicted ms ({profile.setting})", "accuracy in %")
    _points(axes, elastic.members, profile.latency_ms, color="tab:blue", label="members")
    _points(axes, [choice], profile.latency_ms, color="tab:red", label=str(choice.submodel))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return path


def save_family_plot(elastic: ElasticModel, submodel: Submodel, path: Path) -> Path | None:
    """Accuracy over MACs of all members, one submodel marked; None without matplotlib."""
    if find_spec("matplotlib") is None:
        return None

    def macs(each: Submodel) -> float:
        return cost.macs(elastic.backbone, each) / 1e6

    figure, axes = _axes("million MACs of one image", "accuracy in %")
    _points(axes, elastic.members, macs, color="tab:blue", label="members of the family")
    exported = [m for m in elastic.members if m.submodel == submodel]
    _points(axes, exported, macs, color="tab:red", label="this model")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return path


def _points(axes: Any, members: Sequence[MeasuredMember], size: Count, color: str, label: str) -> None:
    sizes = [size(m.submodel) for m in members]
    accuracy = [100 * m.accuracy for m in members]
    below = [100 * (m.accuracy - m.interval[0]) for m in members]
    above = [100 * (m.interval[1] - m.accuracy) for m in members]
    axes.errorbar(sizes, accuracy, (below, above), fmt="o", color=color, label=label, elinewidth=0.8)
