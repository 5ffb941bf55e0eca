"""``eavit push``: an export to a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eavit.commands.shown import say, show_table
from eavit.deploy.hub import push_to_hub, write_push


def push_folder(
    folder: Annotated[Path, typer.Argument(help="folder that eavit export wrote, with the form safetensors")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="model repository; made if it is not there")],
    private: Annotated[bool, typer.Option("--private", help="make the repository private, if it is made")] = False,
    revision: Annotated[str | None, typer.Option(help="branch to push to; default: main")] = None,
    message: Annotated[str, typer.Option(help="commit message")] = "Add model",
    pull_request: Annotated[bool, typer.Option("--pull-request", help="open a pull request")] = False,
    dry_run: Annotated[
        Path | None, typer.Option(help="write what would be pushed to this new folder, and send nothing")
    ] = None,
) -> None:
    """Upload an export to a model hub in timm's layout. This publishes the model: mind the licence of its weights."""
    if dry_run is not None:
        written = write_push(folder, dry_run)
        files = [(path.name, f"{path.stat().st_size:,}") for path in sorted(written.iterdir())]
        show_table(f"{written}: what would be pushed to {repository}", ("file", "bytes"), files)
        say(f'load it with: timm.create_model("local-dir:{written}", pretrained=True)')
        return
    address = push_to_hub(
        folder, repository, private=private, revision=revision, commit_message=message, create_pr=pull_request
    )
    say(f"pushed: {address}")
    say(f'load it with: timm.create_model("hf-hub:{repository}", pretrained=True)')
