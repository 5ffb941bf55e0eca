"""Selectors for tests, as another package would have them: good ones, and each way to break a rule."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from eavit.model import cost
from eavit.selection.selectors import Problem, Selection, Selector

NUMBER = 5


def smallest() -> Selector:
    """The smallest member, wherever it fits."""

    def select(problem: Problem) -> Selection:
        space = problem.space
        share = cost.share(space.backbone, space.smallest)
        return Selection(lambda budget: space.smallest if share <= budget else None, 0)

    return select


def measured_twice(evaluations: int = 8) -> Selector:
    """The smallest member after it was measured on both folds, and reported as nothing."""

    def select(problem: Problem) -> Selection:
        for _ in range(3):
            problem.fitness(problem.space.smallest)
            problem.recheck(problem.space.smallest)
        return smallest()(problem)

    return select


def by_scores() -> Selector:
    def select(problem: Problem) -> Selection:
        if problem.scores is None:
            raise ValueError("no scores")
        return smallest()(problem)

    return select


by_scores.needs_scores = True  # type: ignore[attr-defined]


def too_many(evaluations: int = 8) -> Selector:
    def select(problem: Problem) -> Selection:
        rng = np.random.default_rng(0)
        for _ in range(20 * evaluations):
            problem.fitness(problem.space.sample(rng))
        return smallest()(problem)

    return select


def measures_unasked() -> Selector:
    def select(problem: Problem) -> Selection:
        problem.fitness(problem.space.largest)
        return smallest()(problem)

    return select


def over_budget() -> Selector:
    return lambda problem: Selection(lambda budget: problem.space.largest, 0)


def never() -> Selector:
    return lambda problem: Selection(lambda budget: None, 0)


def drawn() -> Selector:
    def select(problem: Problem) -> Selection:
        space, rng = problem.space, np.random.default_rng(random.randrange(10**9))
        members = [space.smallest, *(space.sample(rng) for _ in range(6))]
        shares = {member: cost.share(space.backbone, member) for member in members}
        return Selection(
            lambda budget: max((m for m in members if shares[m] <= budget), key=shares.get, default=None), 0
        )

    return select


def reads_a_file() -> Selector:
    def select(problem: Problem) -> Selection:
        Path(__file__).parents[3].joinpath("README.md").read_text(encoding="utf-8")
        return smallest()(problem)

    return select


def fails() -> Selector:
    return lambda problem: Selection(lambda budget: None, 1 // 0)


def gives_nothing() -> Selector:
    return lambda problem: None  # type: ignore[arg-type, return-value]


def makes_nothing() -> Selector:
    return None  # type: ignore[return-value]


def needy(depth: int) -> Selector: ...
