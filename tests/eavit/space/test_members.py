"""Neighbours and the member nearest in MACs: what all kinds of spaces share."""

import numpy as np
import pytest

from eavit.model.cost import Measure, macs
from eavit.model.submodel import Backbone, Submodel
from eavit.space.members import check_genes, nearest_in_size, neighbours

B = Backbone(embed=12, heads=3, head_dim=4, mlp=24, depth=2, tokens=5, num_classes=3)
MIDDLE = Submodel(8, (2, 0), (24, 12))


def test_neighbours_move_one_width_by_one_place():
    options = ((8, 12), (0, 2, 3), (12, 24))
    assert [str(s) for s in neighbours(MIDDLE, 1, *options)] == [
        "e12-h2.0-m24.12",
        "e8-h3.0-m24.12",
        "e8-h2x2-m24.12",
        "e8-h2.0-m24x2",
    ]
    assert [str(s) for s in neighbours(MIDDLE, -1, *options)] == ["e8-h0x2-m24.12", "e8-h2.0-m12x2"]
    assert [str(s) for s in neighbours(MIDDLE, -1, *options, lowest=(1, 0))] == ["e8-h2.0-m12x2"]


def test_a_width_that_is_no_option_does_not_move():
    assert list(neighbours(MIDDLE, 1, (12,), (2,), (24,))) == []


def test_the_nearest_member_of_a_path_is_found_whatever_the_target():
    path = [Submodel(12, (3, 3), (m, m)) for m in range(1, 25)]
    for place, member in enumerate(path):
        found = nearest_in_size(lambda level: path[min(int(level * 24), 23)], Measure.of_macs(B), macs(B, member) + 1)
        assert found == path[place]


def test_codes_of_any_type_are_lists_within_their_sizes():
    sizes = np.array([2, 3])
    assert check_genes([1, 2], sizes) == check_genes(sizes - 1, sizes) == [1, 2]
    for code in ([1], [1, 3], [-1, 0], [1, 2, 0]):
        with pytest.raises(ValueError, match="genes"):
            check_genes(code, sizes)
    with pytest.raises(TypeError, match=r"genes\[0\] is 0.5"):
        check_genes([0.5, 1], sizes)


def test_the_nearest_by_a_size_that_rises_and_falls_is_one_of_those_tried():
    path = [Submodel(12, (3, 3), (m, m)) for m in range(1, 25)]
    waves = Measure("waves", lambda s: float(s.mlp[0] % 5), 4.0)
    found = nearest_in_size(lambda level: path[min(int(level * 24), 23)], waves, 3.0)
    assert found in path
    with pytest.raises(TypeError, match="must be a number of waves"):
        nearest_in_size(lambda level: path[0], waves, "3")
