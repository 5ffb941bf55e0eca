"""Upload of an export to a model hub, in timm's layout: ``timm.create_model("hf-hub:OWNER/NAME", pretrained=True)``."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub

from eavit.deploy.export import CARD_FILE
from eavit.deploy.verify import VerifyError, read_export


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

    As timm's ``push_to_hf_hub``: the repository is made if it is not there, and a card that it has is left alone.
    VerifyError on a damaged export, before anything is sent. A submodel of mixed widths needs ``import eavit`` before
    timm can load it.
    """
    folder = Path(folder)
    record = read_export(folder)
    if "safetensors" not in record["formats"]:
        raise VerifyError(
            f"{folder} has the forms {', '.join(record['formats'])}; a hub needs safetensors: export with this form too"
        )
    api = huggingface_hub.HfApi(token=token, library_name="timm")
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    has_card = api.file_exists(repo_id=repo_id, filename=CARD_FILE, revision=revision)
    sent = api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        ignore_patterns=[CARD_FILE] if has_card else None,
    )
    return str(sent.commit_url)
