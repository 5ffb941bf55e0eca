"""What the rules of all methods are tried with: small options for each, a task that watches, a count of what torch
computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from eavit import methods
from eavit.methods import recipe
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.space.product import ProductSpace, uniform_shape
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, plain

BACKBONE = NestedViT.from_timm(plain()).backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
BUDGETS = (0.01, 0.45, 0.7, 1.0)  # the first is below every floor
SHORT = SCHEDULE | {"epochs": 2.0}  # 6 steps of 16 images
SHAPES = {0.45: "e9-h2.2.2-m12x3", 0.7: "e9-h3x3-m18x3", 1.0: "e12-h4x3-m24x3"}
EVALUATIONS = 12
Inside = Callable[[Submodel], bool]


# --- what each method is tried with, and which choices it may give --------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """Small options; ``inside`` says, apart from the method's own code, which submodels it may choose."""

    inside: Inside
    options: Mapping[str, Any] = field(default_factory=dict)
    after: bool = False
    beside: bool = False  # it trains a small net beside the ViT (router, surrogate), whose products no ledger counts
    enough: int = 1500  # full-size forward passes of one image: its largest step is less than 5 % of them


def _all_in(widths: tuple[int, ...], *allowed: int) -> bool:
    return set(widths) <= set(allowed)


def _wide(s: Submodel) -> bool:
    """EA-ViT's space with half of the branches kept."""
    return ProductSpace.eavit(BACKBONE, 0.5).contains(s)


def _plus(s: Submodel) -> bool:
    """Any head count; hidden widths and channels from a few on; half of the branches kept."""
    kept = [sum(map(bool, widths)) for widths in (s.heads, s.mlp)]
    return s.embed >= 3 and min(kept) >= 2 and min(m for m in s.mlp if m) >= 3


def _tied(s: Submodel) -> bool:
    return s in {Submodel(3 * k, (k,) * 3, (6 * k,) * 3) for k in (1, 2, 3, 4)}


def _matformer(s: Submodel) -> bool:
    return s.embed == 12 and _all_in(s.heads, 4) and _all_in(s.mlp, 24, 12, 6, 3) and list(s.mlp) == sorted(s.mlp)


def _dynabert(s: Submodel) -> bool:
    on = [(h, m) for h, m in zip(s.heads, s.mlp, strict=True) if h or m]
    return s.embed == 12 and len(set(on)) == 1 and on[0] in {(4, 24), (3, 18), (2, 12), (1, 6)} and len(on) >= 2


def _first_layers(s: Submodel) -> bool:
    """Widths from a half up, whole layers, and none after one that is missing."""
    on = [bool(h) for h in s.heads]
    whole = on == [bool(m) for m in s.mlp] == sorted(on, reverse=True)
    return whole and s.embed in (6, 9, 12) and _all_in(s.heads, 0, 2, 3, 4)


def _flextron(s: Submodel) -> bool:
    return s.embed == 12 and _all_in(s.heads, 1, 2, 3, 4) and _all_in(s.mlp, 6, 12, 18, 24)


def _pruned_by_rank(s: Submodel) -> bool:
    return s.embed == 12 and min(s.heads) >= 1 and min(s.mlp) >= 1 and sum(s.heads) >= sum(s.mlp) / 6


def _given(s: Submodel) -> bool:
    return s in {Submodel.parse(text) for text in SHAPES.values()}


def _uniform(s: Submodel) -> bool:
    return len(set(s.heads)) == len(set(s.mlp)) == 1


@cache
def _tiny_file() -> str:
    """Weights of a smaller ViT than the backbone, as its own pretraining would have left them."""
    path = Path(mkdtemp(prefix="eavit-tests-")) / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        save_file(timm_vit_random().state_dict(), path)
    return str(path)


BUILD = {"patch_size": 2, "depth": 2, "embed_dim": 8, "num_heads": 2, "mlp_ratio": 2.0}
TAG = "vit_tiny_patch16_224"


def timm_vit_random() -> Any:
    import timm

    return timm.create_model(TAG, img_size=4, in_chans=1, num_classes=0, **BUILD)


def _own() -> dict[str, Any]:
    return {"models": [TAG], "files": {TAG: _tiny_file()}, "build": BUILD}


SEARCH = {"search": {"population": 8, "generations": 2}}
FEW = {"evaluations": EVALUATIONS}
METHODS: dict[str, Tried] = {
    "autoformer": Tried(_first_layers, FEW),
    "dynabert": Tried(_dynabert, enough=8000),
    "ea_vit": Tried(_wide, SEARCH, beside=True),
    "ea_vit_plus": Tried(_plus, {"shapes": {"population": 4, "generations": 1}}, beside=True),  # it turns weights, too
    "ea_vit_published": Tried(_wide, SEARCH, beside=True),
    "fixed_random_start": Tried(_given, after=True),
    "fixed_same_shape": Tried(_given, after=True),
    "fixed_uniform": Tried(lambda s: s in {uniform_shape(BACKBONE, b) for b in BUDGETS}),
    "flextron": Tried(_flextron, beside=True),
    "hydravit": Tried(_tied),
    "matformer": Tried(_matformer, enough=2500),
    "ofa": Tried(
        _first_layers, FEW | {"select": "random"}, enough=4000
    ),  # its predictor takes its time: see its own test
    "own_pretraining": Tried(lambda s: str(s) == "e8-h2x2-m16x2"),
    "pruned": Tried(_uniform, {"round_to": 1}),
    "sandwich": Tried(lambda s: ProductSpace.eavit(BACKBONE).contains(s), FEW),
    "scala": Tried(_tied),
    "selected": Tried(_wide, FEW | {"selector": "random"}, beside=True),  # looks at its choices once more, uncharged
    "slice_untrained": Tried(_wide, SEARCH),
    "snapvit": Tried(_pruned_by_rank, {"images": 16, "local_crops": 2, "search": {"evaluations": 9, "images": 12}}),
    "sortednet": Tried(_tied),
    "trained_alone": Tried(_given, after=True, beside=True),
}


def made(name: str, **more: Any) -> recipe.Recipe:
    if name not in METHODS:
        pytest.fail(f"eavit.methods has {name!r}, which conforming.METHODS lacks: say how it is tried")
    own = _own() if name == "own_pretraining" else {}
    built: recipe.Recipe = getattr(methods, name)(**(dict(METHODS[name].options) | own | more))
    return built


# --- a task that watches -------------------------------------------------------------------------------------------


class Books:
    """A ledger that refuses what the bench's refuses: spending outside a phase, phases in phases, no name."""

    def __init__(self) -> None:
        self.phases: dict[str, list[float]] = {}
        self.open: str | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        assert self.open is None and name and isinstance(name, str), f"{name!r} in {self.open!r}"
        self.open = name
        self.phases.setdefault(name, [0.0, 0.0, 0, 0])
        try:
            yield
        finally:
            self.open = None

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        assert self.open is not None, "spent outside a phase"
        spent = (forward_macs, backward_macs, images, steps)
        assert min(spent) >= 0
        self.phases[self.open] = [a + b for a, b in zip(self.phases[self.open], spent, strict=True)]

    @property
    def macs(self) -> float:
        return sum(forward + backward for forward, backward, *_ in self.phases.values())


class Poison:
    """The test split, if a method reached for it under any name."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the method touched the test split: {name}")


@dataclass
class Watched(TinyTask):
    fit: Any = field(default_factory=partial(Blobs, 48))
    select_a: Any = field(default_factory=lambda: Blobs(12, 1))
    select_b: Any = field(default_factory=lambda: Blobs(12, 2))
    budgets: tuple[float, ...] = BUDGETS
    schedule: Mapping[str, Any] = field(default_factory=lambda: SHORT)
    ledger: Any = field(default_factory=Books)
    full_macs: int = FULL
    test: Any = field(default_factory=Poison)
    told: dict[str, int] = field(default_factory=dict)  # phase -> the most that its progress said

    def progress(self, phase: str, done: int, total: int) -> None:
        self.told[phase] = max(self.told.get(phase, 0), total)
        super().progress(phase, done, total)


def task(folder: Path, name: str, **changes: Any) -> Watched:
    folder.mkdir(exist_ok=True)
    return Watched(folder, given={"other": SHAPES} if METHODS[name].after else {}, **changes)


@dataclass(frozen=True)
class Answers:
    keys: tuple[str | None, ...]
    digest: str  # of all deployed weights
    books: dict[str, list[float]]


class Counter(TorchDispatchMode):
    """MACs of all that torch computes, by its own table; lighter than its FlopCounterMode, which hooks every module."""

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket not in flop_registry:
            with self:  # a product may be inside, where inference mode has left it whole
                out = func.decompose(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out

    @property
    def macs(self) -> int:
        return self.flops // 2


def counted(module: Any) -> int:
    """MACs of one image."""
    with Counter() as counter:
        module(torch.zeros(1, 1, 4, 4))
    return counter.macs


@torch.no_grad()
def answers(adapted: Any, books: Books) -> Answers:
    chosen, digest = [adapted.select(b) for b in BUDGETS], sha256()
    for choice in chosen:
        if choice is not None:
            for key, value in sorted(adapted.module(choice).state_dict().items()):
                digest.update(key.encode() + value.numpy().tobytes())
    return Answers(tuple(None if c is None else str(c) for c in chosen), digest.hexdigest(), books.phases)
