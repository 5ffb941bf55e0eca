"""Slices of sorted pretrained weights: nothing is trained, any selector chooses."""

from itertools import pairwise

import pytest

from eavit.methods import slice_untrained
from tests.eavit.small import TinyTask

FEW = {"search": {"population": 6, "generations": 1}}


@pytest.mark.parametrize("options", [{}, {"nesting": "nested"}, {"select": "uniform"}, {"select": "greedy"}])
def test_slices_may_be_chosen_by_any_selector(options, tmp_path):
    run = TinyTask(tmp_path)
    adapted = slice_untrained(**FEW, **options).adapt(run)
    chosen = [s for b in (0.05, 0.4, 0.7, 1.0) if (s := adapted.select(b)) is not None]
    assert len(chosen) == 3 and run.ledger.steps == 0 < run.ledger.images
    if options.get("nesting") == "nested" or options.get("select") == "greedy":
        assert all(a <= b for a, b in pairwise(chosen))


def test_wrong_options_of_untrained_are_named():
    for options, match in (
        ({"population": 16}, "option population=16: is written search.population now"),
        ({"min_depth": 2}, "option min_depth=2"),
        ({"search": {"generations": -1}}, "option search.generations=-1"),
    ):
        with pytest.raises(ValueError, match=match):
            slice_untrained(**options)
