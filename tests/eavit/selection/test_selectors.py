"""Selectors: the law for all of them, each one's own meaning, and nested choices with their price."""

from dataclasses import replace
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.selection.chains import best_chain
from eavit.selection.evolution import Rules
from eavit.selection.selectors import SELECTORS, Problem, mix_n_match, monotone_choices, nest_choices
from eavit.selection.selectors import given as handed
from eavit.selection.shapes import greedy_path, importance_per_size, mixes, uniforms
from eavit.space.product import ProductSpace
from tests.eavit.selection.searched import scores_of
from tests.strategies import members, seeds, spaces

B = Backbone(48, 6, 8, 64, 3, 17, 4, patch_pixels=16)
SMALL = ProductSpace.eavit(B, 0.5)
BUDGETS = (0.05, 0.3, 0.5, 0.7, 1.0)
QUICK = Rules(10, 4, 4, 5, 5, rate=0.1, embed_rate=0.1, window=0.0)
MEASURING = ("nsga2", "evolution", "predictor", "random")
FREE = ("mix_n_match", "uniform", "greedy")
OPTIONS = {"nsga2": {"population": 8}, "predictor": {"epochs": 5, "rules": QUICK}}


def made(name, evaluations=30):
    options = OPTIONS.get(name, {}) | ({"evaluations": evaluations} if name in MEASURING else {})
    return SELECTORS[name](**options)


def value_of(space, seed=0, digits=3):
    b = space.backbone
    worth = np.random.default_rng(seed).dirichlet(np.ones(2 * b.depth))

    def fitness(s):
        kept = np.concatenate([np.array(s.heads) / b.heads, np.array(s.mlp) / b.mlp])
        return round(
            float((s.embed / b.embed) ** 0.5 * np.prod((0.05 + 0.95 * kept**0.5) ** (worth * b.depth))), digits
        )

    return fitness


class Counter:
    def __init__(self, fitness):
        self.fitness, self.seen = fitness, []

    def __call__(self, submodel):
        self.seen.append(submodel)
        return self.fitness(submodel)


def problem_of(space, seed=0, budgets=BUDGETS):
    a, b = Counter(value_of(space, seed)), Counter(value_of(space, seed + 1))
    return Problem(space, a, b, budgets, seed, scores_of(space.backbone, seed))


def spent(problem):
    return len(problem.fitness.seen) + len(problem.recheck.seen)


def share(space, submodel):
    return cost.share(space.backbone, submodel)


def floor_of(name, space):
    """Shares of the cheapest choice each selector can make."""
    if name == "mix_n_match":
        return min(share(space, s) for s in mixes(space))
    if name == "uniform":
        return min(share(space, s) for s in uniforms(space))
    return share(space, space.smallest)


@pytest.mark.parametrize("name", SELECTORS)
@given(space=spaces(max_depth=2), seed=seeds, other=st.floats(0, 1.1))
@settings(max_examples=8)
def test_choices_are_members_within_budget_and_evaluations(name, space, seed, other):
    problem = problem_of(space, seed)
    selection = made(name)(problem)
    assert selection.evaluations == spent(problem) <= 30
    for budget in (*BUDGETS, other):
        choice = selection.policy(budget)
        if floor_of(name, space) > budget:
            assert choice is None
        else:
            assert space.contains(choice) and share(space, choice) <= budget
    again = made(name)(problem_of(space, seed))
    assert [again.policy(b) for b in BUDGETS] == [selection.policy(b) for b in BUDGETS]
    assert (again.evaluations, again.findings) == (selection.evaluations, selection.findings)
    assert name not in FREE or selection.evaluations == 0


@pytest.mark.parametrize("name", MEASURING)
@pytest.mark.parametrize("limit", [4, 11, 60])
def test_the_evaluations_are_used_and_never_passed(name, limit):
    problem = problem_of(SMALL)
    selection = made(name, limit)(problem)
    assert selection.evaluations == spent(problem) <= limit
    assert selection.evaluations >= 0.6 * limit
    assert len(set(problem.fitness.seen)) == len(problem.fitness.seen) == len(selection.measured)
    assert all(p.fitness == problem.fitness.fitness(p.submodel) for p in selection.measured)
    if name != "nsga2":
        assert not problem.recheck.seen


@pytest.mark.parametrize("name", MEASURING)
def test_the_choice_is_the_best_of_what_was_measured_on_the_fold_that_decides(name):
    problem = problem_of(SMALL)
    selection = made(name, 80)(problem)
    deciding = problem.recheck if name == "nsga2" else problem.fitness
    for budget in (0.3, 0.6, 1.0):
        best = max(deciding.fitness(s) for s in deciding.seen if share(SMALL, s) <= budget)
        assert deciding.fitness(selection.policy(budget)) == best


@pytest.mark.parametrize("name", MEASURING)
def test_other_seeds_look_elsewhere_and_bad_limits_are_named(name):
    assert made(name)(problem_of(SMALL)).measured != made(name)(replace(problem_of(SMALL), seed=1)).measured
    with pytest.raises(ValueError, match="evaluations=0"):
        made(name, 0)


def test_searching_beats_drawing_at_equal_evaluations():
    gains: dict[str, list[float]] = {name: [] for name in ("nsga2", "evolution", "predictor")}
    for seed in range(2):

        def mean(name, seed=seed):
            problem = problem_of(SMALL, seed)
            problem = replace(problem, recheck=Counter(problem.fitness.fitness))
            options = {"epochs": 100, "rules": replace(QUICK, population=50, mutants=25, crosses=25)}
            selection = SELECTORS[name](240, **(options if name == "predictor" else {}))(problem)
            return np.mean([problem.fitness.fitness(selection.policy(b)) for b in BUDGETS[1:4]])

        by_chance = mean("random")
        for name in gains:
            gains[name].append(mean(name) - by_chance)
    assert all(np.mean(values) > 0 for values in gains.values()), gains


def test_the_predictor_tells_its_rank_beside_that_of_macs():
    problem = replace(problem_of(SMALL), fitness=lambda s: s.embed / 64 + s.heads[0] / 60)
    found = SELECTORS["predictor"](120, epochs=100, rules=QUICK)(problem).findings["predictor"]
    assert found["held_out"] == 14
    assert max(0.5, found["spearman_of_macs"]) < found["spearman"] <= 1
    assert set(found) == {"held_out", "spearman", "kendall", "spearman_of_macs", "kendall_of_macs"}


def test_draws_of_random_lie_just_under_their_budgets():
    selection = SELECTORS["random"](60)(problem_of(SMALL, budgets=(0.4, 0.8)))
    shares = np.array([p.share for p in selection.measured])
    near = ((shares > 0.33) & (shares <= 0.4)) | ((shares > 0.66) & (shares <= 0.8))
    assert near.mean() > 0.9
    assert 20 <= (shares <= 0.4).sum() <= 40


def test_mix_n_match_is_the_nearest_non_decreasing_mix_and_the_most_uniform_of_equals():
    space = ProductSpace.of_widths(B, (8, 16, 32, 64))
    policy = mix_n_match()(problem_of(space)).policy
    every = [Submodel(48, (6, 6, 6), mlp) for mlp in product(space.mlps, repeat=3) if list(mlp) == sorted(mlp)]
    assert set(mixes(space)) == set(every)
    for budget in np.linspace(0.4, 1.0, 25):
        fitting = [s for s in every if share(space, s) <= budget]
        choice = policy(budget)
        assert (choice is None) == (not fitting)
        if fitting:
            nearest = max(sum(s.mlp) for s in fitting)
            equals = [s for s in fitting if sum(s.mlp) == nearest]
            assert choice in equals
            assert max(choice.mlp) // min(choice.mlp) == min(max(s.mlp) // min(s.mlp) for s in equals)


def test_any_list_selects_by_mix_n_match():
    space = ProductSpace.eavit(B)
    line = [Submodel(8 * k, (k,) * 3, (64 * k // 6 if k == 6 else 32,) * 3) for k in (3, 4, 6)]
    policy = mix_n_match(lambda _: line)(problem_of(space)).policy
    shares = [share(space, s) for s in line]
    assert [policy(b) for b in (shares[0] - 0.01, *shares)] == [None, *line]
    with pytest.raises(ValueError, match="not in the space"):
        mix_n_match(lambda _: [Submodel(47, (6,) * 3, (64,) * 3)])(problem_of(space))


def test_uniform_is_the_most_proportional_shape_that_fits():
    policy = SELECTORS["uniform"]()(problem_of(SMALL)).policy
    shapes = [Submodel(e, (h,) * 3, (m,) * 3) for e, h, m in product(SMALL.embeds, SMALL.heads, SMALL.mlps)]
    for budget in np.linspace(0.1, 1, 12):
        fitting = [s for s in shapes if share(SMALL, s) <= budget]
        if not fitting:
            assert policy(budget) is None
            continue
        narrowest = {s: min(s.embed / 48, s.heads[0] / 6, s.mlp[0] / 64) for s in fitting}
        assert policy(budget) == max(fitting, key=lambda s: (narrowest[s], share(SMALL, s), -s.embed))


def test_greedy_drops_what_matters_least_for_its_price():
    scores = scores_of(B)
    scores.heads[1] = 1e-6  # the second layer's attention is worth nothing
    path = greedy_path(SMALL, scores)
    assert path[0] == SMALL.largest
    assert share(SMALL, path[-1]) == share(SMALL, SMALL.smallest)
    assert all(b <= a for a, b in pairwise(path))
    assert [s.heads for s in path[1:5]] == [(6, 5, 6), (6, 4, 6), (6, 3, 6), (6, 0, 6)]
    worth = importance_per_size(SMALL, scores)
    for a, b in pairwise(path[4:]):
        assert worth(b, a) == min(worth(s, a) for s in SMALL.narrower(a))


def test_greedy_needs_importance_scores():
    with pytest.raises(ValueError, match="greedy needs the importance scores"):
        SELECTORS["greedy"]()(replace(problem_of(SMALL), scores=None))


def test_a_policy_from_outside_is_held_to_the_law():
    problem = problem_of(SMALL)
    kept = handed(lambda b: SMALL.smallest if b > 0.5 else None, {"emitted": 3})(problem)
    assert [kept.policy(b) for b in (0.4, 1.0)] == [None, SMALL.smallest]
    assert (kept.evaluations, kept.findings) == (0, {"emitted": 3})
    with pytest.raises(ValueError, match="over the budget 0.5"):
        handed(lambda _: SMALL.largest)(problem).policy(0.5)
    with pytest.raises(ValueError, match="not in the space"):
        handed(lambda _: Submodel(47, (6,) * 3, (64,) * 3))(problem).policy(1.0)


@pytest.mark.parametrize("name", SELECTORS)
@given(space=spaces(max_depth=2), seed=seeds, other=st.floats(0, 1.1))
@settings(max_examples=6)
def test_nested_choices_are_a_chain_within_budgets(name, space, seed, other):
    problem = problem_of(space, seed)
    free = made(name)(problem)
    chained = nest_choices(free, problem)
    assert chained.evaluations == len(problem.recheck.seen) + len(set(problem.fitness.seen)) == spent(problem)
    chain = [chained.policy(b) for b in BUDGETS]
    assert [c is None for c in chain] == [free.policy(b) is None for b in BUDGETS]
    kept = [c for c in chain if c is not None]
    assert all(a <= b for a, b in pairwise(kept))
    assert all(space.contains(c) and share(space, c) <= b for b, c in zip(BUDGETS, chain, strict=True) if c is not None)
    between = chained.policy(other)
    assert between is None or (space.contains(between) and share(space, between) <= other)
    lower = [c for b, c in zip(BUDGETS, chain, strict=True) if b <= other and c is not None]
    assert not lower or between == lower[-1]
    for budget, told in chained.findings["nested"]["budgets"].items():
        lost = problem.fitness.fitness(free.policy(float(budget))) - problem.fitness.fitness(
            chained.policy(float(budget))
        )
        assert told["price"] == pytest.approx(lost, abs=1e-6)


@given(seeds)
@settings(max_examples=8)
def test_nesting_takes_the_best_chain_of_what_was_measured_or_a_better_one(seed):
    problem = problem_of(SMALL, seed, (0.3, 0.5, 0.8))
    free = made("random", 60)(problem)
    chained = nest_choices(free, problem)
    total = sum(problem.fitness.fitness(chained.policy(b)) for b in problem.budgets)
    best = best_chain(free.measured, problem.budgets)
    assert total >= sum(p.fitness for p in best) - 1e-9
    assert chained.findings["nested"]["by"] in ("measured", "shrunk")


def test_nesting_what_is_nested_costs_nothing():
    problem = problem_of(SMALL)
    free = SELECTORS["greedy"]()(problem)
    chained = nest_choices(free, problem)
    prices = [told["price"] for told in chained.findings["nested"]["budgets"].values()]
    assert sum(prices) <= 0
    assert chained.evaluations == len({free.policy(b) for b in BUDGETS} - {None})


def test_nested_takes_the_measured_chain_where_shrinking_would_lose():
    space = replace(ProductSpace.of_widths(B, (8, 64)), min_mlp=3)
    thin, first, last = (Submodel(48, (6,) * 3, mlp) for mlp in ((8, 8, 8), (64, 8, 8), (8, 64, 64)))
    values = {thin: 0.5, first: 0.81, last: 0.82}
    problem = Problem(space, lambda s: values.get(s, 0.1), lambda s: 0.0, (share(space, first), share(space, last)), 0)
    free = handed({share(space, first): first, share(space, last): last}.get)(problem)
    assert [nest_choices(free, problem).policy(b) for b in problem.budgets] == [first, first]
    kept = partial(nest_choices, replace(free, measured=()))
    assert kept(problem).findings["nested"]["budgets"][str(problem.budgets[1])] == {"free": 0.82, "price": 0.01}


@given(seeds)
@settings(max_examples=8)
def test_a_monotone_policy_never_gives_a_larger_budget_a_worse_choice(seed):
    problem = problem_of(SMALL, seed, (0.3, 0.5, 0.8, 1.0))
    free = made("random", 60)(problem)
    seen = len(set(problem.fitness.seen))
    best = monotone_choices(free, problem)
    chosen = [best.policy(b) for b in problem.budgets]
    scores = [problem.recheck.fitness(choice) for choice in chosen]
    assert scores == sorted(scores)
    assert all(share(SMALL, choice) <= b for b, choice in zip(problem.budgets, chosen, strict=True))
    own = [problem.recheck.fitness(free.policy(b)) for b in problem.budgets]
    assert all(new >= old for new, old in zip(scores, own, strict=True))
    gains = [new - old for new, old in zip(scores, own, strict=True)]
    assert list(best.findings["monotone"].values()) == pytest.approx(gains, abs=1e-6)
    assert best.evaluations == free.evaluations + len(set(problem.recheck.seen))
    assert len(set(problem.fitness.seen)) == seen


def test_unreachable_floors_stay_unreachable_and_all_unreachable_is_no_chain():
    space = ProductSpace.of_widths(B, (32, 64))
    problem = problem_of(space, budgets=(0.1, 0.2))
    for name in SELECTORS:
        chained = nest_choices(made(name)(problem), problem)
        assert [chained.policy(b) for b in (0.1, 0.2)] == [None, None]
        assert chained.findings["nested"]["budgets"] == {}


def test_the_exhaustive_best_is_found_where_everything_can_be_measured():
    space = ProductSpace.of_widths(Backbone(16, 2, 8, 32, 2, 5, 3, patch_pixels=4), (8, 16, 32))
    problem = problem_of(space, budgets=(0.7, 0.85, 1.0))
    problem = replace(problem, recheck=problem.fitness)
    fitness = problem.fitness.fitness
    truth = [max(fitness(s) for s in members(space) if share(space, s) <= b) for b in problem.budgets]
    for name in MEASURING:
        policy = made(name, 300)(problem).policy
        assert [fitness(policy(b)) for b in problem.budgets] == truth
