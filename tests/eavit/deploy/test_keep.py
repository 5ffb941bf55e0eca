"""What a method adapted in the bench is read as a family: the same choices, logits and accuracy on the folds."""

import pytest
import torch

from eavit import load
from eavit.deploy.artifact import MANIFEST
from eavit.methods.answers import Elastic
from eavit.model.submodel import Submodel
from eavit.model.vit import extract
from tests.eavit.conforming import made
from tests.eavit.small import TinyTask, tiny

ABOUT = {
    "classes": ["bright", "dark", "checked"],
    "data": {"input_size": [1, 4, 4], "mean": [0.5], "std": [0.5]},
    "origin": {"method": "mine", "dataset": "blobs"},
}


@pytest.mark.parametrize("method", ["ea_vit_plus", "matformer"])
def test_a_kept_family_answers_as_the_method_did(tmp_path, method):
    task = TinyTask(tmp_path / "work")
    adapted = made(method).adapt(task)
    adapted.save(tmp_path / "kept", task, ABOUT)
    family = load(tmp_path / "kept")
    assert family.table.classes == tuple(ABOUT["classes"])
    assert family.table.method["dataset"] == "blobs"
    assert family.table.validation.images == len(task.select_a) + len(task.select_b)
    images = torch.cat([images for fold in (task.select_a, task.select_b) for images, _ in fold.batches(64)])
    labels = torch.cat([task.select_a.labels, task.select_b.labels])
    members = {m.submodel: m for m in family.members}
    for budget in task.budgets:
        choice = adapted.select(budget)
        assert family.table.budgets[budget] == (None if choice is None else str(choice))
        if choice is not None:
            with torch.no_grad():
                logits = adapted.module(choice)(images)
                torch.testing.assert_close(family.extract(choice)(images), logits)
            assert members[choice].correct == int((logits.argmax(1) == labels).sum())


def test_what_one_vit_cannot_hold_is_refused_by_name(tmp_path):
    def widened(vit, submodel):
        return extract(vit, Submodel(12, (4,) * 3, (24,) * 3))

    odd = Elastic(tiny(), lambda budget: Submodel(6, (2,) * 3, (12,) * 3), cut=widened)
    with pytest.raises(ValueError, match="deploys a module that is no submodel"):
        odd.save(tmp_path / "kept", TinyTask(tmp_path), ABOUT)
    assert not (tmp_path / "kept" / MANIFEST).exists()
