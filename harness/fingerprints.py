"""What the files of a suite hold now, for the ids of its cells: code by reading it, data by a cache or another process.

Fingerprints of data sets are kept in a folder of small files, each under a key of all that could change it: what the
suite asks for, the state of the source files, the code that reads them, the libraries. Deleting the folder costs time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from harness import code_digest
from harness.data import locations
from harness.data.locations import DataError
from harness.plan import COUNTER_VERSION, Prints, digest
from harness.results.atomic import write_whole
from harness.suite import DataSet, Input, Suite

CACHE = Path("runs/.cache/prints")
LIBRARIES = ("numpy", "pillow", "matplotlib", "torch", "torchvision")  # that read, draw or resize images
READER = "harness.data.loading"
FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Known:
    """What was read of a data set: the fingerprint of its splits, and the images of the fit split."""

    fingerprint: str
    fit: int

    @classmethod
    def of(cls, answer: Any) -> Known | None:
        """None where this is no answer of the reader."""
        try:
            right = FINGERPRINT.fullmatch(answer["fingerprint"]) and isinstance(answer["fit"], int)
            return cls(answer["fingerprint"], answer["fit"]) if right else None
        except (KeyError, TypeError):
            return None


def prints_of(suite: Suite, cache: Path | None = None, tell: Callable[[str], None] = lambda text: None) -> Prints:
    """Digests of code and data; ``tell`` hears what must be read. Data that cannot be read is no error: ``missing``."""
    found, missing = _data(suite, cache or CACHE, tell)
    return Prints(
        code=code_digest.digests([suite.backbone.use, *(method.use for method in suite.methods)]),
        data={entry.name: found[entry.name].fingerprint if entry.name in found else None for entry in suite.datasets},
        missing=missing,
        fit={name: each.fit for name, each in found.items()},
    )


def _data(suite: Suite, cache: Path, tell: Callable[[str], None]) -> tuple[dict[str, Known], dict[str, str]]:
    found: dict[str, Known] = {}
    missing: dict[str, str] = {}
    keys: dict[str, str] = {}
    for entry in suite.datasets:
        try:
            keys[entry.name] = _key(entry, suite.input)
        except DataError as error:
            missing[entry.name] = str(locations.with_dataset_name(entry.name, entry.source, error))
        else:
            kept = _kept(cache / f"{keys[entry.name]}.json", keys[entry.name])
            found |= {entry.name: kept} if kept else {}
    unread = [entry for entry in suite.datasets if entry.name in keys and entry.name not in found]
    if unread:
        tell(f"reading {', '.join(entry.name for entry in unread)} to know what is in there")
        read, faults = _read(unread, suite)
        missing |= faults
        found |= read
        for entry in unread:
            if entry.name in read and _key(entry, suite.input) == keys[entry.name]:  # not changed while it was read
                _keep(cache / f"{keys[entry.name]}.json", keys[entry.name], read[entry.name])
    return found, missing


def _key(entry: DataSet, input: Input) -> str:
    """Of all that could change the fingerprint; DataError where there is nothing to read."""
    states = [(str(file), *code_digest.stamp(file)) for file in locations.source_files(entry.source, entry.path)]
    return digest(
        {
            "asked": [entry.source, entry.fit, entry.select, entry.test, input.size, input.channels],
            "path": entry.path,
            "files": states,
            "counter": COUNTER_VERSION,
            "code": code_digest.digest(READER),
            "libraries": {name: _version(name) for name in LIBRARIES},
        }
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _kept(file: Path, key: str) -> Known | None:
    try:
        kept = json.loads(file.read_bytes())
        return Known.of(kept) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(file: Path, key: str, known: Known) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        write_whole(file, json.dumps({"key": key, **asdict(known)}).encode() + b"\n")


def _read(entries: Sequence[DataSet], suite: Suite) -> tuple[dict[str, Known], dict[str, str]]:
    """What is known, and why it is not of others, from one process for all ``entries``."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        request, answers = Path(folder, "request.json"), Path(folder, "answers.jsonl")
        asked = {
            "input": suite.input.model_dump(mode="json"),
            "datasets": [entry.model_dump(mode="json") for entry in entries],
        }
        request.write_text(json.dumps(asked), encoding="utf-8")
        ended = _run([sys.executable, "-m", READER, str(request), str(answers)], suite.threads, log)
        lines = answers.read_text(encoding="utf-8").splitlines() if answers.exists() else []
        log.seek(0)
        last = (log.read().decode("utf-8", "replace").split("\n") or [""])[-2:]
    said = {answer["name"]: answer for answer in map(json.loads, lines)}
    lost = f"reading it ended with code {ended}: {' '.join(last).strip()[:500]}"
    found = {name: known for name, answer in said.items() if (known := Known.of(answer)) is not None}
    faults = {e.name: str(said.get(e.name, {}).get("missing", lost)) for e in entries if e.name not in found}
    return found, faults


def _run(command: Sequence[str], threads: int, log: IO[bytes]) -> int:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=_environment(threads), start_new_session=True
    )
    try:
        return process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # after Ctrl-C too
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _environment(threads: int) -> Mapping[str, str]:
    paths = [str(Path(__file__).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
