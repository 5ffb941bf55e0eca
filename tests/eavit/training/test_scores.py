"""What a search maximises: accuracy, or a score of rankings over all images."""

import pytest
import torch

from eavit.methods import (
    dynabert,
    ea_vit,
    ea_vit_plus,
    fixed_uniform,
    flextron,
    pruned,
    scala,
    sortednet,
)
from eavit.training.execution import Execution
from eavit.training.prepare import prepare, start
from eavit.training.scores import ACCURACY, accuracy_of, auroc, mean_average_precision, mean_iou, score_of, score_on
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, plain, tiny

SEVERAL = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0.0]])


class Findings(Blobs):
    """Several labels an image: its own class, and for some the next one."""

    @property
    def labels(self):
        return self._several(super().labels)

    @staticmethod
    def _several(labels):
        own = torch.nn.functional.one_hot(labels, 3)
        more = torch.nn.functional.one_hot((labels + 1) % 3, 3) * (torch.arange(len(labels)) % 4 == 0)[:, None]
        return (own + more).float()

    def batches(self, size, *, seed=None, epoch=0):
        several = self.labels
        if seed is None:
            yield from zip(self._all()[0].split(size), several.split(size), strict=True)
            return
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for rows in order[: self.count // size * size].split(size):
            yield self._all()[0][rows], several[rows]


class FindingsTask(TinyTask):
    score = "mean_average_precision"


def task(folder, score="mean_average_precision", **schedule):
    run = FindingsTask(folder, Findings(), Findings(48, 1), Findings(48, 2), schedule=SCHEDULE | schedule)
    run.score = score
    return run


def test_a_task_that_names_no_score_is_about_accuracy(tmp_path):
    assert score_of(TinyTask(tmp_path)) == ACCURACY and score_of(task(tmp_path, "auroc")) == "auroc"


def test_perfect_and_reversed_rankings():
    for score in (mean_average_precision, auroc):
        assert score(SEVERAL * 9 - 3, SEVERAL) == 1.0
    assert auroc(-SEVERAL, SEVERAL) == 0.0


def test_average_precision_and_auroc_by_hand():
    """A class with right images at ranks 1 and 3 of four; another at rank 2; the third has none and does not count."""
    logits = torch.tensor([[4, 3, 0], [1, 4, 0], [3, 2, 0], [2, 1, 0.0]])
    labels = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0.0]])
    assert mean_average_precision(logits, labels) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert auroc(logits, labels) == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_labels_without_any_class_to_tell_apart_are_refused():
    with pytest.raises(ValueError, match="each class needs an image that has it and one that has not"):
        auroc(SEVERAL, torch.ones(4, 3))


def test_a_score_is_that_of_all_images_however_they_are_batched():
    vit, split = tiny(), Findings(50)
    images, labels = next(split.batches(50))
    with torch.no_grad():
        whole = auroc(vit(images), labels)
    assert score_on(split, "auroc", vit, batch=7) == pytest.approx(whole)
    assert score_on(split, "auroc", vit, execution=Execution(micro_batch=4)) == pytest.approx(whole)
    assert score_on(Blobs(50), ACCURACY, vit, vit.backbone.full) == accuracy_of(vit(images), Blobs(50).labels)


def test_every_class_of_several_is_probed(tmp_path):
    run = task(tmp_path)
    before = score_on(run.select_a, run.score, start(run))
    assert score_on(run.select_a, run.score, prepare(run, start(run), "taylor")) > max(0.8, before)


def test_a_class_that_all_images_have_keeps_its_head(tmp_path):
    class Always(Findings):
        @property
        def labels(self):
            return torch.cat([super().labels[:, :2], torch.ones(self.count, 1)], 1)

    run = task(tmp_path)
    run.fit = Always()
    vit = start(run)
    head = vit.head.weight.detach().clone()
    kept = [torch.equal(row, old) for row, old in zip(prepare(run, vit, "none").head.weight, head, strict=True)]
    assert kept == [False, False, True]


METHODS = {
    "dynabert": dynabert(),
    "ea_vit": ea_vit(search={"population": 4, "generations": 1}),
    "ea_vit_plus": ea_vit_plus(shapes={"population": 8, "generations": 1}),
    "fixed_uniform": fixed_uniform(),
    "flextron": flextron(),
    "pruned": pruned(images=32),
    "scala": scala(),
    "sortednet": sortednet(),
}


@pytest.mark.parametrize(
    ("name", "score"), [*((name, "mean_average_precision") for name in METHODS), ("ea_vit", "auroc")]
)
def test_methods_learn_several_labels_and_choose_by_their_score(name, score, tmp_path):
    if name == "pruned":
        pytest.importorskip("torch_pruning")
    run = task(tmp_path, score, epochs=6.0)
    adapted = METHODS[name].adapt(run)
    choice = adapted.select(1.0)
    assert score_on(Findings(60, 9), score, adapted.module(choice)) > 0.8


# --- a class for each pixel -------------------------------------------------------------------------------------


class Scenes(Blobs):
    """Images of 8 x 8 whose left or right half is bright or dark, on noise: background, bright and dark."""

    def _all(self):
        generator = torch.Generator().manual_seed(self.seed)
        images = 0.2 * torch.randn(self.count, 1, 8, 8, generator=generator)
        masks = torch.zeros(self.count, 8, 8, dtype=torch.uint8)
        for row in range(self.count):
            columns = slice(0, 4) if row % 2 else slice(4, 8)
            kind = 1 + row // 2 % 2
            masks[row, :, columns], images[row, :, :, columns] = kind, images[row, :, :, columns] + 3 - 2 * kind
        masks[:, 0] = 255
        return images, masks


class SceneTask(TinyTask):
    score = "mean_iou"

    def backbone(self):
        return plain(img_size=8, global_pool="")


def scenes(folder, **schedule):
    return SceneTask(folder, Scenes(), Scenes(48, 1), Scenes(48, 2), schedule=SCHEDULE | schedule)


def test_mean_iou_by_hand():
    """Two images of 2 x 2 patches as large as their pixels; one pixel does not count, the third class is not there."""
    truth = torch.tensor([[[0, 0], [1, 1]], [[0, 1], [255, 1]]], dtype=torch.uint8)
    said = torch.tensor([[[0, 1], [1, 1]], [[0, 1], [0, 0]]])
    logits = torch.nn.functional.one_hot(said.flatten(1), 3).float()
    assert mean_iou(logits, truth) == pytest.approx((2 / 4 + 3 / 5) / 2)
    assert mean_iou(torch.nn.functional.one_hot(truth.clamp_max(2).long().flatten(1), 3).float(), truth) == 1.0


def test_patches_are_probed(tmp_path):
    run = scenes(tmp_path)
    before = score_on(run.select_a, run.score, start(run))
    assert score_on(run.select_a, run.score, prepare(run, start(run), "rotated")) > max(0.5, before)


@pytest.mark.parametrize("name", METHODS)
def test_methods_learn_a_class_for_each_pixel(name, tmp_path):
    if name == "pruned":
        pytest.importorskip("torch_pruning")
    adapted = METHODS[name].adapt(scenes(tmp_path, epochs=6.0))
    module = adapted.module(adapted.select(1.0))
    assert score_on(Scenes(60, 9), "mean_iou", module) > 0.6
    assert module(Scenes(4).batches(4).__next__()[0]).shape == (4, 17, 3)
