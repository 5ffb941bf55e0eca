"""The latency program writes what it measured, and whether the targets are met follows from it."""

from dataclasses import replace

import pytest

from eavit.deploy.latency import Profile
from tests.speed import latency


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latency")
    assert latency.main(["--case", "sketch", "--seconds", "0.1", "--out", str(folder)]) == 0
    return folder


def test_the_folder_has_profile_plot_and_table(written):
    assert {path.name for path in written.iterdir()} == {"sketch.json", "latency.png", "shares.png", "table.md"}
    profile = Profile.load(written / "sketch.json")
    assert len(profile.held_out) >= 12  # of a space that has few submodels
    assert latency.table({"sketch": profile}) == (written / "table.md").read_text()


def test_targets_are_met_or_missed_as_measured(written):
    profile = Profile.load(written / "sketch.json")
    good = replace(profile, held_out=tuple((f"s{i}", float(i), 1.04 * i) for i in range(1, 9)))
    assert latency.row("sketch", good)[5:7] == ("4.0% (met)", "1.000 (met)")
    bad = replace(profile, held_out=tuple((f"s{i}", float(i), 9.0 - i) for i in range(1, 9)))
    assert latency.row("sketch", bad)[6] == "-1.000 (missed)"
    assert latency.row("sketch", bad)[5].endswith("(missed)")
