"""Predictions are exact where the device is a sum of parts; a profile of something else is refused."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from eavit.deploy.files import read_json, write_json
from eavit.deploy.latency import Profile, ProfileError, Setting, rising, this_machine
from eavit.space.product import ProductSpace
from tests.eavit.families import family

B = family().backbone
EMBEDS, HEADS, MLPS = (6, 12), (1, 4), (3, 24)


def attention(embed, heads):
    return 0.1 + 0.01 * embed * heads


def mlp(embed, hidden):
    return 0.05 + 0.001 * embed * hidden


def device(submodel):
    """Milliseconds of a device whose parts simply add up."""
    e = submodel.embed
    return 1 + 0.1 * e + sum(attention(e, h) for h in submodel.heads if h) + sum(mlp(e, m) for m in submodel.mlp if m)


def profile(**changes):
    table = Profile(
        asdict(B),
        Setting("torch", 1, 1),
        this_machine("torch"),
        EMBEDS,
        HEADS,
        MLPS,
        tuple(1 + 0.1 * e for e in EMBEDS),
        tuple(tuple(attention(e, h) for h in HEADS) for e in EMBEDS),
        tuple(tuple(mlp(e, m) for m in MLPS) for e in EMBEDS),
    )
    return replace(table, **changes)


def test_sums_of_parts_are_predicted_exactly():
    space, rng = ProductSpace.eavit(B), np.random.default_rng(0)
    for _ in range(30):
        submodel = space.sample(rng)
        assert profile().latency_ms(submodel) == pytest.approx(device(submodel))


def test_the_pace_at_a_sum_is_applied_and_kept_beyond_its_ends():
    s, total = B.full, device(B.full)
    assert profile(pace=((total / 4, 1.0), (total * 4, 4.0))).latency_ms(s) == pytest.approx(2 * total)
    assert profile(pace=((total / 4, 1.0), (total / 2, 3.0))).latency_ms(s) == pytest.approx(3 * total)


def test_noise_cannot_make_a_wider_layer_cheaper():
    table = rising([[1.0, 0.9, 2.0], [0.5, -1.0, 3.0]])
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert (table >= 0).all()


def test_errors_are_of_submodels_that_were_held_out():
    known = profile(held_out=(("a", 1.0, 1.1), ("b", 2.0, 2.0), ("c", 4.0, 3.6)))
    assert known.errors == pytest.approx([0.1, 0, 0.1])
    assert known.median_error == pytest.approx(0.1)
    assert known.rank_correlation == 1.0
    assert np.isnan(profile().median_error)


def test_a_saved_profile_predicts_the_same(tmp_path):
    before = profile(held_out=(("a", 1.0, 1.1),), noise={"spread": 0.1}, pace=((1.0, 1.3), (2.0, 1.1)))
    after = Profile.load(before.save(tmp_path / "p.json"))
    assert after == before
    assert after.latency_ms(B.full) == before.latency_ms(B.full)


def test_another_backbone_is_refused():
    profile().check(B)
    with pytest.raises(ProfileError, match="another backbone: depth is 3, in the profile 12"):
        profile(backbone=asdict(B) | {"depth": 12}).check(B)


@pytest.mark.parametrize("key", ["processor", "cores", "runtime"])
def test_another_machine_or_runtime_is_refused(key):
    profile().check_machine()
    with pytest.raises(ProfileError, match=f"another machine: {key} is .*'other'"):
        profile(machine=this_machine("torch") | {key: "other"}).check_machine()


def test_a_damaged_older_or_newer_profile_is_refused(tmp_path):
    path = profile().save(tmp_path / "p.json")
    write_json(path, read_json(path, "") | {"format_version": 7})
    with pytest.raises(ProfileError, match="format_version: 7 is newer"):
        Profile.load(path)
    write_json(path, read_json(profile().save(path), "") | {"format_version": 1})
    with pytest.raises(ProfileError, match="an older version of eavit; make it again with: eavit profile FAMILY"):
        Profile.load(path)
    values = read_json(profile().save(path), "")
    del values["embeds"]
    write_json(path, values)
    with pytest.raises(ProfileError, match="damaged: 'embeds'"):
        Profile.load(path)
    path.write_text("{}")
    with pytest.raises(ProfileError, match="changed or damaged"):
        Profile.load(path)
    with pytest.raises(ProfileError, match="no such file; make it with: eavit profile"):
        Profile.load(tmp_path / "none.json")


def test_choices_keep_the_predicted_milliseconds():
    elastic, known = family(), profile()
    for limit in (2.7, 3.0, 5.0):
        fitting = [m for m in elastic.members if known.latency_ms(m.submodel) <= limit]
        chosen = elastic.member(latency_ms=limit, profile=known)
        assert chosen == max(fitting, key=lambda m: m.accuracy)
