"""Pretraining writes weights that the library loads, with their recipe, and continues where it was killed."""

import json

from safetensors import safe_open

from eavit import weights
from harness import pretrain


def test_weights_come_with_their_recipe_and_can_be_loaded(tmp_path, monkeypatch, capsys):
    whole = pretrain.synthetic.letter_images
    monkeypatch.setattr(
        pretrain.synthetic, "letter_images", lambda size, count, seed: whole(size, min(count, 74), seed)
    )
    out = tmp_path / "letters.safetensors"
    pretrain.main(out, images=74, epochs=1.0, seed=3, threads=1)
    with safe_open(out, "pt") as file:
        note = file.metadata()
        saved = set(file.keys())
    assert json.loads(note["recipe"])["seed"] == 3
    assert 0 <= float(note["held_out_top1"]) <= 1
    assert saved == set(weights.pico(37).state_dict())
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert "held-out letters" in capsys.readouterr().out
