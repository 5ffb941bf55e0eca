"""`.ci/quote.py` fills numbers and tables, and every page is up to date."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
        ("method=a max macs G4", "0.0050"),
        ("method=a sum macs 0", "12,500,000"),
        ("method=b count accuracy", "1"),
        ("cell=12e45 count seed", "2"),
        ("method=b budget=1 mean accuracy +%1", "+25.0"),
        ("method=a budget=1 over method=b mean macs 2", "1.25"),
    ],
)
def test_answers(question, answer):
    assert ask(question) == answer


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ("method=c mean accuracy", "no row has {'method': 'c'}"),
        ("metod=a mean accuracy", "no column 'metod'; columns: method"),
        ("method=a mean acuracy", "no column 'acuracy'"),
        ("method=b mean accuracy", "'' in accuracy is not a number"),
        ("method=a only accuracy", "4 rows, `only` needs one"),
        ("method=a mode accuracy", "is not FILE.csv"),
        ("method=a __import__('os') mean accuracy", "is not FILE.csv"),
        ("method=a mean accuracy %1f", "is not FILE.csv"),
        ("cell=12e45 mean cell", "'12e45' in cell is not a number"),
        ("method=a over mean accuracy", "is not FILE.csv"),
    ],
)
def test_a_question_without_an_answer_is_named(question, complaint):
    with pytest.raises(SystemExit) as raised:
        ask(question)
    assert complaint in str(raised.value)
    assert question in str(raised.value)


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


def test_the_example_of_the_documentation_has_an_answer():
    """Not which: that moves with the results."""
    questions = [match["question"] for match in quote.NUMBER.finditer(quote.__doc__)]
    assert len(questions) == 2
    assert float(quote.answer(questions[1]))


def staged(name):
    """A file as git has it: whoever runs a suite again has other results in the working tree, which is not an error."""
    shown = subprocess.run(["git", "-C", ROOT, "show", f":{name}"], capture_output=True)
    return (ROOT / name).read_text(encoding="utf-8") if shown.returncode else shown.stdout.decode("utf-8")


@pytest.mark.parametrize("name", quote.pages())
def test_numbers_in_pages_are_those_of_the_results(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert quote.filled(text, staged) == text


@pytest.mark.parametrize("name", ["README.md", "docs/log.md"])
def test_pages_about_results_are_filled(name):
    assert quote.TABLE.search((ROOT / name).read_text(encoding="utf-8"))
