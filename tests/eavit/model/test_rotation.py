"""A rotated stream is the same full model, with the channels of most variance first; refusals name their part."""

import pytest
import torch

from eavit.model.inputs import readers, watch_inputs
from eavit.model.rotation import CannotRotateError, principal_basis, rotate
from eavit.model.vit import NestedViT
from tests.eavit.small import Blobs, plain
from tests.strategies import assert_same


def vit_of(**changes):
    model = plain(**changes).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # norms and scales that are not one, biases that are not zero
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return NestedViT.from_timm(model)


def data():
    return [(x.double(), y) for x, y in Blobs().batches(32)]


@pytest.mark.parametrize(
    "changes", [{}, {"init_values": 0.1}, {"global_pool": "avg"}, {"reg_tokens": 2, "qk_norm": True}], ids=str
)
def test_the_full_model_stays_as_it_is(changes):
    vit = vit_of(**changes)
    x = data()[0][0]
    with torch.no_grad():
        assert_same(rotate(vit, data())(x), vit(x), 1e-10)


def test_channels_come_by_descending_variance():
    vit = rotate(vit_of(), data())
    inputs = watch_inputs(vit, data(), readers(vit), products=True)
    covariance = torch.stack([each.variance for each in inputs.values()]).sum(0)
    variances = covariance.diagonal()
    assert (variances[:-1].diff() <= 0.05 * variances[0]).all()
    assert variances[:6].sum() > 0.8 * variances.sum()


def test_the_basis_is_orthogonal_and_keeps_the_ones():
    rows = torch.randn(40, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = principal_basis(rows.T @ rows)
    assert torch.allclose(basis @ basis.T, torch.eye(9, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(basis.sum(1), torch.ones(9, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pre_norm": True}, "norm_pre"),
        ({"num_classes": 0}, "head"),
        ({"global_pool": "max"}, "global_pool: 'max'"),
        ({"qkv_bias": False}, "attn.qkv: has no bias"),
    ],
    ids=str,
)
def test_what_cannot_be_rotated_is_named(changes, named):
    with pytest.raises(CannotRotateError, match=f"{named}.*importance='variance'"):
        rotate(NestedViT.from_timm(plain(**changes)), Blobs().batches(32))
