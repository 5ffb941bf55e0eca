"""Upload of an export to a model hub, in timm's layout: ``timm.create_model("hf-hub:OWNER/NAME", pretrained=True)``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the client that this version uses

from eavit.deploy.artifact import MANIFEST
from eavit.deploy.export import CARD_FILE, EXPORT_FILE
from eavit.deploy.verify import VerifyError, read_export


class HubError(ValueError):
    """A hub that cannot be reached, refuses the upload, or has no token to know the user by."""


def files_to_push(folder: Path) -> list[str]:
    """Names of the files of an export that a hub gets; VerifyError if it is damaged or timm could not load it."""
    if (folder / MANIFEST).is_file():
        raise VerifyError(
            f"{folder} is a family of many sizes; a hub gets one of them: eavit export {folder} --budget 0.5 --format "
            "safetensors --out FOLDER, then push FOLDER"
        )
    record = read_export(folder)
    if "safetensors" not in record["formats"]:
        raise VerifyError(
            f"{folder} has the forms {', '.join(record['formats'])}; a hub needs safetensors: export with this form too"
        )
    return [EXPORT_FILE, *record["files"]]


def write_push(folder: str | Path, out: str | Path) -> Path:
    """Write what :func:`push_to_hub` would upload of an export to a new folder, without a network."""
    folder, out = Path(folder), Path(out)
    names = files_to_push(folder)
    if out.exists():
        raise FileExistsError(f"{out} exists; name a folder that does not")
    out.mkdir(parents=True)
    for name in names:
        shutil.copyfile(folder / name, out / name)
    return out


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Add model",
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Upload an export with the form safetensors to OWNER/NAME and return the address of the commit.

    As timm's ``push_to_hf_hub``: the repository is made if it is not there, and a card that it has is left alone. Only
    files of the export's record are sent. VerifyError on a damaged export, HubError without a token, before anything
    is sent. A submodel of mixed widths needs ``import eavit`` before timm can load it.
    """
    folder = Path(folder)
    names = files_to_push(folder)
    token = token or huggingface_hub.get_token()
    if token is None:
        raise HubError("no token for the hub: run `hf auth login`, or set the environment variable HF_TOKEN")
    with _hub_errors(repo_id):
        api = huggingface_hub.HfApi(token=token, library_name="timm")
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        has_card = api.file_exists(repo_id=repo_id, filename=CARD_FILE, revision=revision)
        sent = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
            allow_patterns=[name for name in names if not (has_card and name == CARD_FILE)],
        )
    return str(sent.commit_url)


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except (HTTPError, OSError) as error:
        raise HubError(f"{repo_id}: the hub refused the upload or cannot be reached: {error}") from error
