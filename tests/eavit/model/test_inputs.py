"""Statistics of what linear layers read, against the plain computation; batches that are none."""

import pytest
import torch

from eavit.model.inputs import Inputs, images_and_labels, readers, watch_inputs, writers
from eavit.model.vit import NestedViT
from tests.eavit.small import Blobs, tiny


def test_statistics_are_those_of_all_rows_together():
    rows = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, products = Inputs(), Inputs()
    for part in rows:
        plain.add(part)
        products.add(part, products=True)
    flat = rows.flatten(0, 1)
    assert torch.allclose(plain.mean, flat.mean(0))
    assert torch.allclose(plain.variance, flat.var(0, correction=0))
    assert torch.allclose(products.variance, torch.cov(flat.T, correction=0))
    assert torch.allclose(products.variance.diagonal(), plain.variance)


def test_each_layer_is_watched_on_all_tokens_of_all_images():
    vit = tiny()
    seen = watch_inputs(vit, Blobs(32).batches(16), readers(vit) | writers(vit))
    tokens = vit.backbone.tokens
    assert {name: each.count for name, each in seen.items()} == {
        name: 32 * (1 if name == "head" else tokens) for name in [*readers(vit), *writers(vit)]
    }
    assert len(seen) == 4 * vit.backbone.depth + 1


def test_other_backbones_are_refused_with_the_way_out():
    import timm

    eva = timm.create_model("eva02_tiny_patch14_224", img_size=28, patch_size=14, depth=2, embed_dim=24, num_heads=2)
    with pytest.raises(ValueError, match="Eva: statistics of inputs.*importance='taylor'"):
        watch_inputs(NestedViT.from_timm(eva), [(torch.zeros(1, 3, 28, 28), torch.zeros(1))], ["head"])


def test_batches_without_any_are_refused():
    with pytest.raises(ValueError, match="no batch"):
        list(images_and_labels(tiny(), []))
