"""Tasks that a suite can name, and their scores. A score is at most 1, higher is better, and stands wherever a
classification has its accuracy: in searches, tables, plots and comparisons. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TaskName = Literal["classification", "multi_label", "segmentation"]
ScoreName = Literal["accuracy", "mean_average_precision", "auroc", "mean_iou"]
CLASSIFICATION: TaskName = "classification"
MULTI_LABEL: TaskName = "multi_label"
SEGMENTATION: TaskName = "segmentation"
ACCURACY: ScoreName = "accuracy"
MEAN_AVERAGE_PRECISION: ScoreName = "mean_average_precision"
AUROC: ScoreName = "auroc"
MEAN_IOU: ScoreName = "mean_iou"
IGNORED = 255  # class of pixels of a mask that do not count


@dataclass(frozen=True, slots=True)
class Score:
    """``title``: in running text. ``per_image``: a mean over images, each right or wrong, which are kept for paired
    tests; a score of the whole split has intervals over seeds alone.
    """

    name: ScoreName
    title: str
    per_image: bool

    @property
    def heading(self) -> str:
        return self.title[0].upper() + self.title[1:]


SCORES: Mapping[str, Score] = {
    score.name: score
    for score in (
        Score(ACCURACY, "accuracy", per_image=True),
        Score(MEAN_AVERAGE_PRECISION, "mean average precision", per_image=False),
        Score(AUROC, "AUROC", per_image=False),
        Score(MEAN_IOU, "mean IoU", per_image=False),
    )
}
SCORES_OF: Mapping[str, tuple[ScoreName, ...]] = {  # by task; the first is the default
    CLASSIFICATION: (ACCURACY,),
    MULTI_LABEL: (MEAN_AVERAGE_PRECISION, AUROC),
    SEGMENTATION: (MEAN_IOU,),
}


def task_of_labels(dimensions: int) -> TaskName:
    """The task that labels of so many dimensions are of."""
    return (CLASSIFICATION, MULTI_LABEL, SEGMENTATION)[dimensions - 1]
