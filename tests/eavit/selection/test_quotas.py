"""Places for each bin of MACs: dealt out, kept spread, and as published."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.core.population import Population

from eavit.selection.quotas import QUOTAS, SPACING, BinQuotas, UnscaledQuotas, bin_of, paper_quotas
from eavit.selection.search import scale_quotas as scaled


@given(st.integers(1, 40), st.integers(2, 200), st.data())
def test_quotas_are_dealt_out_over_the_reachable_bins_only(bins, population, data):
    first = data.draw(st.integers(0, bins - 1))
    last = data.draw(st.integers(first, bins - 1))
    shape = np.array(data.draw(st.lists(st.integers(0, 9), min_size=bins, max_size=bins)))
    shape[last] += 1
    places = scaled(shape, population, (first, last))
    reached = last - first + 1
    assert places.sum() == population
    assert not places[:first].any()
    assert not places[last + 1 :].any()
    assert places[first] >= 1
    assert places[last] >= 1
    if population >= reached:
        assert places[first : last + 1].min() >= 1
        ideal = shape[first : last + 1] * population / shape[first : last + 1].sum()
        if ideal.min() >= 1:
            assert np.abs(places[first : last + 1] - ideal).max() < 1
    else:
        held = np.flatnonzero(places)
        assert places.max() == 1
        assert np.ptp(np.diff(held)) <= 1


def test_the_papers_quotas_are_the_default_shape():
    assert sum(QUOTAS) == 100
    assert len(QUOTAS) == 20
    assert scaled(paper_quotas(20), 100, (0, 19)).tolist() == list(QUOTAS)
    assert paper_quotas(10).tolist() == [4, 7, 11, 12, 12, 12, 12, 12, 10, 8]
    assert scaled(paper_quotas(20), 5, (0, 19)).nonzero()[0].tolist() == [0, 5, 10, 14, 19]
    with pytest.raises(ValueError, match="all zero"):
        scaled([5, 0, 0], 10, (1, 2))


# Crowded: many within two MACs (the spacing) of each other.
some_macs = st.builds(lambda coarse, fine: 125 * coarse + fine, st.integers(0, 7), st.integers(1, 6))


@given(st.lists(st.tuples(some_macs, st.integers(0, 9)), min_size=1, max_size=80), st.integers(2, 60))
def test_survivors_keep_quotas_spacing_ends_and_order_of_fronts(pairs, population):
    full, bins = 1000, 4
    pop = Population.new("F", np.array([(m, -f) for m, f in pairs], dtype=float))
    shares = np.array([m / full for m, _ in pairs])
    quotas = scaled(np.ones(bins), population, (int(bin_of(shares.min(), bins)), int(bin_of(shares.max(), bins))))
    kept = BinQuotas(quotas, full).do(SimpleNamespace(), pop)
    macs, loss = kept.get("F").T
    held = np.bincount(bin_of(macs / full, bins), minlength=bins)
    assert (held <= quotas).all()
    if np.ptp(shares) >= SPACING:  # both ends stay, however close
        assert np.diff(np.sort(macs / full)).min(initial=1.0) >= SPACING - 1e-12
    for end in (min, max):
        at = end(m for m, _ in pairs)
        assert (at, -max(f for m, f in pairs if m == at)) in set(zip(macs, loss, strict=True))
    # An open place means that every other point of that bin is too close to a survivor.
    for m, _ in pairs:
        if held[b := int(bin_of(m / full, bins))] < quotas[b]:
            assert np.abs(macs - m).min() / full < SPACING + 1e-9


def test_within_a_bin_better_fronts_go_first_and_the_largest_gap_next():
    values = [(1, 0), (100, 9), (31, 5), (32, 6), (36, 7), (39, 8), (33, 1), (38, 2)]  # of 100 MACs
    pop = Population.new("F", np.array([(m, -f) for m, f in values], dtype=float))

    def survivors(places):
        quotas = np.array([1, 0, 0, places, 0, 0, 0, 0, 0, 1])
        return set(BinQuotas(quotas, 100).do(SimpleNamespace(), pop).get("F")[:, 0].astype(int)) - {1, 100}

    assert survivors(1) == {39}  # the farthest from both ends: 38 from 1, 61 from 100
    assert survivors(2) == {39, 31}
    assert survivors(3) == {39, 31, 36}  # 3 from 39; 32 is 1 from 31
    assert survivors(4) == {39, 31, 36, 32}
    assert survivors(5) in ({39, 31, 36, 32, 33}, {39, 31, 36, 32, 38})  # only now the second front


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 9)), min_size=60, max_size=120), st.integers(1, 30))
def test_unscaled_quotas_take_the_first_places_of_the_cheapest_bins(pairs, population):
    pop = Population.new("F", np.array([(m, -f) for m, f in pairs], dtype=float))
    kept = UnscaledQuotas(np.array(QUOTAS), 1000, population).do(SimpleNamespace(), pop)
    held = np.bincount(bin_of(kept.get("F")[:, 0] / 1000, 20), minlength=20)
    assert len(kept) <= population
    assert (held <= QUOTAS).all()
    every = np.bincount(bin_of(np.array([m for m, _ in pairs]) / 1000, 20), minlength=20)
    last = np.flatnonzero(held)[-1]
    for b in range(last):  # a bin left behind is full, or nobody in it is far enough from those taken
        if held[b] < min(QUOTAS[b], every[b]):
            own = [m for m in kept.get("F")[:, 0] if int(bin_of(m / 1000, 20)) == b]
            left = [m for m, _ in pairs if int(bin_of(m / 1000, 20)) == b and m not in own]
            assert all(np.abs(np.array(own) - m).min() / 1000 < SPACING + 1e-9 for m in left)


def test_five_of_many_are_all_under_fifteen_percent():
    """The number of the published defect: 2 + 2 + 1 places in the first three bins of 5 % each."""
    shares = np.linspace(0, 1, 400)
    pop = Population.new("F", np.stack([1000 * shares, -np.sqrt(shares)], 1))
    published = UnscaledQuotas(np.array(QUOTAS), 1000, 5).do(SimpleNamespace(), pop).get("F")[:, 0] / 1000
    assert np.bincount(bin_of(published, 20), minlength=20)[:4].tolist() == [2, 2, 1, 0]
    assert published.max() < 0.15
    ours = BinQuotas(scaled(paper_quotas(20), 5, (0, 19)), 1000).do(SimpleNamespace(), pop).get("F")[:, 0] / 1000
    assert ours.max() == 1
