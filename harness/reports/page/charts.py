"""The page's charts as Vega-Lite, by altair: one panel each, without data. The page hands every panel its rows.

Colours are CSS variables, so that light, dark and print need no second chart. Methods come as their numbers and are
distinguished by colour, symbol and dashes together; no name that a person chose is part of a specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt

from harness.reports.appearance import appearance

THEME: dict[str, Any] = {
    "background": None,
    "font": "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)", "titleColor": "var(--ink)", "gridColor": "var(--line)",
        "domainColor": "var(--edge)", "tickColor": "var(--edge)",
        "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal",
        "titlePadding": 8,
    },
}  # fmt: skip
FULL = "FULL"  # the page puts the full model's MACs in its place
ENDS: dict[str, Any] = {"domainMin": {"expr": "low"}, "domainMax": {"expr": "high"}}
SPEC = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChartLook:
    """A method's appearance as CSS and SVG have it; lines are 2 pixels wide."""

    colour: str
    symbol: str
    dash: tuple[float, ...]


def chart_look(at: int) -> ChartLook:
    one = appearance(at)
    return ChartLook(f"var(--c{one.colour})", one.path, tuple(2 * length for length in one.dash))


@cache
def charts(places: tuple[int, ...], budgets: int, score: str) -> dict[str, SPEC]:
    """All specifications by name; ``rows`` and ``seeds`` are the data they ask for.

    ``places``: of each method the place of its appearance; ``score``: title of what is measured.
    """
    looks = [chart_look(at) for at in places]
    axis = alt.Axis(values={"expr": "yticks"}, labelExpr="format(1 - datum.value, '.3~p')", grid=True)
    error = alt.Y("e:Q", title=f"{score}, its error on a log scale", axis=axis, scale=_error())
    share = _value(".3~p")
    return {
        "accuracy": _curve(looks, _y(score, share), "step-after"),
        "error": _curve(looks, error, "step-after", low="el", high="eh", front="ef"),
        "use": _curve(looks, _y("MACs used, share of the budget", share), "linear"),
        "latency": _curve(looks, _y("latency of one image, ms", _value("~g")), "linear"),
        "params": _curve(looks, _y("parameters", _value(".3~s")), "linear"),
        "area": _strip(looks, f"area: mean {score} over budgets", _value(".3~p")),
        "train_macs": _strip(looks, "training MACs of a cell", _value(".3~s")),
        "train_seconds": _strip(looks, "training seconds of a cell", _value("~g")),
        "forest": _forest(budgets, score),
    }


def _value(form: str) -> alt.Axis:
    return alt.Axis(format=form, tickCount=5)


def _y(title: str, axis: alt.Axis) -> alt.Y:
    return alt.Y("y:Q", title=title, axis=axis, scale=alt.Scale(**ENDS, zero=False, nice=False))


def _error() -> alt.Scale:
    return alt.Scale(type="log", reverse=True, nice=False, **ENDS)


def _marks(looks: list[ChartLook]) -> dict[str, Any]:
    """Colour, symbol and dashes by the method's number; a mark is hollow where its row has ``o``: suspicious."""
    domain = list(range(len(looks)))

    def scale(values: list[Any]) -> alt.Scale:
        return alt.Scale(domain=domain, range=values)

    colours = scale([one.colour for one in looks])
    return {
        "color": alt.Color("m:N", legend=None, scale=colours),
        "stroke": alt.Stroke("m:N", legend=None, scale=colours),
        "fill": alt.condition("datum.o", alt.value("var(--paper)"), alt.Fill("m:N", legend=None, scale=colours)),
        "shape": alt.Shape("m:N", legend=None, scale=scale([one.symbol for one in looks])),
        "strokeDash": alt.StrokeDash("m:N", legend=None, scale=scale([list(one.dash) or [1, 0] for one in looks])),
    }


def _curve(looks: list[ChartLook], y: alt.Y, line: Any, *, low: str = "lo", high: str = "hi", front: str = "f") -> SPEC:
    """Curve against MACs on a log scale. ``front``: the best within so many MACs, which a step line may join."""
    marks = _marks(looks)
    label = "format(100 * datum.value / full, '~g')"
    x = alt.X(
        "x:Q",
        title=f"MACs, % of the full model's {FULL} (log scale)",
        scale=alt.Scale(type="log", base=2, nice=False, domainMin={"expr": "left"}, domainMax={"expr": "right"}),
        axis=alt.Axis(values={"expr": "xticks"}, labelExpr=label, grid=True, labelOverlap="greedy"),
    )
    axis: Any = y.to_dict()
    same = {key: axis[key] for key in ("title", "axis", "scale")}
    seeds = alt.Chart(alt.NamedData("seeds")).mark_point(size=14, strokeWidth=1, opacity=0.45, clip=True)
    rows = alt.Chart(alt.NamedData("rows"))
    named = {key: marks[key] for key in ("stroke", "fill", "shape")}
    layers = alt.layer(
        rows.mark_rule(clip=True, opacity=0.55, strokeWidth=1.5).encode(
            x=x, y=alt.Y(low, type="quantitative", **same),
            y2=alt.Y2(high), color=marks["color"],
        ),
        rows.mark_line(interpolate=line, clip=True, strokeWidth=2).encode(
            x=x, y=alt.Y(front, type="quantitative", **same), color=marks["color"], strokeDash=marks["strokeDash"]
        ),
        seeds.encode(x=x, y=y, tooltip=alt.Tooltip("i:Q"), **named),
        rows.mark_point(size=60, strokeWidth=1.5, opacity=1, clip=True).encode(
            x=x, y=y, tooltip=alt.Tooltip("j:Q"), **named
        ),
    )  # fmt: skip
    names = {"low": 0.01, "high": 1, "left": 1, "right": 2, "full": 1, "xticks": [1], "yticks": [1]}
    return _finished(layers, names, 260)


def _strip(looks: list[ChartLook], title: str, axis: alt.Axis) -> SPEC:
    """One value a cell: methods one above the other, their mean with its interval, single seeds behind."""
    marks, scale = _marks(looks), alt.Scale(**ENDS, zero=False, nice=False)
    y = alt.Y("m:N", title=None, sort=None, axis=alt.Axis(labelExpr="names[datum.value]", labelLimit=150, grid=True))
    rows, seeds = alt.Chart(alt.NamedData("rows")), alt.Chart(alt.NamedData("seeds"))
    named = {key: marks[key] for key in ("stroke", "fill", "shape")}
    x = alt.X("y:Q", title=title, axis=axis, scale=scale)
    layers = alt.layer(
        rows.mark_rule(clip=True, opacity=0.55, strokeWidth=2).encode(
            y=y, x=alt.X("lo:Q", title=title, axis=axis, scale=scale), x2="hi:Q", color=marks["color"]
        ),
        seeds.mark_point(size=14, strokeWidth=1, opacity=0.45).encode(x=x, y=y, tooltip=alt.Tooltip("i:Q"), **named),
        rows.mark_point(size=60, strokeWidth=1.5, opacity=1).encode(x=x, y=y, tooltip=alt.Tooltip("j:Q"), **named),
    )
    return _finished(layers, {"low": 0, "high": 1, "names": [""]}, 24 * max(2, len(looks)))


def _forest(budgets: int, score: str) -> SPEC:
    """Differences of two methods with their intervals, one line each, against 0."""
    title, axis = f"A minus B, points of {score} (95 % interval)", alt.Axis(tickCount=5, format="~g")
    scale = alt.Scale(**ENDS, nice=False)
    x = alt.X("y:Q", title=title, axis=axis, scale=scale)
    y = alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=150))
    rows = alt.Chart(alt.NamedData("rows"))
    ends = alt.X("lo:Q", title=title, axis=axis, scale=scale)
    layers = alt.layer(
        rows.mark_rule(color="var(--edge)", strokeDash=[3, 3]).encode(x=alt.XDatum(0, scale=scale, title=title)),
        rows.mark_rule(clip=True, strokeWidth=2, color="var(--accent)").encode(y=y, x=ends, x2="hi:Q"),
        rows.mark_point(filled=True, size=70, opacity=1, color="var(--accent)").encode(x=x, y=y),
    )
    return _finished(layers, {"low": -1, "high": 1}, 26 * budgets)


def _finished(layers: Any, params: dict[str, Any], height: Any) -> SPEC:
    parameters = [alt.param(name=name, value=value) for name, value in params.items()]
    spec: SPEC = layers.add_params(*parameters).properties(width="container", height=height).to_dict()
    spec.pop("$schema"), spec.pop("config")  # an address, which the page needs not, and a theme, which it has
    return spec
