"""What every trained family must obey, on a tiny task: used by the tests of single methods."""

import json

import torch

from eavit.model import cost
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, tiny

BACKBONE = tiny().backbone
FULL = cost.macs(BACKBONE, BACKBONE.full)
SHORT = SCHEDULE | {"epochs": 2.0}


def task_in(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    return TinyTask(folder, **({"schedule": SHORT} | changes))


def spent(task):
    return task.ledger.forward_macs + task.ledger.backward_macs


def answers(adapted, budgets):
    """Keys and logits of all choices."""
    x = next(Blobs(8, 5).batches(8))[0]
    chosen = [adapted.select(b) for b in budgets]
    with torch.no_grad():
        return [None if c is None else (str(c), adapted.module(c)(x)) for c in chosen]


def same(a, b):
    return all((p is q is None) or (p[0] == q[0] and torch.equal(p[1], q[1])) for p, q in zip(a, b, strict=True))


def obeys(method, folder, **changes):
    """Adapts twice with one seed and once killed in between; returns the first answer."""
    tasks = [task_in(folder / name, **changes) for name in ("first", "second", "killed")]
    first, second = (method.adapt(task) for task in tasks[:2])
    budgets = tasks[0].budgets
    wanted = answers(first, budgets)
    assert same(wanted, answers(second, budgets))
    tasks[2].stop_at = ("train", 3)
    try:
        method.adapt(tasks[2])
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("the training was not interrupted")
    again = task_in(folder / "killed", **changes)
    assert same(wanted, answers(method.adapt(again), budgets))
    assert tasks[0].ledger == tasks[1].ledger == again.ledger
    x = next(Blobs(8, 5).batches(8))[0]
    for budget in budgets:
        choice = first.select(budget)
        assert choice is None or cost.macs(BACKBONE, choice) <= budget * FULL
        if choice is not None:
            with torch.no_grad():
                assert torch.allclose(first.module(choice)(x), first.vit(x, choice), atol=1e-5)
    report = json.loads(json.dumps(first.report()))
    assert {"weights", "evaluations", "coverage"} <= set(report) and len(json.dumps(report)) < 8000
    return first


def ends_on_its_macs(method, folder, fulls=3000.0, least=0.95):
    """Regime equal MACs: within 5 % of what the method may spend, here never above it."""
    task = task_in(folder, train_macs=fulls * FULL)
    adapted = method.adapt(task)
    assert least * task.train_macs < spent(task) <= 1.05 * task.train_macs, spent(task) / task.train_macs
    return adapted
