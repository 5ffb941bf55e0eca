"""Parts become nested ones in place, and are what they were afterwards."""

from __future__ import annotations

import copy

import pytest
from strategies import build

from eavit.model.nesting import NESTED, nest, unnest
from tests.eavit.model.test_nested_eva import DEIT, EVA
from tests.eavit.model.vits import TINY


@pytest.mark.parametrize("recipe", [TINY, DEIT, EVA], ids=["vit", "distilled", "eva"])
def test_all_parts_that_have_a_nested_form_get_it_and_lose_it(recipe):
    plain = build(recipe)
    kinds = [type(part) for part in plain.modules()]
    nested = nest(copy.deepcopy(plain))
    assert [type(part) for part in nested.modules()] == [NESTED.get(kind, kind) for kind in kinds]
    assert [type(part) for part in unnest(nested).modules()] == kinds
    assert not any("plain_type" in vars(part) for part in nested.modules())
