"""The rules of every method, on a tiny set: whatever ``eavit.methods`` names is tried here, in both regimes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from hashlib import sha256
from inspect import signature
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from eavit import cost, methods, recipe
from eavit.card import Card
from eavit.checkpoint import Saving
from eavit.methods.fixed import own_pretraining
from eavit.methods.pruned import pruned
from eavit.space import Space, uniform_shape
from eavit.submodel import Submodel
from eavit.vit import NestedViT
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
    enough: int = 1500  # full-size forward passes of one image: a step of its dearest plan is less than 5 % of them


def _all_in(widths: tuple[int, ...], *allowed: int) -> bool:
    return set(widths) <= set(allowed)


def _wide(s: Submodel) -> bool:
    """EA-ViT's space with half of the branches kept."""
    return Space.eavit(BACKBONE, 0.5).contains(s)


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


SEARCH = {"population": 8, "generations": 2}
FEW = {"evaluations": EVALUATIONS}
METHODS: dict[str, Tried] = {
    "autoformer": Tried(_first_layers, FEW),
    "dynabert": Tried(_dynabert, enough=8000),
    "ea_vit": Tried(_wide, SEARCH, beside=True),
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
    "sandwich": Tried(lambda s: Space.eavit(BACKBONE).contains(s), FEW),
    "scala": Tried(_tied),
    "selected": Tried(_wide, FEW | {"selector": "random"}, beside=True),  # looks at its choices once more, uncharged
    "slice_untrained": Tried(_wide, SEARCH),
    "sortednet": Tried(_tied),
    "trained_alone": Tried(_given, after=True, beside=True),
}


def made(name: str, **more: Any) -> recipe.Recipe:
    if name not in METHODS:
        pytest.fail(f"eavit.methods has {name!r}, which METHODS in this file lacks: say how it is tried")
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
    train_macs: float | None = None
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


@dataclass(frozen=True)
class Ran:
    task: Watched
    adapted: Any
    answers: Answers
    macs: int | None  # that torch counted while it ran


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """The undisturbed run of a method, once for all tests of this file."""

    @cache
    def run(name: str) -> Ran:
        own = task(tmp_path_factory.mktemp("straight"), name)
        if METHODS[name].beside:
            adapted, macs = made(name).adapt(own), None
        else:
            with Counter() as counter:
                adapted = made(name).adapt(own)
            macs = counter.macs
        return Ran(own, adapted, answers(adapted, own.ledger), macs)

    return run


every = pytest.mark.parametrize("name", methods.__all__)


# --- the rules -----------------------------------------------------------------------------------------------------


@every
def test_choices_are_members_fit_their_budget_and_are_what_is_deployed(name, ran):
    run, x = ran(name), next(Blobs(8, 5).batches(8))[0]
    assert any(key is not None for key in run.answers.keys)
    assert run.adapted.select(BUDGETS[0]) is None
    for budget in BUDGETS:
        choice = run.adapted.select(budget)
        if choice is None:
            continue
        widths = choice if isinstance(choice, Submodel) else getattr(choice, "widths", choice)
        module = run.adapted.module(choice)
        assert METHODS[name].inside(widths), f"{choice} is no member"
        assert counted(module) <= budget * FULL * (1 + 1e-9)
        assert not module.training and str(choice) == str(choice).strip() != ""
        with torch.no_grad():
            assert module(x).shape == (8, 3)
            if isinstance(choice, Submodel) and hasattr(run.adapted, "vit"):
                assert counted(module) == cost.macs(BACKBONE, choice)
                assert torch.allclose(module(x), run.adapted.vit(x, choice), atol=1e-5)


@every
def test_it_is_called_as_it_is_named_and_its_report_is_small_json(name, ran):
    assert made(name).name == name
    told = json.dumps(dict(ran(name).adapted.report()))
    assert len(told) < 20_000


@every
def test_the_ledger_holds_what_was_computed(name, ran):
    """Torch counts each product as it happens, the ledger by formula. The formula has a backward pass cost two forward
    passes, and one through the patches costs less; a pass that nobody paid for would be far more than that.
    """
    run = ran(name)
    assert run.task.ledger.macs > 0 and all(run.task.ledger.phases)
    assert run.macs is None or 0.9 < run.task.ledger.macs / run.macs < 1.15, run.task.ledger.phases


@every
def test_killed_again_and_again_it_ends_as_if_undisturbed(name, ran, tmp_path, monkeypatch):
    """Stopped once in each phase that it tells of, then left alone: equal seeds, equal choices, weights and books."""
    monkeypatch.setattr(recipe, "Saving", lambda path: Saving(path, 0.0))  # a checkpoint after every step
    stops = {phase: max(1, most // 2) for phase, most in ran(name).task.told.items()}
    assert stops
    for stop in stops.items():
        with pytest.raises(KeyboardInterrupt):
            made(name).adapt(task(tmp_path, name, stop_at=stop))
    again = task(tmp_path, name)
    assert answers(made(name).adapt(again), again.ledger) == ran(name).answers


@every
def test_equal_macs_are_spent_to_five_per_cent(name, tmp_path):
    allowance = float(METHODS[name].enough * FULL)
    own = task(tmp_path, name, train_macs=allowance)
    made(name).adapt(own)
    trains = any(steps for *_, steps in own.ledger.phases.values())
    share = own.ledger.macs / allowance
    assert share <= 1.05 and (share >= 0.95 or not trains)


@every
def test_equal_steps_are_the_schedule_s_whatever_a_step_costs(name, ran):
    """Of the family, or of each model that is trained alone."""
    steps = sum(steps for *_, steps in ran(name).task.ledger.phases.values())
    keys = set(filter(None, ran(name).answers.keys)) if name != "trained_alone" else set(SHAPES.values())
    assert steps in (0, 6, 6 * len(keys))  # trained_alone trains all that it is given, whichever it answers with


@every
def test_the_card_is_complete(name):
    about = made(name).about
    assert isinstance(about, Card), f"{name} has no card"
    for part in ("title", "paper", "code", "elastic", "step", "distillation", "selection"):
        text = getattr(about, part)
        assert isinstance(text, str) and text.strip(), f"{name}: card.{part} is empty"
    assert about.parameters and about.ours
    assert about.deviations or about.paper.startswith("none"), "a published method has deviations, and they are told"
    for parameter, (value, source) in about.parameters.items():
        assert source in ("paper", "code", "ours"), f"{name}: {parameter} = {value} says {source!r}"
    assert set(json.loads(json.dumps(made(name).card))) == set(asdict(about))


@every
def test_options_are_plain_and_wrong_ones_are_named(name):
    known = signature(getattr(methods, name)).parameters
    json.dumps([list(p.default) if isinstance(p.default, tuple) else p.default for p in known.values()])
    for option in ("importance", "select", "nesting"):
        if option in known:
            with pytest.raises(ValueError, match=rf"option {option}='tailor' is unknown; allowed: "):
                made(name, **{option: "tailor"})


@every
def test_every_way_to_select_and_to_nest_is_offered_where_the_family_is_searched(name, ran):
    known = signature(getattr(methods, name)).parameters
    shared = isinstance(ran(name).adapted, recipe.Elastic)
    choice = "selector" if name == "selected" else "select"
    assert not shared or {choice, "nesting", "importance"} <= set(known), f"{name} takes only {list(known)}"


@every
def test_a_loss_that_is_not_finite_is_told(name, tmp_path):
    with pytest.raises((FloatingPointError, ValueError), match="(?i)nan|finite"):
        made(name).adapt(task(tmp_path, name, fit=Blobs(48, poison=3)))


def test_the_table_of_this_file_is_not_ahead_of_the_package():
    """Every method of this file is importable, so that a name that was dropped is dropped here too."""
    assert {"pruned": pruned, "own_pretraining": own_pretraining}.keys() <= METHODS.keys()
    assert set(methods.__all__) <= METHODS.keys()
    assert list(methods.__all__) == sorted(set(methods.__all__))


def test_inside_is_a_real_question():
    """The answers of the table differ from method to method."""
    every_size = [
        Submodel(e, (h,) * 3, (m, m, n)) for e, h, m, n in product((5, 6, 12), (2, 4), (3, 12, 24), (0, 3, 12, 24))
    ]
    assert {name for name, tried in METHODS.items() if all(map(tried.inside, every_size))} == set()
