"""Trials of selectors: good ones keep all rules, and each rule can be broken."""

from __future__ import annotations

import pytest

from eavit.selection.selector_trials import selector_trials

MADE = "tests.eavit.selection.made_selectors"
RULES = 6


def tried(use: str, **options):
    return selector_trials({"use": use, "options": options})


@pytest.mark.parametrize(
    "use",
    [
        *(f"{MADE}:{name}" for name in ("smallest", "measured_twice", "by_scores")),
        *(f"eavit.selection.selectors:{name}" for name in ("random", "greedy", "nsga2")),
    ],
)
def test_good_selectors_keep_all_rules(use):
    verdicts = tried(use)
    assert [fault for _, _, fault in verdicts] == [""] * RULES
    assert ("measures nothing" in verdicts[0][1]) == (use.rpartition(":")[2] in ("smallest", "by_scores", "greedy"))


@pytest.mark.parametrize(
    ("name", "rule", "fault"),
    [
        ("too_many", "it gives a selection, with at most its number", "beyond its 60 evaluations"),
        ("measures_unasked", "it gives a selection, with at most its number", "beyond its 0 evaluations"),
        ("gives_nothing", "it gives a selection, with at most its number", "TypeError: the selector gave NoneType"),
        ("fails", "it gives a selection, with at most its number", "ZeroDivisionError"),
        ("over_budget", "each choice is a member of the space within its budget", "over the budget 0.02"),
        ("never", "each choice is a member of the space within its budget", "every choice is None"),
        ("drawn", "the same problem gives the same choices", "draw from problem.rng alone"),
        ("reads_a_file", "it opens no file", "README.md"),
    ],
)
def test_each_rule_can_be_broken(name, rule, fault):
    *kept, (broken, _, why) = tried(f"{MADE}:{name}")
    assert broken.startswith(rule) and fault in why
    assert not any(each for _, _, each in kept)


def test_options_are_evaluations_alone():
    assert tried(f"{MADE}:measured_twice", evaluations=2)[0][1] == "2 of 2"
    with pytest.raises(ValueError, match="--options.depth is unknown; allowed: evaluations"):
        tried(f"{MADE}:smallest", depth=2)
