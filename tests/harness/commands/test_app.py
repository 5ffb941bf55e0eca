"""The command line knows its verbs without importing their modules."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from harness.commands import app


@pytest.mark.parametrize("module", sorted({*app.MODULES.values()}))
def test_each_verb_is_listed_with_its_module(module: str) -> None:
    verbs = get_group(import_module(f"harness.commands.{module}").verbs).commands
    assert set(verbs) == {verb for verb, its in app.MODULES.items() if its == module}


def test_the_help_lists_all_verbs_and_a_wrong_one_names_the_nearest() -> None:
    shown = CliRunner().invoke(app.app, ["--help"]).output
    assert all(f" {verb} " in shown for verb in app.MODULES)
    assert "Did you mean 'plan'?" in CliRunner().invoke(app.app, ["pln"]).output


def test_a_verb_imports_no_module_of_another() -> None:
    code = (
        "import sys\nfrom harness.commands import app\nsys.argv[1:] = ['status', '--help']\n"
        "try: app.main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name in ('harness.commands.plan', 'harness.forecast.forecast')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
