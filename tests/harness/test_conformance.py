"""Kind of a plug-in by what it says, and whether two backbones are one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from eavit.selection.selectors import Selector
from harness.conformance import differing_weights, kind_of, metric_trials
from harness.plugins import PluginError

HERE = "tests.harness.test_conformance"


class Method:
    name = "method"

    def adapt(self, task: object) -> object: ...


def made() -> Method: ...


def pictures() -> Iterator[tuple[str, str, object]]: ...


def number(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(logits[0, 0])


def rule(evaluations: int = 1) -> Selector: ...


def untold():
    raise SystemExit


class Net(nn.Module):
    def __init__(self, num_classes: int, drawn: bool) -> None:
        super().__init__()
        self.body = nn.Linear(2, 2)
        self.head = nn.Linear(2, num_classes)
        if not drawn:
            with torch.no_grad():
                self.body.weight.fill_(1.0)
                self.body.bias.fill_(0.0)


def net(num_classes: int, drawn: bool) -> Net:
    return Net(num_classes, drawn)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Method", "method"),
        ("made", "method"),
        ("pictures", "data set"),
        ("net", "backbone"),
        ("number", "metric"),
        ("rule", "selector"),
    ],
)
def test_a_kind_is_what_the_annotation_says(name: str, kind: str) -> None:
    assert kind_of(f"{HERE}:{name}") == kind


def test_what_says_nothing_is_not_called() -> None:
    with pytest.raises(PluginError, match="does not say what it makes"):
        kind_of(f"{HERE}:untold")


def test_weights_that_are_drawn_anew_are_named() -> None:
    assert differing_weights({"use": f"{HERE}:net", "options": {"drawn": False}}) == []
    assert differing_weights({"use": f"{HERE}:net", "options": {"drawn": True}}) == ["body.weight", "body.bias"]


def test_a_metric_is_tried_on_the_same_outputs_in_another_order() -> None:
    tried = metric_trials({"use": f"{HERE}:number", "options": {}})
    assert tried["first"] == tried["second"] != tried["order"]
    assert (tried["right"], tried["wrong"]) == ({"value": 50.0}, {"value": -50.0})
