"""Evolutionary search under one MACs limit, as AutoFormer and OFA do it: the best so far are parents, children are
mutants and crosses of them, the rest of a generation is drawn at random.

Numbers: AutoFormer from AutoFormer/evolution.py of microsoft/Cream (population 50, 20 rounds, 10 parents, 25 mutants,
25 crosses, each layer's width with probability 0.2, depth and embedding with 0.4, ten tries a child, no candidate
twice, a window of sizes under the limit); OFA from ofa/nas/search_algorithm/evolution.py of mit-han-lab/once-for-all
(population 100, a quarter are parents, half are mutants, rate 0.1, 500 rounds, no lower limit). Ours: MACs instead of
parameters or latency, a gate on each branch (mutated like a width) instead of the first N layers, a first generation
drawn near the limit (uniform draws would nearly all miss a small one), and only what can be ranked is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.space.members import Genes
from eavit.space.space import Space

TRIES = 10  # for each child
FRUITLESS = 50  # tries in a row that gave nothing new: the space has run out


@dataclass(frozen=True, slots=True)
class Rules:
    """Numbers of one evolution; children that are neither mutant nor cross are drawn at random."""

    population: int
    rounds: int
    parents: int
    mutants: int
    crosses: int
    rate: float  # of a layer's gene to be drawn anew
    embed_rate: float
    window: float  # least MACs of a candidate, as a fraction of the limit

    def __post_init__(self) -> None:
        least = {"population": 1, "rounds": 0, "parents": 1, "mutants": 0, "crosses": 0}
        low = [f"{name}={getattr(self, name)}" for name, bound in least.items() if getattr(self, name) < bound]
        rates = [f"{n}={getattr(self, n)}" for n in ("rate", "embed_rate", "window") if not 0 <= getattr(self, n) <= 1]
        if low or rates:
            raise ValueError(f"evolution: impossible values: {', '.join(low + rates)}; counts >= 0, rates in 0..1")

    def within(self, evaluations: int) -> Rules:
        """These rules where they fit, else a generation shrunk by as much as their number: a first one of random draws
        that takes it all would leave nothing to evolve. Ours; the sources always have the evaluations.
        """
        factor: float = min(1.0, (max(1, evaluations) / (self.population * (1 + self.rounds))) ** 0.5)

        def shrunk(count: int) -> int:
            return max(1, round(count * factor))

        generation = shrunk(self.population), shrunk(self.parents), shrunk(self.mutants), shrunk(self.crosses)
        return replace(self, **dict(zip(("population", "parents", "mutants", "crosses"), generation, strict=True)))


AUTOFORMER = Rules(50, 20, 10, 25, 25, rate=0.2, embed_rate=0.4, window=0.8)
OFA = Rules(100, 20, 25, 50, 50, rate=0.1, embed_rate=0.1, window=0.0)  # rounds: ours, for minutes on two cores


def draw_under(space: Space, budget: float, window: float, rng: np.random.Generator) -> Submodel | None:
    """A random member aimed at ``window * budget .. budget``, uniform in log MACs there, and at most the budget; None
    where luck fails.
    """
    full, least = cost.macs(space.backbone, space.backbone.full), cost.share(space.backbone, space.smallest)
    low, high = max(least, window * budget), min(1.0, budget)
    for _ in range(TRIES):
        target = exp(rng.uniform(log(min(low, high)), log(high)))
        submodel = space.near(target * full, rng)
        if cost.share(space.backbone, submodel) <= budget:
            return submodel
    return None


def draw_new(make: Callable[[], Submodel | None], seen: set[Submodel], count: int) -> list[Submodel]:
    """Draw up to ``count`` submodels that were not seen before, within the tries; they are added to ``seen``."""
    new, fruitless = list[Submodel](), 0
    for _ in range(count * TRIES):
        if len(new) == count or fruitless == FRUITLESS:
            break
        submodel, fruitless = make(), fruitless + 1
        if submodel is not None and submodel not in seen:
            seen.add(submodel)
            new.append(submodel)
            fruitless = 0
    return new


@dataclass(frozen=True, slots=True)
class _Variation:
    """Mutation, crossover and random draws of one evolution; codes are those of :meth:`Space.genes`."""

    space: Space
    rules: Rules
    budget: float
    rng: np.random.Generator

    def mutant(self, parents: Sequence[Genes]) -> Genes:
        code, sizes = parents[int(self.rng.integers(len(parents)))], self.space.gene_sizes
        rates = np.full(len(sizes), self.rules.rate)
        rates[0] = self.rules.embed_rate
        child: Genes = np.where(self.rng.random(len(sizes)) < rates, self.rng.integers(sizes), code)
        return child

    def cross(self, parents: Sequence[Genes]) -> Genes:
        one, other = (parents[i] for i in self.rng.integers(len(parents), size=2))
        child: Genes = np.where(self.rng.random(len(one)) < 0.5, one, other)
        return child

    def children(
        self, make: Callable[[Sequence[Genes]], Genes], parents: Sequence[Genes], seen: set[Submodel], count: int
    ) -> list[Submodel]:
        """Children that are new and lie in the window."""

        def child() -> Submodel | None:
            submodel = self.space.from_genes(make(parents))
            share = cost.share(self.space.backbone, submodel)
            return submodel if self.rules.window * self.budget <= share <= self.budget else None

        return draw_new(child, seen, count) if parents else []

    def drawn(self, seen: set[Submodel], count: int) -> list[Submodel]:
        return draw_new(lambda: draw_under(self.space, self.budget, self.rules.window, self.rng), seen, count)


def evolve(
    space: Space,
    fitness: Callable[[Sequence[Submodel]], Sequence[float]],
    budget: float,
    rules: Rules,
    rng: np.random.Generator,
    limit: float = float("inf"),
) -> dict[Submodel, float]:
    """Distinct members at or under the budget with their fitness, at most ``limit``; the best is what is sought.

    Empty where the space has no member that fits. ``fitness`` is called with a whole generation at a time.
    """
    if cost.share(space.backbone, space.smallest) > budget:
        return {}
    budget = min(budget, 1.0)
    vary, seen, measured = _Variation(space, rules, budget, rng), set[Submodel](), dict[Submodel, float]()
    for done in range(rules.rounds + 1):
        places = int(min(rules.population, limit - len(measured)))
        best = sorted(measured, key=lambda s: (-measured[s], str(s)))[: rules.parents] if done else []
        parents = [space.genes(s) for s in best]
        children = vary.children(vary.mutant, parents, seen, min(places, rules.mutants))
        children += vary.children(vary.cross, parents, seen, min(places - len(children), rules.crosses))
        children += vary.drawn(seen, places - len(children))
        if not children:
            break
        measured |= dict(zip(children, fitness(children), strict=True))
    return measured
