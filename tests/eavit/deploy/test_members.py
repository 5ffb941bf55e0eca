"""Members of a policy are each submodel that it gives, measured on every image with the parameters that it deploys."""

import pytest
import torch

from eavit.deploy.members import distinct_members, image_digest, measured, own_parameters
from eavit.model.submodel import Submodel
from eavit.model.vit import extract
from tests.eavit.families import KEYS
from tests.eavit.small import Blobs, tiny

SMALL, MIXED, FULL = map(Submodel.parse, KEYS)


def test_a_policy_is_asked_between_the_budgets_too():
    def policy(budget):
        return None if budget < 0.2 else SMALL if budget < 0.5 else MIXED if budget < 0.9 else FULL

    assert distinct_members(policy, [1.0, 0.1]) == [SMALL, MIXED, FULL]
    assert distinct_members(policy, [0.1]) == []


def test_members_are_measured_on_all_images_with_their_own_parameters():
    vit, splits = tiny(), [Blobs(20, 1), Blobs(9, 2)]
    own_head = torch.randn(3, generator=torch.Generator().manual_seed(0))

    def module(member):
        deployed = extract(vit, member).eval()
        if member == MIXED:
            deployed.head.bias.data = own_head
        return deployed

    own = own_parameters(vit, module, [SMALL, MIXED])
    assert {member: list(values) for member, values in own.items()} == {MIXED: ["head.bias"]}
    steps = []
    results = list(measured(vit, [SMALL, MIXED], own, splits, lambda *step: steps.append(step)))
    for member, result in zip([SMALL, MIXED], results, strict=True):
        with torch.no_grad():
            right = [int((module(member)(x).argmax(1) == y).sum()) for split in splits for x, y in split.batches(64)]
        assert (result.correct, result.n) == (sum(right), 29)
    assert steps == [("measure", 1, 2), ("measure", 2, 2)]


def test_a_module_of_other_widths_is_refused():
    with pytest.raises(ValueError, match="no submodel of one ViT"):
        own_parameters(tiny(), lambda member: extract(tiny(), FULL), [SMALL])


def test_the_digest_depends_on_images_and_labels_and_not_on_batches():
    images, labels = Blobs(30)._all()
    whole = image_digest([(images, labels)])
    assert image_digest(zip(images.split(7), labels.split(7), strict=True)) == whole
    assert image_digest([(images.flip(0), labels)]) != whole
    assert image_digest([(images, labels.flip(0))]) != whole
