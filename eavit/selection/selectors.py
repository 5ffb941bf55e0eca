"""Selectors: from fixed trained weights, seen through callables alone, to a policy (budget -> submodel).

The law for all: choices are members of the space, never above the budget, None where the selector's cheapest member is
above it, equal for equal seeds; the evaluations (distinct submodels on either fold) are reported and at most the
declared limit, so that a bake-off can give all the same. ``SELECTORS`` is the table; :func:`nest_choices` makes a
chain of any.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from eavit.model import cost
from eavit.model.cost import Measure
from eavit.model.importance import Scores
from eavit.model.submodel import Submodel
from eavit.selection import search
from eavit.selection.chains import best_chain, macs_of_step, shrunk_chain
from eavit.selection.evolution import AUTOFORMER, OFA, Rules, draw_new, draw_under, evolve
from eavit.selection.front import Candidate, Fitness, Front
from eavit.selection.predictor import Predictor, rank_agreement
from eavit.selection.shapes import greedy_path, importance_per_size, mixes, uniforms
from eavit.space.space import Space
from eavit.training.task import Progress, silent

Policy = Callable[[float], Submodel | None]
EVALUATIONS = 600  # the common limit, unless a suite says otherwise
DENSE = 33  # budgets that a monotone policy looks at


@dataclass(frozen=True, slots=True)
class Problem:
    """Inputs of a selector: a space, top-1 on the two folds of the select split, and the budgets to serve."""

    space: Space
    fitness: Fitness  # fold A
    recheck: Fitness  # fold B
    budgets: tuple[float, ...]
    seed: int
    scores: Scores | None = None  # of the units in the order of the trained weights
    progress: Progress = silent

    @property
    def reachable(self) -> tuple[float, ...]:
        """Budgets that some member fits, ascending."""
        least = cost.share(self.space.backbone, self.space.smallest)
        return tuple(b for b in sorted(set(self.budgets)) if b >= least)

    @property
    def rng(self) -> np.random.Generator:
        """A new generator of the seed: each read starts the same draws again."""
        return np.random.default_rng([self.seed, 4])


@dataclass(frozen=True, slots=True)
class Selection:
    """Answer of a selector: its policy, the evaluations on both folds, findings for the record (plain values), and the
    points that it measured on fold A.
    """

    policy: Policy
    evaluations: int
    findings: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[Candidate, ...] = ()  # by fold A


Selector = Callable[[Problem], Selection]


class Meter:
    """A fitness that measures each submodel once and raises RuntimeError beyond its limit of evaluations."""

    def __init__(self, space: Space, fitness: Fitness, limit: float, known: Iterable[Candidate] = ()) -> None:
        self.space, self.fitness, self.limit = space, fitness, limit
        self.points = {p.submodel: p for p in known}
        self.spent = 0

    @property
    def left(self) -> int:
        """Evaluations that are left."""
        return int(self.limit - self.spent)

    def __call__(self, submodel: Submodel) -> float:
        if submodel not in self.points:
            if self.spent >= self.limit:
                raise RuntimeError(f"selector: {submodel} would be evaluation {self.spent + 1} of at most {self.limit}")
            self.spent += 1
            value = float(self.fitness(self.space.require(submodel)))
            self.points[submodel] = Candidate.by(Measure.of_macs(self.space.backbone), submodel, value)
        return self.points[submodel].fitness

    @property
    def measured(self) -> tuple[Candidate, ...]:
        """The points so far, those that were known before among them."""
        return tuple(self.points.values())


def _limit(evaluations: int, least: int) -> int:
    if evaluations < least:
        raise ValueError(f"option evaluations={evaluations}: must be at least {least}")
    return evaluations


def _fittest(space: Space, points: Iterable[Candidate]) -> Policy:
    """The fittest that fits, the cheapest of equals; where nothing that fits was measured, the cheapest member."""
    every = tuple(points)
    front = Front.of(every, len(every)) if every else None

    def choose(budget: float) -> Submodel | None:
        best = front.best(budget) if front else None
        if best is not None:
            return best.submodel
        return space.smallest if cost.share(space.backbone, space.smallest) <= budget else None

    return choose


def _largest_within(space: Space, members: Iterable[Submodel]) -> Policy:
    """The fixed member of most MACs within a budget, without a measurement; of equal MACs the first."""
    table: dict[float, Submodel] = {}
    for member in members:
        table.setdefault(cost.share(space.backbone, space.require(member)), member)
    shares = sorted(table)

    def choose(budget: float) -> Submodel | None:
        place = bisect_right(shares, budget)
        return table[shares[place - 1]] if place else None

    return choose


def nsga2(
    evaluations: int = EVALUATIONS,
    population: int = 40,
    generations: int = 300,
    quotas: search.Quotas = None,
    recheck: float = 0.1,
) -> Selector:
    """The search of EA-ViT on fold A; finalists are estimated again on fold B and the best of them by that is chosen.

    ``recheck`` is the part of the evaluations kept for fold B. If it is too small for the front and the fittest of each
    bin, the best at each budget go first, then the others by fitness.
    """
    _limit(evaluations, 4)

    def select(problem: Problem) -> Selection:
        reserved = max(2, round(recheck * evaluations))
        meter = Meter(problem.space, problem.fitness, evaluations - reserved)
        front = search.find_front(
            problem.space,
            meter,
            population=min(population, meter.left),
            generations=generations,
            quotas=quotas,
            seed=problem.seed,
            evaluations=meter.left,
            progress=partial(problem.progress, "search"),
        )
        wanted = [front.best(budget) for budget in problem.reachable]
        others = sorted((*front.points, *front.cover), key=lambda p: -p.fitness)
        finalists = list(dict.fromkeys(p for p in (*wanted, *others) if p is not None))
        last = Front.of(finalists[: evaluations - meter.spent], front.evaluations)
        final, optimism = replace(last, progress=front.progress).reestimate(problem.recheck)
        findings = final.report(optimism)
        return Selection(_fittest(problem.space, final.points), final.evaluations, findings, meter.measured)

    return select


def evolution(evaluations: int = EVALUATIONS, rules: Rules = AUTOFORMER) -> Selector:
    """AutoFormer's evolutionary search (arXiv 2107.00651), once for each budget.

    Numbers and their source: :mod:`.evolution`. The evaluations are shared out evenly (the source has 1050 for each
    budget). Ours: a budget may also take what another budget's search measured, and fewer evaluations shrink
    population and rounds alike.
    """
    _limit(evaluations, 1)

    def select(problem: Problem) -> Selection:
        meter, rng, budgets = Meter(problem.space, problem.fitness, evaluations), problem.rng, problem.reachable
        for done, budget in enumerate(budgets):
            share = meter.left // (len(budgets) - done)
            evolve(problem.space, lambda members: [meter(s) for s in members], budget, rules.within(share), rng, share)
            problem.progress("search", done + 1, len(budgets))
        return Selection(_fittest(problem.space, meter.measured), meter.spent, {}, meter.measured)

    return select


def predictor(
    evaluations: int = EVALUATIONS, measured: float = 0.6, epochs: int = 200, rules: Rules = OFA, held_out: float = 0.2
) -> Selector:
    """OFA's search: a predictor of accuracy is trained, evolution runs on it for each budget.

    A fraction ``measured`` of the evaluations trains it, and what it likes best is measured with the rest. ``held_out``
    of the measured ones test the predictor (findings), which is then trained on all of them.
    """
    _limit(evaluations, 4)

    def select(problem: Problem) -> Selection:
        space, rng, budgets = problem.space, problem.rng, problem.reachable
        meter = Meter(space, problem.fitness, evaluations)
        if budgets:
            low, high = budgets[0], min(1.0, budgets[-1])
            _measure_drawn(problem, meter, max(2, round(measured * evaluations)), high, 0.8 * low / high, rng)
        pairs = [(p.submodel, p.fitness) for p in meter.measured]
        fitted = max(1, round(len(pairs) * (1 - held_out)))
        trial = Predictor.fit(space, pairs[:fitted], problem.seed, epochs) if pairs else None
        agreement = rank_agreement(space, trial, pairs[fitted:]) if trial else {}
        predict = Predictor.fit(space, pairs, problem.seed, epochs) if pairs else None
        for done, budget in enumerate(budgets if predict else ()):
            share = meter.left // (len(budgets) - done)
            predicted = evolve(space, predict, budget, rules, rng) if predict and share else {}
            new = sorted((s for s in predicted if s not in meter.points), key=lambda s: (-predicted[s], str(s)))
            for submodel in new[:share]:
                meter(submodel)
            problem.progress("search", done + 1, len(budgets))
        return Selection(_fittest(space, meter.measured), meter.spent, {"predictor": agreement}, meter.measured)

    return select


def _measure_drawn(
    problem: Problem, meter: Meter, count: int, budget: float, window: float, rng: np.random.Generator
) -> None:
    """Measure up to ``count`` new random members, uniform in log MACs over ``window * budget .. budget``."""
    seen = set(meter.points)
    for submodel in draw_new(lambda: draw_under(problem.space, budget, window, rng), seen, count):
        meter(submodel)


def random(evaluations: int = EVALUATIONS, window: float = 0.9) -> Selector:
    """Random search: members near each budget, the best on fold A. What every search must beat.

    As many for each budget as the evaluations allow, aimed at ``window`` of it and above, none over it.
    """
    _limit(evaluations, 1)

    def select(problem: Problem) -> Selection:
        meter, rng, budgets = Meter(problem.space, problem.fitness, evaluations), problem.rng, problem.reachable
        for done, budget in enumerate(budgets):
            share = meter.left // (len(budgets) - done)
            _measure_drawn(problem, meter, share, budget, window, rng)
            problem.progress("search", done + 1, len(budgets))
        return Selection(_fittest(problem.space, meter.measured), meter.spent, {}, meter.measured)

    return select


def mix_n_match(candidates: Callable[[Space], Iterable[Submodel]] = mixes) -> Selector:
    """MatFormer's Mix'n'Match: of the candidates the one nearest to the budget and at most it. No evaluation.

    Of equal MACs the first (the most uniform). Any family that is a list (HydraViT's k, a grid, a chain) selects by
    it too.
    """
    return lambda problem: Selection(_largest_within(problem.space, candidates(problem.space)), 0)


def uniform() -> Selector:
    """The most proportional uniform shape of at most the budget. No evaluation."""
    return mix_n_match(uniforms)


def greedy() -> Selector:
    """The path of least importance lost for each MAC saved. No evaluation, nested by construction.

    A budget gets the first member on the path that fits.
    """

    def select(problem: Problem) -> Selection:
        if problem.scores is None:
            raise ValueError("selector greedy needs the importance scores of the units; the problem has none")
        return Selection(_largest_within(problem.space, greedy_path(problem.space, problem.scores)), 0)

    return select


def given(policy: Policy, findings: Mapping[str, Any] | None = None) -> Selector:
    """A policy from outside, such as the router's, checked (:func:`checked_policy`)."""
    return lambda problem: Selection(checked_policy(problem.space, policy, "given policy"), 0, dict(findings or {}))


def checked_policy(space: Space, policy: Policy, name: str) -> Policy:
    """The policy, refusing by ``name`` a choice that is over its budget or no member of the space: ValueError."""

    def checked(budget: float) -> Submodel | None:
        choice = policy(budget)
        if choice is not None:
            share = cost.share(space.backbone, space.require(choice))
            if share > budget:
                raise ValueError(f"{name}: {choice} uses {share:.6f}, over the budget {budget}")
        return choice

    return checked


SELECTORS: dict[str, Callable[..., Selector]] = {
    "nsga2": nsga2,
    "evolution": evolution,
    "predictor": predictor,
    "mix_n_match": mix_n_match,
    "uniform": uniform,
    "greedy": greedy,
    "random": random,
}


def nest_choices(selection: Selection, problem: Problem) -> Selection:
    """Choices that lie inside each other: choice(b) <= choice(c) for declared budgets b < c. Between two of them the
    lower one's choice holds, below the first it holds too where it fits.

    The better by fold A of two chains (:mod:`.chains`): the best one among all that was measured, and the
    selector's own choices shrunk into each other. What had not been measured is, and is counted. ``findings["nested"]``
    tells for each budget the accuracy on fold A that the free choice had and what nesting costs of it.
    """
    space = problem.space
    free = {b: choice for b in sorted(set(problem.budgets)) if (choice := selection.policy(b)) is not None}
    meter = Meter(space, problem.fitness, float("inf"), selection.measured)
    before = [meter(choice) for choice in free.values()]
    value = importance_per_size(space, problem.scores) if problem.scores is not None else macs_of_step(space)
    shrunk = shrunk_chain(space, list(free.values()), list(free), value)
    ways = {"shrunk": shrunk, "measured": _chain_of(meter.measured, list(free))}
    sums = {name: sum(map(meter, chain)) for name, chain in ways.items() if chain}
    name = max(sums, key=lambda way: sums[way], default="shrunk")
    chosen = dict(zip(free, ways[name], strict=True))
    price = {
        str(b): {"free": round(value, 6), "price": round(value - meter(chosen[b]), 6)}
        for b, value in zip(free, before, strict=True)
    }
    return replace(
        selection,
        policy=_step_function(space, chosen),
        evaluations=selection.evaluations + meter.spent,
        findings={**selection.findings, "nested": {"by": name, "budgets": price}},
        measured=meter.measured,
    )


def monotone_choices(selection: Selection, problem: Problem) -> Selection:
    """The best on fold B of the selector's choices within each budget, so that a larger budget never gets a worse one.

    The choices for ``DENSE`` budgets in equal ratios, and for the declared ones, are measured on fold B and counted.
    """
    space, reachable = problem.space, problem.reachable
    if not reachable:
        return selection
    asked = sorted({*reachable, *map(float, np.geomspace(reachable[0], reachable[-1], DENSE))})
    meter = Meter(space, problem.recheck, float("inf"))
    scores = {choice: meter(choice) for b in asked if (choice := selection.policy(b)) is not None}
    ranked = sorted(scores, key=lambda s: (-scores[s], cost.macs(space.backbone, s), str(s)))
    free = {b: choice for b in sorted(set(problem.budgets)) if (choice := selection.policy(b)) is not None}

    def choose(budget: float) -> Submodel | None:
        return next((s for s in ranked if cost.share(space.backbone, s) <= budget), None)

    gains = {str(b): round(scores[best] - scores[own], 6) for b, own in free.items() if (best := choose(b)) is not None}
    return replace(
        selection,
        policy=choose,
        evaluations=selection.evaluations + meter.spent,
        findings={**selection.findings, "monotone": gains},
    )


def _chain_of(points: tuple[Candidate, ...], budgets: list[float]) -> tuple[Submodel, ...]:
    return tuple(p.submodel for p in best_chain(points, budgets) or ())


def _step_function(space: Space, chosen: Mapping[float, Submodel]) -> Policy:
    budgets = sorted(chosen)

    def choose(budget: float) -> Submodel | None:
        place = bisect_right(budgets, budget)
        lowest = [chosen[b] for b in budgets[:1] if cost.share(space.backbone, chosen[b]) <= budget]
        return chosen[budgets[place - 1]] if place else next(iter(lowest), None)

    return choose
