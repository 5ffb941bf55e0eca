"""Two real gloo processes against one: equal parameters on both to the bit, and one process's to rounding."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from eavit.methods.fitness import FrontSearch, Search
from eavit.model.submodel import Submodel
from eavit.selection.router import Router, Routing, route_frozen, route_jointly
from eavit.space.product import ProductSpace
from eavit.training import distributed
from eavit.training.checkpoint import Saving, load_tensors, save_tensors
from eavit.training.distributed import OutOfStepError, Share, from_main, rank, same_start, world
from eavit.training.passes import TEACHER, Pass, plain, terms_of
from eavit.training.samplers import Curriculum, Sandwich
from eavit.training.task import Spent
from eavit.training.train import Fit, Group, fit, schedule_of
from tests.eavit.killing import context, share_a_fit
from tests.eavit.selection.searched import spread_front
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, tiny

FULL, RESTING = Submodel(12, (4, 4, 4), (24, 24, 24)), Submodel(12, (4, 0, 2), (12, 0, 12))
DEEP, NARROW = Submodel(9, (0, 2, 0), (0, 12, 0)), Submodel(6, (2, 0, 0), (6, 0, 0))
TABLE = schedule_of(SCHEDULE | {"batch": 15, "drop_path": 0.0})


class Doubled(Blobs):
    def batches(self, size, *, seed=None, epoch=0):
        return ((x.double(), y) for x, y in super().batches(size, seed=seed, epoch=epoch))


def many(progress, rng):
    """Layers rest in different passes, the last one is not the largest; teacher, in place, tail, five micro-batches."""
    return (
        Pass(DEEP),
        Pass(FULL, smoothed=False),
        Pass(RESTING, hard=0.5, soft=1, source=1, features=0.1),
        Pass(NARROW, hard=0, soft=1, source=TEACHER, tail=True),
        *(Pass(Submodel(int(rng.integers(6, 13)), (2, 0, 1), (6, 0, i)), 0.2, part=(i, 5)) for i in range(5)),
        Pass(RESTING, hard=0.3, part=(0, 15)),  # one image: a process without a row of it
    )


def trained(plan, folder, name, steps=4, split=None, model=None):
    """A fit of a float64 model; its parameters and the losses of this process's shares, weighted."""
    model, losses, ledger = model or tiny().double(), [], Spent()
    inner = terms_of(model, plan, 0.1, tiny(seed=1).double().eval().requires_grad_(False))

    def terms(*given):
        for term in inner(*given):
            rows, whole = given[-1].share.part(term.part)
            losses.append(0.0 if term.loss is None else term.loss.item() * (rows.stop - rows.start) / whole)
            yield term

    run = Fit(split or Doubled(), TABLE, 3, steps, Saving(folder / f"{name}.safetensors"), ledger, phase=name)
    fit(model, terms, [Group(model, 3e-3, 1e-4, 0.05)], run)
    books = [ledger.forward_macs, ledger.backward_macs, ledger.images, ledger.steps]
    return dict(model.state_dict()), {f"{name} losses": losses, f"{name} books": books}


def routed(folder):
    vit = tiny().double()
    space = ProductSpace.eavit(vit.backbone, 0.5)
    router, points = Router(space).double(), spread_front(space)
    warm, joint = (
        Fit(Doubled(), TABLE, 3, n, Saving(folder / f"{p}.safetensors"), phase=p)
        for p, n in (("warm", 2), ("joint", 3))
    )
    route_frozen(vit, router, points, Routing(), warm)
    route_jointly(vit, router, points, Routing(), joint)
    return {f"vit.{k}": v for k, v in vit.state_dict().items()} | {
        f"router.{k}": v for k, v in router.state_dict().items()
    }


def refused(kind, make):
    try:
        make()
    except (OutOfStepError, FloatingPointError) as error:
        return f"{kind}: {type(error).__name__}"
    return f"{kind}: went through"


def everything(own: Path) -> None:
    """What each process does; all of them share the folder above ``own`` for checkpoints."""
    shared = own.parent / f"of{world()}"
    shared.mkdir(exist_ok=True)
    space = ProductSpace.eavit(tiny().backbone, 0.5)
    model = tiny(seed=rank()).double()  # not the same start, unless somebody sees to it
    same_start(model)
    state, said = trained(plain(Curriculum(space, starts=(0.2, 0.4, 0.6))), shared, "stage1", model=model)
    tensors = {f"stage1.{k}": v for k, v in state.items()}
    for name, plan in {"many": many, "resting": lambda *_: (Pass(RESTING), Pass(NARROW))}.items():
        state, more = trained(plan, shared, name)
        tensors |= {f"{name}.{k}": v for k, v in state.items()}
        said |= more
    tensors |= {f"routed.{k}": v for k, v in routed(shared).items()}
    task = TinyTask(shared, select_a=Doubled(24, 1), select_b=Doubled(24, 2))
    front, _ = FrontSearch(Search(4, 1)).run(task, model, space)
    said["front"] = [[str(p.submodel), p.fitness] for p in front.points]
    said["search"] = task.ledger.forward_macs
    said["told"] = from_main(lambda: {"rank": rank(), "x": 1 / 3})
    by_rank = lambda *_: (Pass((FULL, RESTING)[rank()]),)  # noqa: E731
    said["other draws"] = refused("draws", partial(trained, by_rank, shared, "draws", 1))
    said["nan"] = refused(
        "nan", partial(trained, plain(Sandwich(space)), shared, "nan", 1, split=Doubled(15, 0, poison=2))
    )
    save_tensors(own.with_suffix(".safetensors"), tensors, {})
    own.with_suffix(".json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process here, two elsewhere."""
    folder = tmp_path_factory.mktemp("fits")
    made = context()
    children = [made.Process(target=share_a_fit, args=(place, 2, str(folder))) for place in range(2)]
    for child in children:
        child.start()
    everything(folder / "of1-0")
    for child in children:
        child.join(100)
    assert [child.exitcode for child in children] == [0, 0]
    names = ("of1-0", "of2-0", "of2-1")
    return [
        (load_tensors(folder / f"{n}.safetensors")[0], json.loads((folder / f"{n}.json").read_text())) for n in names
    ]


def test_parameters_are_equal_on_both_and_to_one_process(runs):
    (alone, _), (first, _), (second, _) = runs
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        assert torch.allclose(first[key], value, rtol=0, atol=1e-9), key
    assert not torch.equal(alone["many.head.weight"], tiny().double().head.weight)


def test_losses_add_up_to_one_processs(runs):
    (_, alone), (_, first), (_, second) = runs
    for name in ("stage1", "many", "resting"):
        both = [a + b for a, b in zip(first[f"{name} losses"], second[f"{name} losses"], strict=True)]
        assert both == pytest.approx(alone[f"{name} losses"], abs=1e-9)
        assert alone[f"{name} books"] == first[f"{name} books"] == second[f"{name} books"]


def test_a_process_may_have_no_row_of_a_micro_batch(runs):
    """The teacher's turn has no loss of its own; the second process has no share of the last pass either."""
    alone, second = [runs[i][1]["many losses"].count(0.0) for i in (0, 2)]
    assert second >= alone + 4


def test_what_no_pass_used_stays_as_it_was(runs):
    """Weight decay would move it if it had a gradient, even one of zeros."""
    start = tiny().double().state_dict()
    resting = [key for key in start if key.startswith("blocks.1.")]
    for tensors, _ in runs:
        assert resting and all(torch.equal(tensors[f"resting.{key}"], start[key]) for key in resting)
        assert not torch.equal(tensors["resting.blocks.0.mlp.fc1.weight"], start["blocks.0.mlp.fc1.weight"])


def test_a_search_finds_the_same_everywhere(runs):
    (_, alone), (_, first), (_, second) = runs
    assert first["front"] == second["front"] and first["search"] == second["search"] == alone["search"]
    assert len(first["front"]) > 0 and [s for s, _ in first["front"]] == [s for s, _ in alone["front"]]
    assert first["told"] == second["told"] == {"rank": 0, "x": 1 / 3}


def test_other_draws_and_a_loss_that_is_not_finite_stop_all(runs):
    (_, alone), *both = runs
    assert alone["other draws"] == "draws: went through" and alone["nan"] == "nan: FloatingPointError"
    for _, said in both:
        assert said["other draws"] == "draws: OutOfStepError"
        assert said["nan"] == "nan: FloatingPointError"


def test_a_world_of_one():
    assert (rank(), world(), distributed.is_main()) == (0, 1, True)
    share = Share.of(10)
    assert share == Share(0, 10, 10) and share.part((1, 3)) == (slice(3, 6), 3)
    assert from_main(lambda: "x") == "x"


def test_shares_and_micro_batches_are_contiguous_and_cover_all():
    for whole in (5, 16, 17):
        for count in (1, 2, 3, 5):
            shares = [Share(r * whole // 3, (r + 1) * whole // 3, whole) for r in range(3)]
            assert [row for s in shares for row in range(whole)[s.rows]] == list(range(whole))
            seen = []
            for i in range(count):
                pieces = [(s, *s.part((i, count))) for s in shares]
                rows = [row for s, piece, _ in pieces for row in range(whole)[s.rows][piece]]
                assert len(rows) == pieces[0][2]
                seen += rows
            assert seen == list(range(whole))


def test_a_batch_smaller_than_the_world_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 4)
    with pytest.raises(ValueError, match="batch of 3 cannot be shared by 4 processes"):
        Share.of(3)


@pytest.mark.parametrize("size", [0, 1, 4, 11, 12])
def test_pieces_of_a_share_are_its_rows(size):
    share = Share(5, 16, 30)
    pieces = share.pieces(size)
    assert [row for piece in pieces for row in range(piece.start, piece.stop)] == list(range(5, 16))
    assert {piece.whole for piece in pieces} == {30}
    assert len(pieces) == (1 if not size else -(-11 // size)) and max(p.stop - p.start for p in pieces) <= (size or 11)
