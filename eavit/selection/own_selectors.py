"""Selectors of other packages: by import string, ``module:name``, or by the name of an entry point.

Such a selector is a factory as those of :data:`.selectors.SELECTORS`: called without arguments, or with
``evaluations`` where it has a parameter of this name, it returns a function from :class:`.selectors.Problem` to
:class:`.selectors.Selection`. One without the parameter measures nothing. A factory with an attribute
``needs_scores = True`` is given importance scores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from importlib import import_module, metadata
from inspect import Parameter, signature
from math import inf
from typing import Any

from eavit.model.submodel import Submodel
from eavit.options import nearest_hint
from eavit.selection.selectors import SELECTORS, Meter, Problem, Selection, Selector, checked_policy

GROUP = "eavit_bench.selectors"  # of entry points
EVALUATIONS_NAME = "evaluations"  # of the parameter of a selector that measures

SelectorFactory = Callable[..., Selector]


def selector_factory(option: str, value: Any, known: Collection[str]) -> SelectorFactory:
    """The factory that an option names: of ``SELECTORS``, ``module:name``, or an entry point.

    ``known``: the names that the option has of its own. ValueError where there is no such selector, where its module
    cannot be imported, or where it needs other arguments.
    """
    if isinstance(value, str) and value in SELECTORS:
        return SELECTORS[value]
    points = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    use = points.get(value, value) if isinstance(value, str) else ""
    module, colon, name = use.partition(":")
    if not (module and colon and name):
        names = [*known, *(point for point in points if point not in known)]
        raise ValueError(
            f"option {option}={value!r} is unknown; allowed: {', '.join(names)}, or module:name of a selector of yours"
            f"{nearest_hint(str(value), names)}"
        )
    return _imported(f"option {option}={value!r}", module, name)


def _imported(option: str, module_name: str, name: str) -> SelectorFactory:
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{option}: {module_name} cannot be imported: no module named {error.name}") from error
    except Exception as error:  # a module of others may fail at import in any way
        raise ValueError(f"{option}: {module_name} fails at import: {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if factory is None:
        public = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise ValueError(f"{option}: {module_name} has no {name!r}{nearest_hint(name, public)}")
    if not callable(factory):
        raise ValueError(f"{option}: is {type(factory).__name__}, not a function that makes a selector")
    for parameter in signature(factory).parameters.values():
        variadic = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        if not variadic and parameter.default is Parameter.empty and parameter.name != EVALUATIONS_NAME:
            raise ValueError(f"{option}: {name} needs the argument {parameter.name}; only evaluations is given")
    return factory  # type: ignore[no-any-return]  # whatever the module holds there


def make_selector(factory: SelectorFactory, evaluations: int) -> Selector:
    """The selector of a factory, with so many ``evaluations`` if it measures; one of others is checked."""
    measures = EVALUATIONS_NAME in signature(factory).parameters
    selector = factory(evaluations=evaluations) if measures else factory()
    if not callable(selector):
        raise ValueError(f"the selector's factory gave {type(selector).__name__}, not a function that takes a Problem")
    return selector if factory in SELECTORS.values() else checked_selector(selector, evaluations if measures else 0)


def needs_scores(factory: SelectorFactory) -> bool:
    """Return whether selectors of the factory need importance scores."""
    return factory is SELECTORS["greedy"] or bool(getattr(factory, "needs_scores", False))


def checked_selector(selector: Selector, evaluations: int) -> Selector:
    """The selector with its evaluations counted and limited, and its choices checked: members within their budget.

    RuntimeError beyond the limit, TypeError where it gives no :class:`Selection`, ValueError on a wrong choice.
    """

    def select(problem: Problem) -> Selection:
        on_a, on_b = (Meter(problem.space, fitness, inf) for fitness in (problem.fitness, problem.recheck))

        def limited(meter: Meter) -> Callable[[Submodel], float]:
            def fitness(submodel: Submodel) -> float:
                if submodel not in meter.points and on_a.spent + on_b.spent >= evaluations:
                    needs = "" if evaluations else "; a selector that measures has a parameter evaluations"
                    raise RuntimeError(f"the selector measures {submodel} beyond its {evaluations} evaluations{needs}")
                return meter(submodel)

            return fitness

        made = selector(replace(problem, fitness=limited(on_a), recheck=limited(on_b)))
        if not isinstance(made, Selection):
            raise TypeError(f"the selector gave {type(made).__name__}, not an eavit.selection.selectors.Selection")
        policy = checked_policy(problem.space, made.policy, "selector")
        return Selection(policy, on_a.spent + on_b.spent, made.findings, on_a.measured)

    return select
