"""Every public callable takes the neighbours of each argument: the same result, or an error that names the argument."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pytest
import torch
from strategies import build
from torch import Tensor, nn

import eavit
from eavit import Backbone, Gates, NestedViT, Submodel
from tests.eavit.model.vits import TINY

PLAIN = build(TINY)
VIT = NestedViT.from_timm(PLAIN)
B = VIT.backbone
INNER = Submodel(8, (2, 0, 1), (10, 48, 0))
SPACE = eavit.Space.eavit(B)
MEMBER = SPACE.sample(np.random.default_rng(0))
X = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
BATCHES = [(X, torch.tensor([0, 1]))]
GATES = Gates.of(INNER, B, like=X)
NUMBERS = {f.name: getattr(B, f.name) for f in fields(Backbone)}


@dataclass
class Call:
    """A public callable with arguments that are right; ``said``: what errors call an argument, if not by its name;
    ``result``: what is compared.
    """

    of: Callable[..., Any]
    arguments: dict[str, Any]
    said: dict[str, str] = field(default_factory=dict)
    result: Callable[[Any], Any] = lambda value: value


def state(model: nn.Module) -> list[Any]:
    return [(name, value.tolist()) for name, value in model.state_dict().items()]


def widths(gates: Gates) -> list[Any]:
    return [gates.embed.tolist(), gates.heads.tolist(), gates.mlp.tolist()]


SUBMODEL = {"embed": 8, "heads": (2, 0, 1), "mlp": (10, 48, 0)}
CALLS = {
    "Submodel": Call(Submodel, SUBMODEL),
    "Submodel.parse": Call(Submodel.parse, {"text": str(INNER)}, {"text": "not a submodel"}),
    "Submodel.of": Call(Submodel.of, {"widths": INNER}, {"widths": "submodel"}),
    "Submodel.meet": Call(INNER.meet, {"other": B.full}, {"other": "submodel"}),
    "Backbone": Call(Backbone, NUMBERS),
    "Backbone.of": Call(Backbone.of, {"owner": B}, {"owner": "backbone"}),
    "Backbone.check": Call(B.check, {"submodel": INNER}),
    "Gates": Call(Gates, {"embed": GATES.embed, "heads": GATES.heads, "mlp": GATES.mlp}, result=widths),
    "Gates.of": Call(Gates.of, {"submodel": INNER, "backbone": B, "like": X}, result=widths),
    "Gates.check": Call(GATES.check, {"backbone": B}),
    "Gates.harden": Call(GATES.harden, {}),
    "NestedViT.from_timm": Call(NestedViT.from_timm, {"model": PLAIN}, {"model": "model|backbone"}, state),
    "NestedViT.forward": Call(VIT, {"images": X, "widths": INNER}, {"widths": "submodel"}, Tensor.tolist),
    "NestedViT.hidden": Call(
        VIT.hidden, {"images": X, "widths": INNER}, {"widths": "submodel"}, lambda pair: pair[0].tolist()
    ),
    "extract": Call(eavit.extract, {"vit": VIT, "submodel": INNER}, result=state),
    "macs": Call(eavit.macs, {"backbone": B, "widths": INNER}, {"widths": "submodel"}),
    "params": Call(eavit.params, {"backbone": B, "submodel": INNER}),
    "sort_by_importance": Call(
        eavit.sort_by_importance, {"vit": VIT, "batches": BATCHES, "metric": "taylor", "loss": None}, result=state
    ),
    "Space.eavit": Call(eavit.Space.eavit, {"backbone": B, "min_depth": 0.5}),
    "Space.contains": Call(SPACE.contains, {"submodel": INNER}),
    "Space.require": Call(SPACE.require, {"submodel": MEMBER}),
    "Space.narrower": Call(SPACE.narrower, {"submodel": MEMBER}, result=list),
    "Space.wider": Call(SPACE.wider, {"submodel": MEMBER}, result=list),
    "Space.genes": Call(SPACE.genes, {"submodel": MEMBER}, result=np.ndarray.tolist),
    "Space.from_genes": Call(SPACE.from_genes, {"genes": SPACE.genes(MEMBER)}),
    "Space.sample": Call(lambda rng: SPACE.sample(rng), {"rng": None}, result=type),
    "Space.near": Call(lambda target, rng: SPACE.near(target, rng), {"target": 20_000.0, "rng": None}, result=type),
}
FOREIGN: list[Any] = [
    None,
    True,
    3,
    0,
    -1,
    1.5,
    float("nan"),
    "x",
    "",
    b"x",
    [],
    (),
    {},
    ["x"],
    [None],
    object(),
    B.full,
]
FOREIGN += [np.float64(2.5), np.array([1.5, 2]), np.zeros((2, 2)), np.array([]), torch.tensor(1.5), torch.ones(2, 2)]
FOREIGN += [VIT.head, torch.float32, Submodel, X[:, :1], X[0], X.float(), X.int(), X.to("meta"), X.numpy(), X.tolist()]
FOREIGN += [[X], [(X,)], [(X.numpy(), [0, 1])], [{"x": X}], [(X[:, :1], torch.tensor([0, 1]))], (x for x in ())]


def twins(value: Any) -> Iterator[Any]:
    """The same value in other types."""
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield from (np.int64(value), np.int32(value), torch.tensor(value), np.array(value))
    elif isinstance(value, float):
        yield from (np.float64(value), np.float32(value))
    elif isinstance(value, tuple):
        yield from (list(value), np.array(value), torch.tensor(value), tuple(map(np.int64, value)), iter(value))
    elif isinstance(value, np.ndarray):
        yield from (value.tolist(), tuple(value), torch.tensor(value), value.astype(np.int16))
    elif isinstance(value, Submodel):
        yield from (str(value), f" {value} ", Submodel(np.int64(value.embed), list(value.heads), np.array(value.mlp)))
    elif isinstance(value, Backbone):
        yield VIT
    elif value is BATCHES:
        yield from (tuple(BATCHES), iter(BATCHES), [list(BATCHES[0])])


def arguments_of(call: Call) -> dict[str, Any]:
    return {name: np.random.default_rng(0) if name == "rng" else value for name, value in call.arguments.items()}


def outcome(call: Call, **changes: Any) -> Any:
    return call.result(call.of(**(arguments_of(call) | changes)))


@pytest.mark.parametrize("name", CALLS)
def test_the_same_value_in_another_type_gives_the_same_result(name):
    call = CALLS[name]
    wanted = outcome(call)
    for argument, value in call.arguments.items():
        for twin in twins(value):
            assert outcome(call, **{argument: twin}) == wanted, f"{argument}={twin!r}"


@pytest.mark.parametrize("name", CALLS)
def test_a_foreign_value_is_refused_naming_the_argument_and_what_is_allowed(name):
    call = CALLS[name]
    for argument in call.arguments:
        refused, tried = 0, [value for value in FOREIGN if argument != "loss" or not callable(value)]
        for value in tried:
            try:
                made = call.of(**(arguments_of(call) | {argument: value}))
                list(made) if isinstance(made, Iterator) else None
            except (ValueError, TypeError) as error:
                text = str(error)
                assert re.search(call.said.get(argument, argument), text), f"{argument}={value!r}: {text}"
                refused += 1
        assert refused > len(tried) / 2, f"{argument}: {refused} of {len(tried)} refused"


@pytest.mark.parametrize("name", ["Submodel", "Gates"])
def test_what_is_taken_computes_what_its_extract_computes(name):
    """A width that is taken at all means the same to the sliced forward, the formulas and the extract."""
    call = CALLS[name]
    for argument in call.arguments:
        for value in FOREIGN:
            try:
                made = call.of(**(call.arguments | {argument: value}))
                logits = VIT(X, made)
                submodel = made.harden() if isinstance(made, Gates) else made
            except (ValueError, TypeError):
                continue
            assert torch.allclose(logits, eavit.extract(VIT, submodel)(X)), f"{argument}={value!r}"


def test_every_public_callable_is_tried():
    made = {*eavit.__all__} - {"Space", "NestedViT"} - eavit.LATER.keys()  # these have tests of bad input of their own
    classes = {"Submodel": Submodel, "Backbone": Backbone, "Gates": Gates, "NestedViT": NestedViT, "Space": eavit.Space}
    for name, kind in classes.items():
        own = {key for key, part in vars(kind).items() if inspect.isfunction(part) or isinstance(part, classmethod)}
        made |= {f"{name}.{key}" for key in own if not key.startswith("_")}
    assert made | {"Space.eavit"} == set(CALLS)
