"""Scores of a whole test split, and what guessing gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score

from eavit.training import scores as of_a_search
from harness.evaluation import scores
from harness.tasks import AUROC, IGNORED, MEAN_AVERAGE_PRECISION, MEAN_IOU


def drawn(classes: int = 5, n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, classes, generator=generator)
    return logits, (torch.sigmoid(logits) > torch.rand(n, classes, generator=generator)).float()


def test_scores_are_the_macro_means_of_scikit_learn_and_those_of_a_search() -> None:
    logits, labels = drawn()
    values = scores.split_scores(logits, labels)
    truth, answers = labels.numpy(), logits.numpy()
    assert values[MEAN_AVERAGE_PRECISION] == pytest.approx(average_precision_score(truth, answers, average="macro"))
    assert values[AUROC] == pytest.approx(roc_auc_score(truth, answers, average="macro"))
    for name, value in values.items():
        assert of_a_search.SCORES[name](logits, labels) == pytest.approx(value)


def test_a_class_that_every_image_or_none_has_is_left_out() -> None:
    logits, labels = drawn()
    spoilt = labels.clone()
    spoilt[:, 0], spoilt[:, 3] = 0, 1
    left = [1, 2, 4]
    assert scores.split_scores(logits, spoilt) == scores.split_scores(logits[:, left], labels[:, left])
    assert scores.chance_levels(spoilt, 5) == scores.chance_levels(labels[:, left], 3)


def test_chance_is_what_random_orders_get() -> None:
    _, labels = drawn(3, 200)
    rng = torch.Generator().manual_seed(1)
    guesses = [scores.split_scores(torch.randn(200, 3, generator=rng), labels) for _ in range(60)]
    for name, level in scores.chance_levels(labels, 3).items():
        assert np.mean([guess[name] for guess in guesses]) == pytest.approx(level, abs=0.02)


# --- a class for each pixel -------------------------------------------------------------------------------------


def masked(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(3, (n, 8, 8), generator=generator, dtype=torch.uint8)
    masks[:, 0] = IGNORED
    return torch.randn(n, 1 + 16, 4, generator=generator), masks


def test_mean_iou_is_that_of_scikit_learn_and_of_a_search() -> None:
    logits, masks = masked()
    answers = scores.enlarged_logits(logits, masks).argmax(1)
    counted = masks != IGNORED
    theirs = jaccard_score(masks[counted].numpy(), answers[counted].numpy(), average="macro", labels=range(4))
    assert scores.split_scores(logits, masks) == {MEAN_IOU: pytest.approx(theirs)}
    assert of_a_search.mean_iou(logits, masks) == pytest.approx(theirs)


def test_guessing_pixels_is_saying_the_most_frequent_class() -> None:
    _, masks = masked()
    masks[:, 1:5] = 1
    said = torch.zeros(40, 16, 4)
    said[..., 1] = 1
    assert scores.chance_levels(masks, 4) == pytest.approx(scores.split_scores(said, masks))
