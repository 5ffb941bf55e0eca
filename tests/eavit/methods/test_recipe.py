"""Cards say what the sources say: the facts of each rival that decide whether it is told fairly."""

import json
import re
from inspect import signature

import pytest
import timm
import torch

from eavit import methods
from eavit.methods import recipe
from eavit.methods.recipe import Card
from eavit.methods.sizes import tied
from eavit.model.timm_layout import CannotNestError
from tests.eavit.conforming import METHODS, made

# method -> words that its card must hold, by part: numbers and facts of the public sources
FACTS = {
    "autoformer": {"code": "microsoft/Cream", "parameters": "population 50, 20 rounds", "step": "1 submodel"},
    "dynabert": {"code": "huawei-noah", "parameters": "0.25.*0.5.*0.75", "step": "2.84", "distillation": "hidden"},
    "ea_vit": {"code": "zcxcf/EA-ViT", "paper": "2507.19360", "parameters": r"0.1, 0.15, 0.2, 0.25, 0.3, 0.35"},
    "flextron": {"code": "none public", "title": "-style", "parameters": "from 1 to 0.1"},
    "hydravit": {"code": "ds-kiel/HydraViT", "parameters": r"256 k", "step": "0.46"},
    "matformer": {"code": "MatFormer-OLMo", "step": "2.65", "selection": "Mix'n'Match"},
    "ofa": {"code": "mit-han-lab/once-for-all", "parameters": "3 x 400"},
    "own_pretraining": {"parameters": r"1\.25, 4\.6, 17\.56", "selection": "fits"},
    "pruned": {"code": "VainF/Torch-Pruning", "paper": "2301.12900", "parameters": "bisection"},
    "sandwich": {"code": "slimmable_networks.*AttentiveNAS", "step": "1.95"},
    "scala": {"code": "BeSpontaneous/Scala-pytorch", "step": "1.95", "parameters": "0.25 to 1"},
    "sortednet": {"code": "none public", "title": "-style"},
}
# errors of the sources that ours must not have, told where it differs
NOT_INHERITED = {
    "autoformer": "interleaved",
    "scala": "queries only.*LayerScale",
    "dynabert": "always",
    "pruned": "head ratio at 0.5",
}
here = [name for name in methods.__all__ if name in METHODS]


@pytest.mark.parametrize("name", [name for name in here if name in FACTS])
def test_a_card_holds_its_source_s_facts(name):
    card = made(name).card
    for part, words in FACTS[name].items():
        assert re.search(words, json.dumps(card[part], ensure_ascii=False)), f"{name}: card.{part} lacks {words!r}"


@pytest.mark.parametrize("name", [name for name in here if name in NOT_INHERITED])
def test_a_card_tells_the_source_s_error_that_is_not_inherited(name):
    assert re.search(NOT_INHERITED[name], json.dumps(made(name).card["deviations"]))


def test_rivals_without_public_code_are_named_style_and_those_with_code_are_not():
    for name in here:
        card = made(name).card
        named = "-style" in card["title"]
        rival = name != "selected" and not card["paper"].startswith("none")  # ours, with EA-ViT's paper
        assert named == (rival and card["code"] == "none public"), card["title"]


def test_titles_differ_and_papers_are_findable():
    cards = [made(name).card for name in here]
    assert len({card["title"] for card in cards}) == len(cards)
    for card in cards:
        assert card["paper"].startswith("none") or re.search(r"arXiv \d{4}\.\d{5}", card["paper"]), card["paper"]


def test_a_card_names_the_values_of_this_very_recipe():
    """A card of pruned with other options is another card."""
    options = {"importance": "l2", "units": "inner", "images": 64, "round_to": 8}
    told = made("pruned", **options).card["parameters"]
    assert (told["importance"][0], told["images"][0], told["round_to"][0]) == ("l2", 64, 8)
    assert told["units"][0] == "heads and hidden neurons"
    assert set(signature(methods.pruned).parameters) <= set(told)


def test_a_card_as_plain_values():
    card = Card("t", "p", "c", "e", "s", "d", "n", {"a": ((1, 2), "paper")}, ("x",), ("y", "z"))
    assert json.loads(json.dumps(card.as_dict())) == {
        "title": "t", "paper": "p", "code": "c", "elastic": "e", "step": "s", "distillation": "d", "selection": "n",
        "parameters": {"a": [[1, 2], "paper"]}, "ours": ["x"], "deviations": ["y", "z"],
    }  # fmt: skip


def test_a_check_names_budgets_out_of_reach_and_backbones_that_cannot_be_nested():
    with torch.device("meta"):
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
        post = timm.create_model("vit_base_patch16_rpn_224", img_size=32, num_classes=3, depth=1)
    method = recipe.Recipe("m", print, space=lambda backbone, _: tied(backbone, 0.5))
    assert method.check(vit, (0.5, 1.0), (), "equal_steps") == []
    (said,) = method.check(vit, (0.1, 0.2, 1.0), (), "equal_steps")
    assert said.startswith("budgets 0.1, 0.2 cannot be reached: its smallest submodel takes 0.")
    assert recipe.Recipe("m", print).check(vit, (0.1,), (), "equal_steps") == []
    with pytest.raises(CannotNestError, match="ResPostBlock"):
        method.check(post, (1.0,), (), "equal_steps")


def test_a_check_refuses_what_no_task_can_repair():
    with torch.device("meta"):
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
    with pytest.raises(ValueError, match="fixed_same_shape comes after one method.*names 0"):
        methods.fixed_same_shape().check(vit, (1.0,), (), "equal_steps")
    assert methods.fixed_same_shape().check(vit, (1.0,), ("a",), "equal_steps") == []
    with pytest.raises(ValueError, match="trained_alone comes after 1 or more methods"):
        methods.trained_alone().check(vit, (1.0,), (), "equal_steps")
    pieces = methods.sortednet(micro_batches=8)
    assert pieces.check(vit, (1.0,), (), "equal_steps", 8) == pieces.check(vit, (1.0,), (), "equal_steps") == []
    with pytest.raises(ValueError, match="sortednet with these options needs 8 images in a step; batch is 7"):
        pieces.check(vit, (1.0,), (), "equal_steps", 7)
    triggered = methods.ea_vit(stage1={"curriculum": "triggered"})
    assert triggered.check(vit, (1.0,), (), "equal_steps") == []
    with pytest.raises(ValueError, match="its cost is not known before; it needs regime = 'equal_steps'"):
        triggered.check(vit, (1.0,), (), "equal_macs")


@pytest.mark.parametrize("name", METHODS)
def test_budgets_below_the_smallest_submodel_are_named(name):
    with torch.device("meta"):
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
    method = made(name)
    said = method.check(vit, (0.001, 1.0), ("a",) * max(1, method.after[0]), "equal_steps")
    assert said == [] if method.space is None else "0.001 cannot be reached" in said[0]
