"""An export goes to a hub as timm lays it out there, whole, and comes back as the same model. No network is used."""

import shutil
from fnmatch import fnmatch
from types import SimpleNamespace

import huggingface_hub
import pytest
import timm
import torch

from eavit import push_to_hub
from eavit.deploy.export import export
from eavit.deploy.verify import VerifyError
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

        def upload_folder(self, repo_id, folder_path, revision, create_pr, commit_message, ignore_patterns):
            for path in folder_path.iterdir():
                if not any(fnmatch(path.name, pattern) for pattern in ignore_patterns or ()):
                    shutil.copy(path, root / repo_id)
            return SimpleNamespace(commit_url=f"hub/{repo_id}")

    monkeypatch.setattr(huggingface_hub, "HfApi", LocalHub)
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
    assert not hub[0].exists()
