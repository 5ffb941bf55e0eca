from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("quote", ROOT / ".ci" / "quote.py")
quote = importlib.util.module_from_spec(spec)
spec.loader.exec_module(quote)

POINTS = """method,dataset,seed,budget,status,accuracy,macs,cell
a,x,0,0.5,ok,0.80,2500000,12e45
a,x,1,0.5,ok,0.90,2500000,12e46
a,y,0,0.5,ok,0.50,2500000,aa
a,x,0,1.0,ok,0.95,5000000,12e45
b,x,0,0.5,oom,,,cc
b,x,0,1.0,ok,0.25,4000000,cc
"""


def ask(question: str) -> str:
    return quote.answer(f"points.csv {question}", lambda name: {"points.csv": POINTS}[name])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("method=a budget=0.5 mean accuracy %", "67.5"),  # of the means 85 and 50, not of 80, 90 and 50
        ("method=a budget=0.50 dataset=x mean accuracy %0", "85"),
        ("method=a budget=1 only accuracy 2", "0.95"),
        ("method=a,b budget=1 min accuracy", "0.25"),
        ("method=a max macs M1", "5.0"),
        ("method=a median accuracy 3", "0.850"),
        ("method=a sum macs k0", "12,500"),
        ("method=b count accuracy", "1"),
        ("cell=12e45 count seed", "2"),
        ("cell=aa only cell", "aa"),
        ("method=a budget=1 minus method=b mean accuracy +%1", "+70.0"),
        ("method=b budget=1 minus method=a mean accuracy %", "-70.0"),
        ("method=a budget=1 over method=b mean macs 2", "1.25"),
    ],
)
def test_answers(question, answer):
    assert ask(question) == answer


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ("method=c mean accuracy", "no row has method=c"),
        ("metod=a mean accuracy", "no column 'metod'; nearest: method"),
        ("method=a mean acuracy", "no column 'acuracy'; nearest: accuracy"),
        ("method=b mean accuracy", "1 of 2 rows have no number in accuracy"),
        ("method=a only accuracy", "accuracy is not one value"),
        ("method=a mode accuracy", "needs one of mean"),
        ("method=a __import__('os') mean accuracy", "is no condition"),
        ("method=a mean accuracy %1f", "is no form"),
        ("cell=12e45 mean cell", "no number in cell"),
        ("method=a only method %", "is no number"),
        ("method=a minus mean accuracy", "minus what?"),
    ],
)
def test_what_has_no_answer_is_told_with_its_question(question, complaint):
    with pytest.raises(SystemExit) as told:
        ask(question)
    assert complaint in str(told.value)
    assert question in str(told.value)


def test_numbers_are_filled_in_sentences_and_stay_when_right():
    text = "It gets <!--= points.csv method=a budget=1 mean accuracy % -->99.9<!--/--> %, not\n`<!-- -->` more.\n"
    once = quote.filled(text, lambda name: POINTS)
    assert once == text.replace("99.9", "95.0")
    assert quote.filled(once, lambda name: POINTS) == once


def test_tables_are_filled_under_their_heading_past_other_text():
    table = "## One (5 images)\n\nSome words.\n\n| a |\n| - |\n| 1 |\n\n<sub>source</sub>\n\n## Two\n\n| b |\n"
    text = "<!-- from t.md: One -->\nold\n<!-- end -->\n"
    assert quote.filled(text, lambda name: table) == "<!-- from t.md: One -->\n| a |\n| - |\n| 1 |\n<!-- end -->\n"
    with pytest.raises(SystemExit, match="Three"):
        quote.filled(text.replace("One", "Three"), lambda name: table)


def test_a_missing_file_is_named():
    with pytest.raises(SystemExit, match=r"nowhere\.csv"):
        quote.answer("nowhere.csv mean accuracy")


def test_examples_of_the_documentation_can_be_asked():
    """Not what they answer: that moves with the results."""
    questions = [match["question"] for match in quote.NUMBER.finditer(quote.__doc__)]
    examples = [question for question in questions if question != "QUESTION"]
    assert len(examples) == 2
    for question in examples:
        assert quote.answer(question)
