"""Whatever hangs on a timm model is kept by nesting, sorting and extracting, or refused by name; found by walking."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import pytest
import torch
from strategies import build
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from torch import Tensor, nn

import eavit
from eavit import NestedViT, Submodel
from eavit.model.attributes import implied_by_shapes
from eavit.model.timm_layout import CannotNestError

RECIPE = {
    "img_size": 6,
    "patch_size": 3,
    "embed_dim": 12,
    "num_heads": 3,
    "depth": 2,
    "num_classes": 5,
    "reg_tokens": 1,
    "qk_norm": True,
    "init_values": 0.1,
    "drop_path_rate": 0.2,
}
OTHERS = {"reg_tokens": 0, "global_pool": "token"}
EVA = {"num_reg_tokens": 1, "use_rot_pos_emb": True, "rope_type": "dinov3", "swiglu_mlp": True, "scale_mlp": True}
EVA |= {name: RECIPE[name] for name in RECIPE if name != "reg_tokens"} | {"scale_attn_inner": True}
SOURCES = {
    "vit": build(RECIPE),
    "distilled": build({**RECIPE, **OTHERS, "kind": VisionTransformerDistilled}),
    "eva": build({**EVA, "kind": Eva}),
}
SOURCE = SOURCES["vit"]
PARTS = dict(SOURCE.named_modules())
INNER = Submodel(8, (2, 1), (10, 7))  # every part is there
X = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
BATCH = [(X, torch.tensor([0, 1]))]

Change = Callable[[nn.Module], None]


@pytest.fixture(autouse=True, params=SOURCES)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is done with each class of timm's that can be nested."""
    model = SOURCES[request.param]
    monkeypatch.setitem(globals(), "SOURCE", model)
    monkeypatch.setitem(globals(), "PARTS", dict(model.named_modules()))


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case Enum():
            return next(other for other in type(value) if other != value)
        case tuple() | list() if value:
            return type(value)([*value[:-1], changed(value[-1])])
        case dict():
            return {**value, "changed": 1}
        case str():
            return value + "changed"
    return "changed"


def attributes(part: nn.Module) -> list[str]:
    """Public attributes and flags of this part alone."""
    return [key for key in vars(part) if not key.startswith("_")]


def assert_kept(model: nn.Module, look: Callable[[nn.Module], Any], *, widths: bool = False) -> None:
    """``look`` sees on all that is made of the model what it sees on the model, and all compute what it computes."""
    vit = NestedViT.from_timm(model)
    ordered = eavit.sort_by_importance(vit, BATCH, "l2")
    made = [eavit.extract(v, v.backbone.full) for v in (vit, ordered)]
    made += [] if widths else [eavit.extract(vit, INNER)]
    for one in made:
        assert look(one) == look(model)
        assert type(one) is type(model)
    flags = [model.eval(), *(one.eval() for one in (vit, ordered, *made))]
    with torch.no_grad():
        try:
            wanted = flags[0](X)
        except Exception:  # timm itself cannot run with this value
            return
        for one in (vit, ordered, *made[:2]):
            assert torch.allclose(one(X), wanted, atol=1e-9)
        inner = eavit.extract(vit, INNER).eval()
        assert torch.allclose(vit(X, INNER), inner(X), atol=1e-9)


def kept_or_refused(change: Change, place: str, word: str, look: Callable[[nn.Module], Any], **widths: bool) -> str:
    model = copy.deepcopy(SOURCE)
    change(model)
    try:
        assert_kept(model, look, **widths)
    except CannotNestError as error:
        text = str(error)
        layer = place.split(".")[1] if place.startswith("blocks.") else ""
        named = [place, ".".join(place.split(".")[:2]), f"blocks.{layer}", place.rpartition(".")[0]]
        assert word in text and (not place or any(name and name in text for name in named)), text
        return "refused"
    return "kept"


def each_attribute() -> Iterator[tuple[str, str]]:
    for name, part in PARTS.items():
        for key in attributes(part):
            yield name, key


def test_every_attribute_and_flag_is_kept_or_refused():
    told = {}
    for name, key in each_attribute():

        def change(model: nn.Module, name=name, key=key) -> None:
            setattr(model.get_submodule(name), key, changed(getattr(model.get_submodule(name), key)))

        def look(model: nn.Module, name=name, key=key) -> Any:
            return getattr(model.get_submodule(name), key)

        follows = key in implied_by_shapes(PARTS[name])
        told[name, key] = kept_or_refused(change, name, key, look, widths=follows)
    assert len(told) > 150
    for name, key in [("", "num_heads_of_head"), ("norm", "eps"), ("blocks.1.norm2", "eps"), ("head_drop", "p")]:
        assert told.get((name, key), "kept") == "kept"
    assert told["", "training"] == told["blocks.1.attn", "training"] == told["", "grad_checkpointing"] == "kept"
    assert told["blocks.1.attn", "scale"] == told["patch_embed", "grid_size"] == told["", "embed_dim"] == "refused"


@pytest.mark.parametrize("value", [{"mean": (0.5,), "input_size": (3, 6, 6)}, "text", 3, None, torch.ones(2)], ids=repr)
def test_every_new_attribute_is_kept(value):
    for name in PARTS:

        def change(model: nn.Module, name=name) -> None:
            model.get_submodule(name).added = value

        def look(model: nn.Module, name=name) -> Any:
            added = model.get_submodule(name).added
            return added.tolist() if isinstance(added, Tensor) else added

        if name in ("", "blocks", "blocks.1.attn", "head") or value is None:
            assert kept_or_refused(change, name, "added", look) == "kept"


def test_every_parameter_flag_is_kept():
    for name, _ in SOURCE.named_parameters():

        def change(model: nn.Module, name=name) -> None:
            parameter = model.get_parameter(name).requires_grad_(False)
            parameter.no_decay = True

        def look(model: nn.Module) -> Any:
            return [(n, p.requires_grad, vars(p)) for n, p in model.named_parameters()]

        assert kept_or_refused(change, name, name, look) == "kept"


HOOKS = [
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_state_dict_post_hook",
    "register_state_dict_pre_hook",
    "register_load_state_dict_pre_hook",
    "register_load_state_dict_post_hook",
]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_on_a_part_is_refused(hook):
    for name in PARTS:
        change = lambda model, name=name: getattr(model.get_submodule(name), hook)(lambda *args: None)  # noqa: E731
        assert kept_or_refused(change, name, "hooks", id) == "refused"


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook"])
def test_every_hook_on_a_parameter_is_refused(hook):
    for name, _ in SOURCE.named_parameters():
        change = lambda model, name=name: getattr(model.get_parameter(name), hook)(lambda *args: None)  # noqa: E731
        assert kept_or_refused(change, name, "hook on its gradient", id) == "refused"


def test_every_buffer_parameter_and_part_that_is_added_is_refused():
    for name in PARTS:
        for change in (
            lambda part: part.register_buffer("added", torch.ones(3)),
            lambda part: part.register_parameter("added", nn.Parameter(torch.ones(3))),
            lambda part: part.add_module("added", nn.Linear(2, 2)),
        ):
            where = f"{name}.added" if name else "added"
            whole = lambda model, name=name, change=change: change(model.get_submodule(name))  # noqa: E731
            assert kept_or_refused(whole, where, "added", id) == "refused"


def test_every_part_with_another_forward_is_refused():
    for name, part in PARTS.items():
        kind = type("Other", (type(part),), {"forward": lambda self, *args, **kwargs: args[0]})

        def replaced(model: nn.Module, name=name, kind=kind) -> None:
            model.get_submodule(name).__class__ = kind

        def patched(model: nn.Module, name=name) -> None:
            model.get_submodule(name).forward = lambda x: x

        assert kept_or_refused(patched, name, "forward is replaced", id) == "refused"
        if not name.endswith("mlp.act"):  # any elementwise activation without weights is nested
            assert kept_or_refused(replaced, name, "Other", id) == "refused"


def test_every_activation_is_kept_in_its_layer():
    model = copy.deepcopy(SOURCE)
    model.blocks[0].mlp.act, model.blocks[1].mlp.act = nn.LeakyReLU(0.3, inplace=True), nn.Hardswish()
    assert_kept(model, lambda made: [repr(block.mlp.act) for block in made.blocks])
