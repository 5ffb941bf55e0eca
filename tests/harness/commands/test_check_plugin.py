"""Verdicts on plug-ins: each rule can be broken, and the reason is named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from harness.commands import check_command, check_plugin
from harness.commands.check_plugin import RuleVerdict, outcome_rules
from harness.commands.options import CommandError
from harness.data import samples
from harness.evaluation.check_names import DIAGNOSTICS_KEY, OVERFIT
from harness.results.cell_files import Outcome
from tests.harness import small
from tests.harness.commands import in_process

TRIED: dict[str, Any] = {"options": {}, "size": 24, "channels": 1}


def outcome(bits: bytes = b"\xff\x00", **changes: Any) -> Outcome:
    record = small.record_of(small.cells(small.suite())[0])
    return Outcome(record.model_copy(update=changes), {point.budget: bits for point in record.points}, "one\ntwo\n")


def broken(first: Outcome, second: Outcome) -> list[str]:
    return [f"{each.rule}: {each.reason}" for each in outcome_rules(first, second) if each.word == "FAILED"]


def test_equal_runs_keep_the_rules() -> None:
    assert broken(outcome(), outcome()) == []
    answers = next(each for each in outcome_rules(outcome(), outcome()) if each.rule.startswith("every budget"))
    assert answers.reason == "25 %: w0, 7 of 16 right; 100 %: w1, 7 of 16 right"


def test_each_broken_rule_has_its_reason() -> None:
    points = outcome().record.points
    unreachable = outcome(points=tuple(p.model_copy(update={"status": "unreachable", "key": None}) for p in points))
    sparse = outcome(grid=(points[0].model_copy(update={"status": "failed", "reason": "KeyError: 0.3"}),))
    assert broken(sparse, sparse) == ["it answers budgets between those of the task: 25 %: KeyError: 0.3"]
    failing = outcome(diagnostics={DIAGNOSTICS_KEY: {OVERFIT: "the loss stayed"}})
    other = outcome(points=(points[0].model_copy(update={"key": "w9"}), *points[1:]))
    assert broken(outcome(status="failed", reason="it broke"), outcome()) == [
        "every budget has a choice within it or none, and the modules give logits: failed: it broke; log: one | two"
    ]
    assert "it reaches at least one budget: all are unreachable" in broken(unreachable, unreachable)
    assert broken(failing, failing) == [f"its answers pass the sanity checks of the bench: {OVERFIT}: the loss stayed"]
    seeded = "the same seed gives the same choices and the same correct images"
    assert broken(outcome(), other) == [f"{seeded}: at 25 % w0, then w9: draw from task.seed alone"]
    assert broken(outcome(), outcome(bits=b"\xfe\x00"))[0].startswith(f"{seeded}: at 25 % other images")
    assert broken(outcome(), outcome(status="oom", reason="full")) == [f"{seeded}: the second run ended as oom: full"]


def test_a_method_that_records_nothing_is_noted() -> None:
    words = {each.rule: each.word for each in outcome_rules(outcome(ledger={}), outcome(ledger={}))}
    assert [word for rule, word in words.items() if rule.startswith("the ledger")] == ["note"]


PLUGIN = """
import random
from collections.abc import Iterator
from PIL import Image
from torch import nn

def drawn(each: int = 1) -> Iterator[tuple[str, str, Image.Image]]:
    for number in range(20):
        for kind in "ab":
            yield "train", kind, Image.new("L", (8, 8), random.randrange(256))

class Net(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 4), nn.Linear(4, num_classes)
    def forward(self, images):
        return self.head(self.body(images.flatten(1)))

class Odd:
    name = "odd"
    def adapt(self, task): ...
    def __init__(self, k: int = 1) -> None: ...
    def check(self, *asked): raise ValueError("not this backbone")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "strange_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    in_process.patch(monkeypatch)
    return "strange_plugin"


def failed(plugin: str, name: str, **changes: Any) -> list[RuleVerdict]:
    return [each for each in check_plugin.check_plugin(f"{plugin}:{name}", TRIED | changes)[1] if each.word != "passed"]


def test_plugins_that_break_a_rule_are_judged(plugin: str) -> None:
    (unlike, *few) = failed(plugin, "drawn")
    assert unlike.rule == "it makes the same pictures each time" and "two calls gave other pictures" in unlike.reason
    assert all(each.rule.startswith("it can be divided") or each.word == "note" for each in few)
    (note, drawn) = failed(plugin, "Net", size=8)
    assert note.word == "note" and note.rule.startswith("methods of eavit cannot adapt it")
    assert drawn.word == "FAILED" and "body.weight" in drawn.reason
    assert "must be" not in failed(plugin, "Net", size=9)[0].reason != ""
    assert "not this backbone" in failed(plugin, "Odd")[0].reason
    assert "options.q: unknown option" in failed(plugin, "Odd", options={"q": 1})[0].reason
    assert "no 'gone'" in failed(plugin, "gone")[0].reason


def test_a_metric_that_breaks_a_rule_is_judged(plugin: str) -> None:
    made = "tests.harness.made_metrics"
    assert failed(made, "share_right") == []
    (order,) = failed(made, "first_logit", options={"times": 2.0})
    assert order.rule == "the order of the images does not matter" and "in another order" in order.reason
    assert failed(made, "raises")[0].reason == "RuntimeError: no luck"
    assert "gave nan" in failed(made, "not_finite")[0].reason
    assert "options.k: unknown option" in failed(made, "share_right", options={"k": 1})[0].reason


def test_a_selector_that_breaks_a_rule_is_judged(plugin: str) -> None:
    made = "tests.eavit.selection.made_selectors"
    kind, verdicts = check_plugin.check_plugin(f"{made}:over_budget", TRIED)
    assert kind == "selector" and [each.word for each in verdicts] == ["passed", "FAILED"]
    assert verdicts[1].rule == "each choice is a member of the space within its budget"
    assert "over the budget 0.02" in verdicts[1].reason
    assert failed(made, "needy")[0].reason.endswith("needs the argument depth; only evaluations is given")
    assert "--options.depth is unknown" in failed(made, "smallest", options={"depth": 2})[0].reason


def test_a_listing_is_listed_twice_and_divided(plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path))
    samples.write_sample("dtd", tmp_path, classes=2, each=6, size=24)
    kind, verdicts = check_plugin.check_plugin("harness.data.published:dtd", TRIED)
    assert kind == "listing" and [each.word for each in verdicts] == ["passed"] * 3
    assert verdicts[0].reason == "2 classes; train 12, select 12, test 12"
    assert verdicts[2].reason == "2 classes; fit 12, select_a 6, select_b 6, test 12"
    (missing,) = failed("harness.data.published", "stanford_cars")
    assert "Stanford Cars: missing in" in missing.reason and "devkit/cars_meta.mat" in missing.reason


def test_a_verdict_is_one_line() -> None:
    verdict = RuleVerdict("FAILED", "it holds", "no")
    assert str(verdict) == "  FAILED  it holds: no" and str(replace(verdict, reason="")) == "  FAILED  it holds"


def test_the_verb_prints_verdicts_and_fails_on_a_broken_rule(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        check_command.check(f"{plugin}:Odd", None, '{"k": 2}', 24, "1")
    assert ended.value.exit_code == 1
    said = capsys.readouterr()
    assert said.out.startswith("strange_plugin:Odd: method\n  FAILED  it is built")
    assert "strange_plugin:Odd: breaks 1 of 1 rules that were tried" in said.err


@pytest.mark.parametrize(
    ("text", "channels", "message"),
    [
        ("{k: 1}", "1", "--options '{k: 1}': is no JSON"),
        ("[1]", "1", "must be a JSON object"),
        ("{}", "2", "--channels 2: must be 1"),
    ],
)
def test_wrong_words_of_the_verb_are_named(text: str, channels: str, message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        check_command.check("a.b:c", None, text, 24, channels)
