"""Switch sizes at run time: a server that sheds load by shrinking, and grows again when the queue is short.

    python examples/switch_at_run_time.py [FAMILY]

One set of weights answers in every size: nothing is copied between two calls. Of a saved family the smallest size
is read first, and another one reads what it adds when it is first needed.
"""

from __future__ import annotations

import sys
import time
from collections import deque

import torch
from digits import loaders

import eavit
from eavit.weights import pico_letters

BUDGETS = (0.2, 0.4, 0.6, 0.8, 1.0)
FULL_QUEUE = 40  # requests that wait


def budget_for(waiting: int) -> float:
    """The largest budget when nobody waits, the smallest when the queue is full."""
    return BUDGETS[round((len(BUDGETS) - 1) * (1 - min(1.0, waiting / FULL_QUEUE)))]


def family() -> eavit.ElasticModel:
    """The family that the command line names, or a quickly trained one."""
    if len(sys.argv) > 1:
        return eavit.load(sys.argv[1], budget=BUDGETS[0])
    train, val = loaders()
    return eavit.adapt(pico_letters(10), train, val, BUDGETS, epochs=3, method="hydravit")


def main() -> None:
    elastic = family()
    budgets = [b for b in BUDGETS if elastic.accuracy.get(b) is not None]
    _, val = loaders()
    requests = torch.cat([images for images, _ in val])[:200].split(1)
    queue: deque[torch.Tensor] = deque()
    arrivals = iter(requests)
    served = dict.fromkeys(budgets, 0)
    seconds = dict.fromkeys(budgets, 0.0)
    for tick in range(400):
        for _ in range(3 if tick < 40 else 0 if tick < 80 else 1):  # a burst, a pause, then a steady stream
            if (request := next(arrivals, None)) is not None:
                queue.append(request)
        if not queue:
            continue
        wanted = budget_for(len(queue))
        budget = max((b for b in budgets if b <= wanted), default=budgets[0])
        start = time.perf_counter()
        elastic(queue.popleft(), budget=budget)
        seconds[budget] += time.perf_counter() - start
        served[budget] += 1
    for budget, count in served.items():
        each = 1e3 * seconds[budget] / max(1, count)
        print(f"budget {budget:g}: {count} requests, {each:.2f} ms each, accuracy {elastic.accuracy[budget]:.1%}")
    if sum(served.values()) != len(requests) or len({b for b, n in served.items() if n}) < 2:
        raise SystemExit("the server should have answered all requests, in several sizes")


if __name__ == "__main__":
    main()
