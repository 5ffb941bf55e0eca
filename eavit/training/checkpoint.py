"""Files of a run, so that a killed one goes on where it was: checkpoints, whole small files, a journal.

Files are written beside their place, flushed to the disk, then renamed: a reader sees the old one or the new one. A
checkpoint carries a SHA-256 of its notes and tensors and is refused if it does not match; a journal's lines carry a
checksum each, and a damaged or cut one is as if it had not been written. No pickles.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from eavit.training.distributed import is_main
from eavit.training.task import Spent


class CheckpointError(ValueError):
    """A checkpoint that must not be used: damaged, of another run, or with other parameters."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Path of a fit's checkpoint (one safetensors file) and its interval; ``seconds=0`` is after every step."""

    path: Path | None = None
    seconds: float = 60.0


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A draft that takes the place of ``path`` once it is written; on any failure it is removed and ``path`` stays."""
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _flush(draft)
        os.replace(draft, path)  # noqa: PTH105 - what a test lets fail
        _flush(draft.parent)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise _spoken(error, path) from error
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _spoken(error: Exception, path: Path) -> OSError:
    """The system's reason (safetensors hides it in its text) with the file that could not be written."""
    match = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(match[1]) if match else None
    reason = "the disk is full" if number == errno.ENOSPC else str(error)
    kept = "; the older one is kept" if path.exists() else ""
    return OSError(number or errno.EIO, f"{path.name} could not be written: {reason}{kept}")


def _digest(tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(note.items())).encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> None:
    """Write tensors and notes to a safetensors file, atomically; OSError, naming the file, where that fails."""
    still = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with _replacing(path) as draft:
        save_file(still, draft, {**note, "sha256": _digest(still, note)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes; CheckpointError if a single bit of them is not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            note = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name}: damaged checkpoint ({error}); delete it") from error
    written = note.pop("sha256", None)
    if written != _digest(tensors, note):
        raise CheckpointError(f"{path.name}: damaged checkpoint (its SHA-256 does not match); delete it")
    return tensors, note


class Checkpoint:
    """Parameters, moments and what was spent, in one file. A finished fit keeps parameters only. The first process
    writes, all of them read.
    """

    def __init__(self, saving: Saving, model: nn.Module, optimiser: torch.optim.Optimizer, identity: str) -> None:
        self.path, self.seconds = saving.path, saving.seconds
        self.model, self.optimiser, self.identity = model, optimiser, identity
        self.due = time.monotonic() + saving.seconds
        self.notes: dict[str, str] = {}  # of the fit, to be written and as they were read

    def save(self, spent: Spent, *, finished: bool = False) -> None:
        """Write if it is due, or if the fit is finished."""
        if self.path is None or not is_main() or not (finished or time.monotonic() >= self.due):
            return
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        if not finished:
            tensors |= self._moments()
        own = {"identity": self.identity, "spent": json.dumps(spent.amounts)}
        save_tensors(self.path, tensors, {**self.notes, **own})
        self.due = time.monotonic() + self.seconds

    def _moments(self) -> dict[str, Tensor]:
        state = self.optimiser.state_dict()["state"]
        return {f"optimiser.{i}.{key}": value for i, values in state.items() for key, value in values.items()}

    def load(self) -> Spent:
        """Read parameters, moments and notes into their places, and return what was spent; nothing without a file.
        CheckpointError on a damaged file, or one of another run.
        """
        if self.path is None or not self.path.exists():
            return Spent()
        tensors, note = load_tensors(self.path)
        if note.get("identity") != self.identity:
            raise CheckpointError(
                f"{self.path.name}: made by another run ({note.get('identity')}, not {self.identity}); delete it"
            )
        weights = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
        self._require_keys(weights)
        self.model.load_state_dict(weights, strict=True)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({"state": moments, "param_groups": self.optimiser.state_dict()["param_groups"]})
        self.notes = {key: value for key, value in note.items() if key not in ("identity", "spent")}
        return Spent(**json.loads(note["spent"]))

    def _require_keys(self, weights: Mapping[str, Tensor]) -> None:
        wanted, read = ({k: tuple(v.shape) for k, v in side.items()} for side in (self.model.state_dict(), weights))
        faults = [f"lacks {key}" for key in wanted if key not in read]
        faults += [f"has the unknown {key}" for key in read if key not in wanted]
        faults += [
            f"has {k} of shape {read[k]}, must be {wanted[k]}" for k in wanted if read.get(k, wanted[k]) != wanted[k]
        ]
        if faults:
            more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise CheckpointError(f"{self.path and self.path.name}: {', '.join(faults[:5])}{more}")


class Journal:
    """Values found so far, by key, one line each as they are found. Only the first process touches the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, float] = dict(self._lines()) if is_main() and path.exists() else {}

    def _lines(self) -> Iterator[tuple[str, float]]:
        for line in self.path.read_bytes().split(b"\n"):
            try:
                key, value, check = json.loads(line)
            except (ValueError, TypeError):
                continue
            if check == self._check(key, value):
                yield key, value

    @staticmethod
    def _check(key: str, value: float) -> int:
        return zlib.crc32(f"{key} {value!r}".encode())

    def get(self, key: str, find: Callable[[], float]) -> float:
        """The value of a key, found now and written down if it is not known. A number, exact to the bit."""
        if key not in self.known:
            self.known[key] = float(find())
            line = json.dumps([key, self.known[key], self._check(key, self.known[key])])
            with self.path.open("ab") as file:
                file.write(f"\n{line}\n".encode())  # a cut line before this one stays alone
        return self.known[key]
