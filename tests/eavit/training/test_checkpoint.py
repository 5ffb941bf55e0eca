"""Nothing on disk is ever half, wrong or unbounded: checkpoints, the journal, and runs that were really killed."""

import errno
import json
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from eavit.space.product import ProductSpace
from eavit.training import checkpoint
from eavit.training.checkpoint import CheckpointError, Journal, Saving, load_tensors, save_tensors
from eavit.training.passes import plain
from eavit.training.samplers import Random
from eavit.training.train import Fit, fit_plan, schedule_of
from tests.eavit.killing import adapt, context
from tests.eavit.small import SCHEDULE, Blobs, tiny


def trained(path, stop=None, total=4, **changes):
    def progress(phase, done, total):
        if done == stop:
            raise KeyboardInterrupt

    vit = changes.pop("vit", None) or tiny()
    run = Fit(Blobs(), schedule_of(SCHEDULE), 3, total, Saving(path, seconds=0), progress=progress)
    fit_plan(vit, plain(Random(ProductSpace.eavit(vit.backbone, 0.5))), run)
    return vit


def keys(path):
    with safe_open(path, "pt") as file:
        return set(file.keys())


def test_a_finished_fit_keeps_weights_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(path, stop=2)
    half = path.stat().st_size
    assert any(key.startswith("optimiser.") for key in keys(path))
    trained(path)
    assert all(key.startswith("model.") for key in keys(path))
    assert path.stat().st_size < half / 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fraction", [0, 0.001, 0.2, 0.6, 0.999])
def test_a_cut_checkpoint_is_refused_by_name(tmp_path, fraction):
    path = tmp_path / "x.safetensors"
    trained(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(CheckpointError, match=r"x\.safetensors: damaged.*delete it"):
        trained(path)


def test_every_flipped_bit_is_seen(tmp_path):
    """In the header (notes, names, shapes) and in the tensors; a header may also be unreadable or blank."""
    path = tmp_path / "x"
    save_tensors(path, {"a": torch.arange(6.0), "b": torch.tensor(3, dtype=torch.int64)}, {"spent": '{"steps": 12}'})
    tensors, note = load_tensors(path)
    assert note == {"spent": '{"steps": 12}'} and torch.equal(tensors["a"], torch.arange(6.0))
    whole, silent = path.read_bytes(), 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            read, said = load_tensors(path)
        except CheckpointError:
            continue
        silent += 1  # white space between header and tensors: all that was kept is as it was
        assert said == note and all(torch.equal(read[key], tensors[key]) for key in tensors)
    assert silent < 16


def test_other_keys_and_shapes_are_named(tmp_path):
    path = tmp_path / "x.safetensors"
    trained(path)
    tensors, note = load_tensors(path)
    del tensors["model.head.bias"]
    tensors["model.hat.bias"] = torch.zeros(3)
    tensors["model.norm.weight"] = torch.zeros(5)
    save_tensors(path, tensors, note)
    with pytest.raises(CheckpointError, match=r"lacks head\.bias.*unknown hat\.bias.*norm\.weight of shape \(5,\)"):
        trained(path)


def test_a_checkpoint_without_a_checksum_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"model.a": torch.zeros(1)}, path, {"identity": "?"})
    with pytest.raises(CheckpointError, match="SHA-256"):
        trained(path)


@pytest.mark.parametrize("where", ["writing", "flushing", "renaming"])
def test_a_full_disk_keeps_the_older_checkpoint(tmp_path, monkeypatch, where):
    path = tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(path, stop=2)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    def writes_half(tensors, draft, note):
        draft.write_bytes(b"half")
        raise checkpoint.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    name, fault = {
        "writing": ("save_file", writes_half),
        "flushing": ("os.fsync", full),
        "renaming": ("os.replace", full),
    }[where]
    monkeypatch.setattr(f"eavit.training.checkpoint.{name}", fault)
    with pytest.raises(OSError, match=r"x\.safetensors could not be written: the disk is full; the older") as error:
        trained(path)
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    trained(path)


def test_a_really_full_disk(tmp_path):
    """A file system of 64 KiB, where one may be mounted."""
    import subprocess

    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        save_tensors(place / "x", {"a": torch.zeros(100)}, {})
        with pytest.raises(OSError, match="the disk is full; the older one is kept"):
            save_tensors(place / "x", {"a": torch.zeros(100_000)}, {})
        assert [p.name for p in place.iterdir()] == ["x"]
        assert load_tensors(place / "x")[0]["a"].shape == (100,)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_files_replace_or_stay(tmp_path, monkeypatch):
    for value in (1, 2):
        save_tensors(tmp_path / "a", {"a": torch.tensor(value)}, {})
    monkeypatch.setattr("eavit.training.checkpoint.os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_tensors(tmp_path / "a", {"a": torch.tensor(3)}, {})
    assert [(p.name, int(load_tensors(p)[0]["a"])) for p in tmp_path.iterdir()] == [("a", 2)]


def test_a_journal_survives_cuts_and_flips(tmp_path):
    path = tmp_path / "x.jsonl"
    values = {f"a e{i}": 1 / (i + 3) for i in range(5)}
    journal = Journal(path)
    assert [journal.get(key, lambda v=value: v) for key, value in values.items()] == list(values.values())
    whole = path.read_bytes()
    assert Journal(path).known == values  # exact to the bit
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        again = Journal(path)
        assert again.known.items() <= values.items()
        assert again.get("new", lambda: 0.5) == 0.5  # written after a cut line
        assert Journal(path).known == again.known
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        assert Journal(path).known.items() <= values.items()


POINTS = [("stage1", 3), ("rename", 2), ("evaluation", 7), ("warm", 1), ("joint", 2)]


def test_real_kills_leave_no_trace(tmp_path):
    """SIGKILL at many points of EA-ViT, one after another on the same folder and each on its own: weights, points and
    books equal an undisturbed run's to the bit.
    """
    made = context()

    def run(name, phase="", at=0):
        (tmp_path / name).mkdir(exist_ok=True)
        child = made.Process(target=adapt, args=(str(tmp_path / name), phase, at))
        child.start()
        child.join(100)
        return child.exitcode

    assert run("straight") == 0
    wanted = json.loads((tmp_path / "straight" / "answers.json").read_text())
    weights = (tmp_path / "straight" / "weights").read_bytes()
    for phase, at in POINTS:
        assert run("often", phase, at) == -signal.SIGKILL, (phase, at)
    assert run("often") == 0
    assert run("evaluation", "evaluation", 12) == -signal.SIGKILL
    assert run("evaluation") == 0
    for folder in tmp_path.iterdir():
        assert (folder / "weights").read_bytes() == weights, folder.name
        told = json.loads((folder / "answers.json").read_text())
        assert told | {"evaluated": 0} == wanted | {"evaluated": 0}, folder.name
        assert not list(folder.glob("*.tmp"))
    assert json.loads((tmp_path / "evaluation" / "answers.json").read_text())["evaluated"] < wanted["evaluated"]
