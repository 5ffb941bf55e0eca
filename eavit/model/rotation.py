"""Rotate the residual stream so that its first channels hold most of its variance; the full model stays as it is.

A LayerNorm without weight and bias commutes with every rotation that leaves the vector of ones where it is. So weights
and biases of the norms go into the layers that read them, LayerScale into those that write, the writers' outputs lose
their mean over channels (no norm sees it), and then the stream can be rotated: principal components first, and last the
direction that the mean had. Sorting channels is the special case of a permutation. For RMSNorm without nesting:
SliceGPT, ICLR 2024, arXiv 2401.15024; rotation before sorting in a nested ViT: SKD, arXiv 2511.11683.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from eavit.model.attributes import fault_of_statistics
from eavit.model.inputs import Batches, last_norm, norms_of_readers, readers, watch_inputs, writers
from eavit.model.timm_layout import copy_with
from eavit.model.vit import NestedViT

TOKENS = ("cls_token", "reg_token", "pos_embed")


class CannotRotateError(ValueError):
    """The residual stream cannot be rotated without another function of the full model; the message says why."""


def faults_of_rotation(vit: NestedViT) -> list[str]:
    """Reasons why a rotation would change the full model; empty if there is none."""
    if fault := fault_of_statistics(vit):
        return [fault]
    faults = []
    if not isinstance(vit.norm_pre, nn.Identity):
        faults.append("norm_pre: its scales of single channels do not rotate")
    if not isinstance(vit.head, nn.Linear):
        faults.append("head: there is none, so the features themselves would be rotated")
    elif not isinstance(vit.get_submodule(last_norm(vit)), nn.LayerNorm):
        faults.append("norm, fc_norm: the head reads the stream without a norm")
    if vit.global_pool not in ("token", "avg", ""):
        faults.append(f"global_pool: {vit.global_pool!r} takes the maximum of each channel, which does not rotate")
    bare = [name for name, layer in readers(vit).items() if layer.bias is None]
    if bare:
        faults.append(f"{bare[0]}: has no bias that could take up the one of the norm before it")
    return faults


@torch.no_grad()
def rotate(vit: NestedViT, batches: Batches) -> NestedViT:
    """A copy of ``vit`` with the same full model whose channels are principal components, those of most variance first.

    ``batches`` yields ``(images, labels)`` from the fit split; a few hundred images do. CannotRotateError where the
    full model would become another one.
    """
    faults = faults_of_rotation(vit)
    if faults:
        raise CannotRotateError(
            f"the channels of this backbone cannot be rotated: {'; '.join(faults)}; importance='variance' sorts them "
            "instead"
        )
    new = copy_with(vit, dict(vit.named_parameters()))
    _fold_norms(new)
    _fold_scales(new)
    _centre(new)
    inputs = watch_inputs(new, batches, readers(new), products=True)
    covariance = torch.stack([each.variance for each in inputs.values()]).sum(0)
    _apply(new, principal_basis(covariance))
    return new


def _fold_norms(vit: Any) -> None:
    """Give weight and bias of each norm to the layer that reads it."""
    for pair in norms_of_readers(vit):
        reader, norm = map(vit.get_submodule, pair)
        reader.bias += reader.weight @ norm.bias
        reader.weight *= norm.weight
        norm.weight.fill_(1)
        norm.bias.zero_()


def _fold_scales(vit: Any) -> None:
    """Give the factors of LayerScale to the layer before it."""
    for block in vit.blocks:
        for scale, writer in ((block.ls1, block.attn.proj), (block.ls2, block.mlp.fc2)):
            if not isinstance(scale, nn.Identity):
                writer.weight *= scale.gamma[:, None]
                if writer.bias is not None:
                    writer.bias *= scale.gamma
                scale.gamma.fill_(1)


def _written(vit: Any) -> Iterator[tuple[Tensor, int]]:
    """Parameters that write to the stream, each with the dimension of its channels."""
    for layer in (vit.patch_embed.proj, *writers(vit).values()):
        yield layer.weight, 0
        if layer.bias is not None:
            yield layer.bias, 0
    for token in (getattr(vit, name) for name in TOKENS):
        if token is not None:
            yield token, -1


def _centre(vit: Any) -> None:
    for parameter, channels in _written(vit):
        parameter -= parameter.mean(channels, keepdim=True)


def principal_basis(covariance: Tensor) -> Tensor:
    """Orthogonal matrix (channels, channels) that maps the stream to its principal components, in descending order of
    variance, and the vector of ones to itself.

    Exactly orthogonal components cannot each be free of the mean, so all are turned a little: by the reflection that
    brings the last one, of no variance, to the direction of the ones.
    """
    count = len(covariance)
    ones = torch.full((count,), count**-0.5, dtype=covariance.dtype, device=covariance.device)
    away = torch.eye(count).to(covariance) - torch.outer(ones, ones)
    _, components = torch.linalg.eigh(away @ covariance @ away)
    basis, _ = torch.linalg.qr(torch.cat([ones[:, None], components.flip(1)[:, :-1]], 1))
    basis = torch.cat([basis[:, 1:], ones[:, None]], 1)
    mirror = -ones
    mirror[-1] += 1
    reflection = torch.eye(count).to(covariance) - 2 * torch.outer(mirror, mirror) / mirror.square().sum()
    return reflection @ basis.T


def _apply(vit: Any, rotation: Tensor) -> None:
    for parameter, channels in _written(vit):
        rows = parameter.double().movedim(channels, 0)
        parameter.copy_(
            (rotation @ rows.flatten(1)).view(rows.shape).movedim(0, channels) if rows.ndim > 1 else rotation @ rows
        )
    for reader in readers(vit).values():
        reader.weight.copy_(reader.weight.double() @ rotation.T)
