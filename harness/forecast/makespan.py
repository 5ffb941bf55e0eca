"""When a plan is done: the engine's order of cells, played with expected seconds."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from harness.plan import Cell


def makespan(todo: Sequence[Cell], seconds: Mapping[str, float], urgency: Mapping[str, int], workers: int) -> float:
    """When the last of ``todo`` ends if each takes its ``seconds``: of the cells whose needs are done the most urgent
    comes first, else the order of the plan. Needs that are not in ``todo`` are there already.
    """
    place = {cell.id: number for number, cell in enumerate(todo)}
    open_needs = {cell.id: sum(need in place for need in cell.needs) for cell in todo}
    users: dict[str, list[str]] = {}
    for cell in todo:
        for need in cell.needs:
            users.setdefault(need, []).append(cell.id)
    ready = [(-urgency[cell], place[cell], cell) for cell, count in open_needs.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, number, cell_id = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[cell_id], number, cell_id))
        now = running[0][0]
        while running and running[0][0] <= now:
            for user in users.get(heapq.heappop(running)[2], ()):
                open_needs[user] -= 1
                if not open_needs[user]:
                    heapq.heappush(ready, (-urgency[user], place[user], user))
    return now
