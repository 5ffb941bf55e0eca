"""Tasks and scores that a suite can name."""

from __future__ import annotations

from typing import get_args

import torch

from eavit.training import scores as of_a_search
from harness import tasks
from harness.evaluation import scores
from harness.tasks import SCORES, SCORES_OF, ScoreName, TaskName


def test_every_task_has_scores_and_every_score_a_task() -> None:
    assert set(SCORES_OF) == set(get_args(TaskName))
    assert sorted(name for names in SCORES_OF.values() for name in names) == sorted(get_args(ScoreName))
    assert [name for name, score in SCORES.items() if name == score.name] == list(get_args(ScoreName))


def test_a_search_can_maximise_and_a_cell_can_measure_every_score() -> None:
    assert set(of_a_search.SCORES) == set(SCORES)
    several = scores.split_scores(torch.eye(3), torch.eye(3))
    dense = scores.split_scores(torch.rand(2, 4, 3), torch.zeros(2, 4, 4, dtype=torch.uint8))
    assert (set(several), set(dense)) == ({*SCORES_OF[tasks.MULTI_LABEL]}, {*SCORES_OF[tasks.SEGMENTATION]})
    assert [tasks.task_of_labels(dimensions) for dimensions in (1, 2, 3)] == [*SCORES_OF]


def test_titles_stand_in_sentences_and_above_them() -> None:
    assert SCORES["mean_average_precision"].heading == "Mean average precision"
    assert (SCORES["auroc"].title, SCORES["auroc"].heading) == ("AUROC", "AUROC")
    assert SCORES["accuracy"].per_image and not SCORES["auroc"].per_image
