"""What is saved is loaded to the bit; what is damaged, changed, incomplete or too new is refused by name."""

import errno
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from eavit import load
from eavit.deploy import artifact, files
from eavit.deploy.architecture import CannotRebuildError
from eavit.deploy.artifact import ArtifactError
from eavit.deploy.elastic import ElasticModel
from eavit.model.submodel import Submodel
from tests.eavit.families import KEYS, family

IMAGES = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def saved(tmp_path):
    return family().save(tmp_path / "family")


def rewritten(folder, **changes):
    """The manifest with other values, and a checksum that fits them."""
    manifest = files.read_json(folder / "manifest.json", "")
    files.write_json(folder / "manifest.json", manifest | changes)


def test_a_loaded_family_gives_the_same_choices_logits_and_table(saved):
    before, after = family(), load(saved)
    assert after.table == before.table or json.dumps(after.rows()) == json.dumps(before.rows())
    assert after.accuracy == before.accuracy == {0.1: None, 0.4: 60 / 96, 1.0: 90 / 96}
    assert after.table.classes == before.table.classes
    assert dict(after.table.data) == dict(before.table.data)
    for limits in ({"budget": 0.4}, {"params": 1200}, {"mib": 1.0, "budget": 0.6}):
        assert after.choose(**limits) == before.choose(**limits)
    for key in KEYS:
        assert torch.equal(after(IMAGES, key), before(IMAGES, key))


def test_parameters_of_single_sizes_come_back(tmp_path):
    elastic, key = family(), Submodel.parse(KEYS[0])
    own = {"norm.weight": torch.full((6,), 2.0)}
    elastic = ElasticModel(elastic.vit, elastic.table, {key: own})
    after = load(elastic.save(tmp_path / "family"))
    assert torch.equal(after.extract(key).norm.weight, own["norm.weight"])
    assert torch.equal(after(IMAGES, key), elastic(IMAGES, key))
    assert not torch.equal(after(IMAGES, key), family()(IMAGES, key))
    assert torch.equal(after(IMAGES, KEYS[1]), family()(IMAGES, KEYS[1]))


def test_the_manifest_says_what_a_reader_needs(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    assert (manifest["format"], manifest["format_version"]) == ("eavit family", 1)
    assert manifest["licence"] == "mit"
    assert manifest["policy"][0] | {"macs": 0, "params": 0} == {
        "submodel": KEYS[0],
        "correct": 60,
        "n": 96,
        "macs": 0,
        "params": 0,
        "interval": [0.525107, 0.715274],
    }
    assert manifest["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert set(manifest["validation"]) == {"images", "sha256", "role"}
    assert manifest["weights"]["sha256"][:16] in manifest["weights"]["file"]


def test_nothing_in_the_folder_is_a_pickle(saved):
    assert sorted(path.suffix for path in saved.iterdir()) == [".json", ".safetensors"]
    for path in saved.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, IndexError, EOFError, KeyError)):
            pickle.loads(path.read_bytes())


def test_a_newer_format_is_refused(saved):
    rewritten(saved, format_version=2)
    with pytest.raises(ArtifactError, match=r"manifest\.json: format_version: 2 is newer than 1.*update eavit"):
        load(saved)


@pytest.mark.parametrize("version", [None, "1", 0])
def test_an_impossible_version_is_refused(saved, version):
    rewritten(saved, format_version=version)
    with pytest.raises(ArtifactError, match=r"manifest\.json: format_version: .* must be a whole number"):
        load(saved)


def test_another_kind_of_file_is_refused(saved):
    rewritten(saved, format="other")
    with pytest.raises(ArtifactError, match="'other' is not 'eavit family'"):
        load(saved)


def test_a_manifest_changed_by_hand_is_refused(saved):
    path = saved / "manifest.json"
    path.write_text(path.read_text().replace('"correct": 60', '"correct": 96'))
    with pytest.raises(ArtifactError, match=r"manifest\.json: changed or damaged"):
        load(saved)


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_manifest_that_is_no_table_is_refused(saved, content):
    (saved / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json: damaged"):
        load(saved)


def test_a_missing_key_is_named(saved):
    manifest = files.read_json(saved / "manifest.json", "")
    del manifest["policy"]
    files.write_json(saved / "manifest.json", manifest)
    with pytest.raises(ArtifactError, match=r"manifest\.json: policy: missing"):
        load(saved)


def test_a_flipped_bit_of_the_weights_is_seen(saved):
    (path,) = saved.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"weights-.*: changed or damaged"):
        load(saved)


def test_missing_weights_are_named(saved):
    (path,) = saved.glob("*.safetensors")
    path.unlink()
    with pytest.raises(ArtifactError, match=rf"{path.name}: missing"):
        load(saved)


def test_a_folder_without_a_family_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        load(tmp_path)
    with pytest.raises(ArtifactError, match="is no folder"):
        load(tmp_path / "nothing")


def test_a_file_is_no_place_to_save(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file"):
        family().save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_family_takes_the_place_of_the_first(saved):
    family(seed=1).save(saved)
    assert len(list(saved.iterdir())) == 2
    assert torch.equal(load(saved)(IMAGES), family(seed=1)(IMAGES))


FULL_DISK = """
import resource, signal, sys
from tests.eavit.families import family
elastic = family(seed=1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    elastic.save(sys.argv[1])
except OSError as error:
    print(f"refused: {error}")
"""


@pytest.mark.parametrize("limit", [0, 4096, 20_000])
def test_a_disk_that_fills_up_leaves_the_old_family(saved, limit):
    """Files larger than the limit cannot be written, as on a full disk: the weights, or the manifest alone."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(saved), str(limit)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("refused"), done.stderr
    assert torch.equal(load(saved)(IMAGES), family()(IMAGES))
    assert len(list(saved.iterdir())) == 2


def test_a_full_disk_under_the_manifest_is_named(saved, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact, "save_tensors", lambda path, *rest: path.write_bytes(b"x"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"manifest\.json could not be written: the disk is full"):
        family(seed=1).save(saved)
    monkeypatch.undo()
    assert torch.equal(load(saved)(IMAGES), family()(IMAGES))


def test_a_backbone_that_cannot_be_built_again_is_refused(tmp_path):
    elastic = family()
    elastic.vit.blocks[1].norm1.eps = 0.5
    with pytest.raises(CannotRebuildError, match="gives other logits"):
        elastic.save(tmp_path / "family")
    assert not (tmp_path / "family").exists()


def test_the_weights_are_stored_once(saved):
    (path,) = saved.glob("*.safetensors")
    assert {name: value.shape for name, value in load_file(path).items()} == {
        f"shared.{name}": value.shape for name, value in family().vit.state_dict().items()
    }
