"""The model card says what was exported, how to load it, and what is not known."""

from dataclasses import replace

from PIL import Image

from eavit.deploy import plots
from eavit.deploy.elastic import ElasticModel
from eavit.deploy.export import FORMATS, export
from eavit.deploy.model_card import USES, model_card
from eavit.deploy.verify import read_export
from tests.eavit.families import KEYS, family


def test_a_card_has_front_matter_members_and_every_form():
    elastic = family()
    card = model_card(elastic, elastic.backbone.check(KEYS[1]), list(FORMATS), elastic.table.data)
    assert card.startswith("---\nlibrary_name: timm\n")
    assert "license: mit" in card
    assert f"| **{KEYS[1]}** |" in card
    assert "| 83.3% |" in card
    assert all(use in card for use in USES.values())
    assert "mean: [0.5]" in card
    assert "bright, dark, checked" in card
    assert USES.keys() == FORMATS.keys()
    assert all("`" not in use for use in USES.values())  # each stands between two of them


def test_a_missing_licence_is_said():
    elastic = family()
    unknown = ElasticModel(elastic.vit, replace(elastic.table, source={}))
    card = model_card(unknown, elastic.backbone.full, ["torch"], {})
    assert "licence of the pretrained weights is not recorded" in card
    assert "license:" not in card


def test_an_export_has_its_card(tmp_path):
    folder = export(family(), tmp_path / "x", KEYS[0], formats=["torch"])
    assert "README.md" in read_export(folder)["files"]
    card = (folder / "README.md").read_text()
    assert f"# {KEYS[0]}" in card
    assert "Members were made for" not in card


def test_the_card_shows_the_family_where_it_can_be_drawn(tmp_path, monkeypatch):
    folder = export(family(), tmp_path / "x", KEYS[0], formats=["torch"])
    assert "](family.png)" in (folder / "README.md").read_text()
    assert "family.png" in read_export(folder)["files"]
    with Image.open(folder / "family.png") as drawn:
        assert drawn.size[0] > 100
    monkeypatch.setattr(plots, "find_spec", lambda name: None)  # no matplotlib
    folder = export(family(), tmp_path / "y", KEYS[0], formats=["torch"])
    assert "family.png" not in (folder / "README.md").read_text()
    assert "family.png" not in read_export(folder)["files"]


def test_limits_that_members_were_made_for_are_said():
    elastic = family()
    method = {"within": [{"limits": {"latency_ms": 8}}, {"limits": {"mib": 20}}]}
    made = ElasticModel(elastic.vit, replace(elastic.table, method=method))
    assert "Members were made for `latency_ms=8`, `mib=20`." in model_card(made, elastic.backbone.full, ["torch"], {})
