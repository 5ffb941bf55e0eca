"""Which MACs a training reached: each step counted once, in its own fit, its own quarter and its own tenth."""

import numpy as np
import pytest

from eavit.model import cost
from eavit.space.product import ProductSpace
from eavit.training.coverage import REPLAYED, coverage
from eavit.training.passes import Pass, draws_of, plain
from eavit.training.plans import taught
from eavit.training.samplers import Always, Random, Triggered, per_layer
from tests.eavit.small import tiny

BACKBONE = tiny().backbone
SPACE = ProductSpace.eavit(BACKBONE, 0.5)
LARGEST, SMALLEST, DRAWN = Always(SPACE, (SPACE.largest,)), Always(SPACE, (SPACE.smallest,)), Random(SPACE, per_layer)
LOW = int(10 * cost.share(BACKBONE, SPACE.smallest))


def counted(fits, seed):
    """Step by step, all of them."""
    table, whole, place = np.zeros((4, 10), dtype=int), sum(steps for _, steps in fits), 0
    for sampler, steps in fits:
        for index in range(steps):
            for submodel in sampler(index / steps, draws_of(seed, index)):
                table[4 * place // whole, min(9, int(10 * cost.share(BACKBONE, submodel)))] += 1
            place += 1
    return table.tolist()


@pytest.mark.parametrize("steps", [(1,), (7,), (40, 13, 0, 27), (0, 5), (REPLAYED - 3, 3)])
def test_short_trainings_are_counted_whole(steps):
    fits = list(zip((DRAWN, LARGEST, SMALLEST, DRAWN), steps, strict=False))
    assert coverage(fits, BACKBONE, 3) == counted(fits, 3)


def test_of_long_ones_evenly_spaced_steps_of_all_fits_are():
    table = np.array(coverage([(LARGEST, 300_000), (SMALLEST, 100_000)], BACKBONE, 0))
    assert table.sum() == REPLAYED and (table.sum(1) == REPLAYED // 4).all()
    assert (table[:3, 9] == 100).all() and table[3, LOW] == 100


def test_a_plan_counts_like_its_sampler_and_only_what_learns():
    assert coverage([(plain(DRAWN), 20)], BACKBONE, 1) == coverage([(DRAWN, 20)], BACKBONE, 1)
    assert coverage([(taught(DRAWN), 20)], BACKBONE, 1) == coverage([(DRAWN, 20)], BACKBONE, 1)
    silent = coverage([(lambda progress, rng: (Pass(SPACE.largest, hard=0.0), Pass(SPACE.smallest)), 4)], BACKBONE, 1)
    assert [row[9] for row in silent] == [0] * 4 and [row[LOW] for row in silent] == [1] * 4


def test_no_training_is_an_empty_table_and_one_that_hears_its_losses_none():
    assert coverage([], BACKBONE, 0) == coverage([(LARGEST, 0)], BACKBONE, 0) == [[0] * 10] * 4
    assert coverage([(LARGEST, 4), (Triggered(SPACE, per_layer), 4)], BACKBONE, 0) is None
