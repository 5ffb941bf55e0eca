"""Members of a family: what its policy gives over a grid of budgets, each measured on the validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from eavit.deploy.elastic import MeasuredMember
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract
from eavit.training.task import Progress, Split

GRID = 16  # budgets at which a policy is asked beside those that were wanted
BATCH = 256

Policy = Callable[[float], Submodel | None]
BySize = Mapping[Submodel, Mapping[str, Tensor]]


def distinct_members(policy: Policy, budgets: Iterable[float]) -> list[Submodel]:
    """The submodels that a policy gives for the budgets and for an even grid from the smallest to the largest one."""
    wanted = sorted(budgets)
    low, high = wanted[0], wanted[-1]
    grid = [low + (high - low) * i / (GRID - 1) for i in range(GRID)]
    answers = (policy(budget) for budget in sorted({*wanted, *grid}))
    return list(dict.fromkeys(answer for answer in answers if answer is not None))


def own_parameters(vit: NestedViT, module: Callable[[Submodel], nn.Module], members: Iterable[Submodel]) -> BySize:
    """Parameters of members that are not a slice of the shared ones. ``module``: what the method would deploy."""
    own: dict[Submodel, dict[str, Tensor]] = {}
    for member in members:
        deployed, plain = module(member).state_dict(), extract(vit, member).state_dict()
        if deployed.keys() != plain.keys() or any(deployed[k].shape != plain[k].shape for k in plain):
            raise ValueError(f"{member}: the method deploys a module that is no submodel of one ViT; it cannot be kept")
        different = {k: deployed[k].detach().clone() for k in plain if not torch.equal(deployed[k], plain[k])}
        if different:
            own[member] = different
    return own


@torch.inference_mode()
def measured(
    vit: NestedViT, members: list[Submodel], by_size: BySize, splits: Sequence[Split], progress: Progress
) -> Iterator[MeasuredMember]:
    """Each member with its correct predictions on all images of the splits."""
    vit.eval()
    device = next(vit.parameters()).device
    for done, member in enumerate(members):
        run: Any = vit
        if member in by_size:
            plain = extract(vit, member).eval()
            plain.load_state_dict({**plain.state_dict(), **by_size[member]})
            run = plain
        widths = () if member in by_size else (member,)
        batches = (batch for split in splits for batch in split.batches(BATCH))
        pairs = ((run(x.to(device), *widths).argmax(-1).cpu(), y) for x, y in batches)
        yield MeasuredMember(member, sum(int((guess == y).sum()) for guess, y in pairs), sum(map(len, splits)))
        progress("measure", done + 1, len(members))


class ImageDigest:
    """SHA-256 of images and labels, whatever the batches they come in."""

    def __init__(self) -> None:
        self._images, self._labels = sha256(), sha256()

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        self._images.update(images.detach().cpu().contiguous().float().numpy().data)
        self._labels.update(labels.numpy().data)

    def hexdigest(self) -> str:
        """The digest of all batches so far, as 64 hexadecimal digits."""
        return sha256(self._images.digest() + self._labels.digest()).hexdigest()


def image_digest(batches: Iterable[tuple[Tensor, Tensor]]) -> str:
    """SHA-256 of all images and labels of some batches."""
    digest = ImageDigest()
    for images, labels in batches:
        digest.add(images, labels)
    return digest.hexdigest()
