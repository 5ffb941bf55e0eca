"""Where weights come from: the shipped file is real, small and says how it was made; mistakes are named."""

from importlib.resources import files

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from eavit import weights
from eavit.model.vit import NestedViT
from eavit.training.pretrain import pretrain_pico
from tests.eavit.small import Blobs

SHIPPED = files("eavit") / weights.PICO_FILE


def test_the_shipped_backbone_is_small_and_tells_its_origin():
    assert SHIPPED.stat().st_size < 2_000_000
    with safe_open(SHIPPED, framework="pt") as file:
        note = file.metadata()
    assert note["made_by"] == "tox run -e pretrain"
    assert float(note["held_out_top1"]) > 0.9
    assert {"recipe", "license"} <= set(note)


def test_the_pico_backbone_is_what_the_suite_says():
    vit = NestedViT.from_timm(weights.pico_letters(10))
    b = vit.backbone
    assert (b.embed, b.heads, b.depth, b.tokens, b.num_classes) == (96, 6, 6, 10, 10)
    assert 600_000 < sum(p.numel() for p in vit.parameters()) < 800_000
    assert torch.equal(vit.head.weight, torch.zeros(10, 96))


def test_pretrained_weights_are_the_same_every_time_and_not_random():
    one, two = (weights.pico_letters(10).state_dict() for _ in range(2))
    fresh = weights.pico(10).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.allclose(one["blocks.0.attn.qkv.weight"], fresh["blocks.0.attn.qkv.weight"], atol=0.1)


def test_a_timm_backbone_from_a_local_file(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    made = weights.timm_vit(3, "vit_tiny_patch16_224", path=str(tmp_path / "w.safetensors"), img_size=32)
    assert torch.equal(made.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)
    assert made.num_classes == 3
    assert not made.head.weight.any()


def test_a_backbone_can_start_from_the_same_random_weights():
    options = {"img_size": 32, "depth": 2}
    one, two = (weights.timm_vit(3, "vit_tiny_patch16_224", pretrained=False, **options) for _ in range(2))
    assert len(one.blocks) == 2 and one.head.out_features == 3
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    with pytest.raises(ValueError, match=r"path='w' contradicts pretrained=false"):
        weights.timm_vit(3, "vit_tiny_patch16_224", path="w", pretrained=False)


def test_positions_are_resampled_to_another_size(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    made = weights.timm_vit(3, "vit_tiny_patch16_224", path=str(tmp_path / "w.safetensors"), img_size=64)
    assert made.pos_embed.shape[1] == 17


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="vit_bse_patch16_224.*nearest: vit_base_patch16_224"):
        weights.timm_vit(3, "vit_bse_patch16_224")
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.safetensors"):
        weights.timm_vit(3, "vit_tiny_patch16_224", path=str(tmp_path / "nowhere.safetensors"))
    source = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).state_dict()
    source["blocks.0.attn.qkv.weights"] = source.pop("blocks.0.attn.qkv.weight")
    save_file(source, tmp_path / "w.safetensors")
    with pytest.raises(RuntimeError, match=r"blocks\.0\.attn\.qkv\.weight"):
        weights.timm_vit(3, "vit_tiny_patch16_224", path=str(tmp_path / "w.safetensors"), img_size=32)


def test_a_timm_vit_may_start_from_random_weights():
    torch.manual_seed(3)
    made = weights.timm_vit(3, "vit_tiny_patch16_224", pretrained=False, img_size=32, in_chans=1)
    assert made(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    assert made.head.weight.abs().sum() > 0  # as timm starts it
    with pytest.raises(ValueError, match="path='w.safetensors' contradicts pretrained=false"):
        weights.timm_vit(3, "vit_tiny_patch16_224", path="w.safetensors", pretrained=False)


class Larger(Blobs):
    """The blobs at the size of the pico backbone."""

    def _all(self):
        images, labels = super()._all()
        return images.repeat_interleave(6, -1).repeat_interleave(6, -2), labels


def test_pretraining_is_repeatable_and_resumes(tmp_path):
    def made(name, **options):
        path = tmp_path / name
        top1 = pretrain_pico(Larger(256), Larger(30, 5), 3, path, epochs=2, **options)
        with safe_open(path, framework="pt") as file:  # not the bytes: the order of the metadata is not fixed
            return top1, {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118

    def killed(phase, done, total):
        if done == 3:
            raise KeyboardInterrupt

    top1, straight, note = made("a.safetensors", note={"made_by": "a test"})
    assert top1 > 0.9
    with pytest.raises(KeyboardInterrupt):
        made("b.safetensors", progress=killed)
    again = made("b.safetensors", note={"made_by": "a test"})
    assert (again[0], again[2]) == (top1, note)
    assert all(torch.equal(again[1][key], value) for key, value in straight.items())
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["a.safetensors", "b.safetensors"]
