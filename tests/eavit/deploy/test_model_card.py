"""The model card says what was exported, how to load it, and what is not known."""

from dataclasses import replace

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


def test_a_missing_licence_is_said():
    elastic = family()
    unknown = ElasticModel(elastic.vit, replace(elastic.table, source={}))
    card = model_card(unknown, elastic.backbone.full, ["torch"], {})
    assert "licence of the pretrained weights is not recorded" in card
    assert "license:" not in card


def test_an_export_has_its_card(tmp_path):
    folder = export(family(), tmp_path / "x", KEYS[0], formats=["torch"])
    assert "README.md" in read_export(folder)["files"]
    assert f"# {KEYS[0]}" in (folder / "README.md").read_text()
