"""The verb init: write a working example of a plug-in or a suite into the current folder."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from harness.commands.options import CommandError
from harness.messages import choices

verbs = typer.Typer()
TEMPLATES = Path(__file__).parent / "templates"
NEXT = {  # kind -> what to type next
    "method": ("eavit-bench check $name:$class_name", 'in a suite: [[methods]] use = "$name:$class_name"'),
    "dataset": ("eavit-bench check $name:$name", 'in a suite: [[datasets]] name = "$name" and use = "$name:$name"'),
    "metric": ("eavit-bench check $name:$name", 'in a suite: [[metrics]] use = "$name:$name"'),
    "selector": ("eavit-bench check $name:$name", 'in options of a method in a suite: select = "$name:$name"'),
    "suite": ("eavit-bench check $name.toml", "eavit-bench run $name.toml"),
}


@verbs.command()
def init(
    kind: Annotated[str, typer.Argument(metavar="method|dataset|metric|selector|suite", help="What to write.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, and that of the file.")],
) -> None:
    """Write a working example of a plug-in or a suite into the current folder, to be changed by you."""
    if kind not in NEXT:
        raise CommandError(f"init {kind}: unknown; {choices(kind, list(NEXT))}")
    file = Path(f"{_checked(name)}{'.toml' if kind == 'suite' else '.py'}")
    words = {"name": name, "class_name": "".join(part.capitalize() for part in name.split("_"))}
    text = Template((TEMPLATES / f"{kind}.in").read_text(encoding="utf-8")).substitute(words)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise CommandError(f"{file}: is there already; nothing was written") from None
    typer.echo(f"written: {file}; next:")
    for line in NEXT[kind]:
        typer.echo(f"  {Template(line).substitute(words)}")


def _checked(name: str) -> str:
    """The name, or CommandError where it cannot name a module and a suite."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise CommandError(f"init: name {name!r}: must be of lower-case letters, digits and _, and start with a letter")
    if name in sys.stdlib_module_names:
        raise CommandError(f"init: name {name!r}: is a module of Python's standard library; take another one")
    return name
