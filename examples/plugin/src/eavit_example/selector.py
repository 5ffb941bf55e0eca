"""Selector: a path of small steps from the largest member to the smallest, without any measurement."""

from __future__ import annotations

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.selection.selectors import Problem, Selection, Selector


def small_steps() -> Selector:
    """Each step is the one that saves the fewest MACs; a budget gets the first member of the path within it."""

    def select(problem: Problem) -> Selection:
        space, backbone = problem.space, problem.space.backbone
        path = [space.largest]
        while narrower := list(space.narrower(path[-1])):
            path.append(max(narrower, key=lambda member: (cost.macs(backbone, member), str(member))))
        shares = {member: cost.share(backbone, member) for member in path}

        def choose(budget: float) -> Submodel | None:
            return next((member for member in path if shares[member] <= budget), None)

        return Selection(choose, evaluations=0)

    return select
