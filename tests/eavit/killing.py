"""What children of the tests of faults run: one adaptation, killed by a real SIGKILL at a point, or let through."""

import json
import os
import signal
from multiprocessing import get_context
from pathlib import Path

SEARCH = {"search": {"population": 6, "generations": 1}}
BUDGETS = (0.05, 0.4, 0.7, 1.0)


def context():
    """Children forked from a process that has imported everything and done nothing."""
    made = get_context("forkserver")
    made.set_forkserver_preload(["eavit.methods", "tests.eavit.small"])
    return made


def adapt(folder: str, phase: str, at: int) -> None:
    """``phase`` may be ``<phase>`` (killed when it reports step ``at``), ``rename`` (between the ``at``-th temporary
    file and its place), ``evaluation`` (in the ``at``-th one) or empty.
    """
    import torch

    from eavit import methods
    from eavit.methods import fitness
    from eavit.training import allocation, checkpoint, scores
    from tests.eavit.small import SCHEDULE, Blobs, TinyTask

    torch.set_num_threads(1)
    left = {"rename": at, "evaluation": at}

    def killing(kind, function):
        def call(*args, **kwargs):
            left[kind] -= 1
            if phase == kind and left[kind] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    class Task(TinyTask):
        def progress(self, now: str, done: int, total: int) -> None:
            if (now, done) == (phase, at):
                os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.os.replace = killing("rename", os.replace)
    fitness.score_on = killing("evaluation", scores.score_on)
    allocation.Saving = lambda path: checkpoint.Saving(path, seconds=0)
    out = Path(folder)
    task = Task(out, schedule=SCHEDULE | {"epochs": 3.0})
    adapted = methods.ea_vit(**SEARCH).adapt(task)
    checkpoint.save_tensors(out / "weights", adapted.vit.state_dict(), {})
    x = next(Blobs(8, 5).batches(8))[0]
    chosen = [adapted.select(b) for b in BUDGETS]
    with torch.no_grad():
        logits = [None if c is None else adapted.module(c)(x).flatten().tolist() for c in chosen]
    told = {"choices": [str(c) for c in chosen], "logits": logits, "report": adapted.report()}
    account = {name: getattr(task.ledger, name) for name in ("forward_macs", "backward_macs", "images", "steps")}
    (out / "answers.json").write_text(json.dumps(told | {"ledger": account, "evaluated": -left["evaluation"]}))


def share_a_fit(rank: int, world: int, folder: str) -> None:
    """One of several gloo processes: the fits of ``training/test_distributed.py``, parameters kept by rank."""
    import torch

    from tests.eavit.training.test_distributed import everything

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    everything(Path(folder) / f"of{world}-{rank}")
    torch.distributed.destroy_process_group()
