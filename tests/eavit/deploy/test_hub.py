"""An export goes to a hub as timm lays it out there, whole, and comes back as the same model. No network is used."""

import shutil
import sys
from fnmatch import fnmatch
from types import SimpleNamespace

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub.errors import HTTPError
from typer.testing import CliRunner

from eavit import push_to_hub
from eavit.commands import program
from eavit.deploy.export import export
from eavit.deploy.hub import HubError, write_push
from eavit.deploy.verify import VerifyError, read_export
from tests.eavit.families import KEYS, family


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that is a folder, with the calls that timm's own upload makes."""
    root, asked = tmp_path / "hub", []

    class LocalHub:
        def __init__(self, token=None, library_name=None):
            asked.append((token, library_name))

        def create_repo(self, repo_id, private, exist_ok):
            (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            return SimpleNamespace(repo_id=repo_id)

        def file_exists(self, repo_id, filename, revision):
            return (root / repo_id / filename).is_file()

        def upload_folder(self, repo_id, folder_path, revision, create_pr, commit_message, allow_patterns):
            for path in folder_path.iterdir():
                if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                    shutil.copy(path, root / repo_id)
            return SimpleNamespace(commit_url=f"hub/{repo_id}")

    monkeypatch.setattr(huggingface_hub, "HfApi", LocalHub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "stored")
    return root, asked


@pytest.mark.parametrize("key", KEYS[:2])
def test_what_is_pushed_loads_with_timm(hub, tmp_path, key):
    root, asked = hub
    folder = export(family(), tmp_path / "x", key, formats=["safetensors"])
    assert push_to_hub(folder, "me/vit", token="mine") == "hub/me/vit"
    assert asked == [("mine", "timm")]
    images = torch.randn(3, 1, 4, 4)
    model = timm.create_model(f"local-dir:{root / 'me' / 'vit'}", pretrained=True).eval()
    assert torch.equal(model(images), family().extract(key)(images))
    assert (root / "me" / "vit" / "README.md").read_text().startswith("---\nlibrary_name: timm")


def test_a_card_that_is_there_is_left_alone(hub, tmp_path):
    root, _ = hub
    (root / "me" / "vit").mkdir(parents=True)
    (root / "me" / "vit" / "README.md").write_text("by hand")
    push_to_hub(export(family(), tmp_path / "x", KEYS[0]), "me/vit")
    assert (root / "me" / "vit" / "README.md").read_text() == "by hand"
    assert (root / "me" / "vit" / "config.json").is_file()


def test_nothing_is_sent_of_a_damaged_export_or_one_that_timm_cannot_load(hub, tmp_path):
    folder = export(family(), tmp_path / "x", KEYS[0])
    (folder / "config.json").write_text("{}")
    with pytest.raises(VerifyError, match="changed or damaged"):
        push_to_hub(folder, "me/vit")
    folder = export(family(), tmp_path / "y", KEYS[0], formats=["torch"])
    with pytest.raises(VerifyError, match="has the forms torch; a hub needs safetensors"):
        push_to_hub(folder, "me/vit")
    with pytest.raises(VerifyError, match=r"is a family of many sizes.* eavit export \S+f --budget"):
        push_to_hub(family().save(tmp_path / "f"), "me/vit")
    assert not hub[0].exists()


def test_only_files_of_the_record_are_sent(hub, tmp_path):
    folder = export(family(), tmp_path / "x", KEYS[0], formats=["safetensors"])
    (folder / "notes.txt").write_text("mine")
    push_to_hub(folder, "me/vit")
    pushed = {path.name for path in (hub[0] / "me" / "vit").iterdir()}
    assert pushed == {path.name for path in folder.iterdir()} - {"notes.txt"}
    assert pushed >= {"config.json", "model.safetensors", "export.json", "README.md"}
    assert {path.name for path in write_push(folder, tmp_path / "dry").iterdir()} == pushed
    read_export(tmp_path / "dry")
    with pytest.raises(FileExistsError, match="dry exists"):
        write_push(folder, tmp_path / "dry")


def test_without_a_token_or_a_hub_it_says_so(hub, tmp_path, monkeypatch):
    folder = export(family(), tmp_path / "x", KEYS[0])
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(HubError, match="no token for the hub: run `hf auth login`, or set .* HF_TOKEN"):
        push_to_hub(folder, "me/vit")
    assert not hub[0].exists()

    def unreachable(*_, **__):
        raise HTTPError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", unreachable)
    with pytest.raises(HubError, match="me/vit: the hub refused the upload or cannot be reached: Name or service"):
        push_to_hub(folder, "me/vit", token="mine")


def test_the_command_pushes_or_writes_what_it_would_push(hub, tmp_path, monkeypatch, capsys):
    folder = export(family(), tmp_path / "x", KEYS[0])
    result = CliRunner().invoke(program.app, ["push", str(folder), "me/vit", "--dry-run", str(tmp_path / "dry")])
    assert (result.exit_code, hub[0].exists()) == (0, False)
    assert "what would be pushed to me/vit" in result.output
    assert timm.create_model(f"local-dir:{tmp_path / 'dry'}", pretrained=True) is not None
    result = CliRunner().invoke(program.app, ["push", str(folder), "me/vit"])
    assert (result.exit_code, "pushed: hub/me/vit" in result.output) == (0, True)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(sys, "argv", ["eavit", "push", str(folder), "me/vit"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert capsys.readouterr().err.startswith("eavit: no token for the hub")
