"""The command line knows its verbs without importing their modules."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from harness.commands import app


@pytest.mark.parametrize("module", sorted({verb.module for verb in app.VERBS.values()}))
def test_each_verb_is_listed_with_its_module(module: str) -> None:
    verbs = get_group(import_module(f"harness.commands.{module}").verbs).commands
    assert set(verbs) == {name for name, verb in app.VERBS.items() if verb.module == module}


def test_the_help_lists_all_verbs_and_a_wrong_one_names_the_nearest() -> None:
    shown = CliRunner().invoke(app.app, ["--help"]).output
    assert all(f" {name} " in shown for name in app.VERBS)
    assert all(verb.group in shown for verb in app.VERBS.values())
    assert "Run the missing cells of a suite, then write points, tables and plots." in " ".join(
        shown.replace("│", " ").split()
    )
    assert "Did you mean 'plan'?" in CliRunner().invoke(app.app, ["pln"]).output


def test_a_verb_imports_no_module_of_another() -> None:
    code = (
        "import sys\nfrom harness.commands import app\nsys.argv[1:] = ['status', '--help']\n"
        "try: app.main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name in ('harness.commands.plan', 'harness.forecast.forecast')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", app.VERBS)
def test_the_example_of_each_verb_is_one_that_it_accepts(name: str) -> None:
    program, verb, *words = app.VERBS[name].example.split()
    assert (program, verb) == ("eavit-bench", name)
    command = app.VerbGroup().get_command(None, name)
    assert command.make_context(verb, words, resilient_parsing=False).params
    shown = CliRunner().invoke(app.app, [name, "--help"]).output
    assert f"Example: {app.VERBS[name].example}" in " ".join(shown.split())


def test_the_help_of_all_verbs_imports_the_module_of_none() -> None:
    code = (
        "import sys\nfrom harness.commands import app\nsys.argv[1:] = ['--help']\n"
        "try: app.main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name in ('pydantic', 'harness.suite', 'harness.commands.run')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
