"""Fingerprints of a suite's code and data, for the ids of its cells: of code by reading it, of data by a child process.

Fingerprints of data sets are cached in a folder of small files, each under a key of all that could change them: what
the suite requests, the state of the source files, the code that reads them, the libraries. The folder may be deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness import code_digest
from harness.data import locations
from harness.data.locations import PROJECT, DataError
from harness.jobs.call import CallError, call_each
from harness.jobs.files import write_atomic
from harness.jobs.fork_server import ForkServer
from harness.plan import COUNTER_VERSION, Prints, canonical_digest, named_code
from harness.suite import DataSet, Input, Suite

CACHE = Path("runs/.cache/prints")
LIBRARIES = ("numpy", "pillow", "matplotlib", "torch", "torchvision")  # that read, draw or resize images
READER = "harness.data.loading:describe_dataset"
LISTER = "harness.data.listings:describe_state"
DEADLINE = 4 * 3600.0  # seconds for reading data sets

Call = Callable[[str, Sequence[object]], list[Any]]  # entry and payloads -> results


class Known(BaseModel):
    """Cached facts of one data set: the fingerprint of its splits, and the images of the fit split."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    key: str
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    fit: int


def prints_of(
    suite: Suite,
    cache: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
    server: ForkServer | None = None,
) -> Prints:
    """Digests of code and data; ``tell`` hears what must be read. Data that cannot be read is no error: ``missing``.

    ``server``: forks the processes that read, else they are fresh interpreters.
    """

    def call(entry: str, payloads: Sequence[object]) -> list[Any]:
        return call_each(entry, payloads, DEADLINE, PROJECT, None, server, suite.threads)

    code = code_digest.digests(_named_code(suite))  # before the server, which cells are forked from, imports it
    folder, keys, missing = cache or CACHE, dict[str, str](), dict[str, str]()
    states = _listing_states(suite.datasets, call)
    for entry in suite.datasets:
        try:
            keys[entry.name] = _key(entry, suite.input, states.get(entry.name))
        except DataError as error:
            missing[entry.name] = str(locations.with_dataset_name(entry.name, entry.source, error))
    known = {name: each for name, key in keys.items() if (each := _recall(folder, key)) is not None}
    unread = {entry.name: entry for entry in suite.datasets if entry.name in keys and entry.name not in known}
    if unread:
        tell(f"reading {', '.join(unread)} to know what is in there")
        for name, answer in _read(suite, unread, keys, call).items():
            if isinstance(answer, str):
                missing[name] = answer
                continue
            known[name] = answer
        states = _listing_states(unread.values(), call)
        for name, entry in unread.items():
            if name in known and _key(entry, suite.input, states.get(name)) == known[name].key:
                _remember(folder, known[name])  # not changed while it was read
    return Prints(
        code=code,
        data={entry.name: known[entry.name].fingerprint if entry.name in known else None for entry in suite.datasets},
        missing=missing,
        fit={name: each.fit for name, each in known.items()},
    )


def _named_code(suite: Suite) -> list[str]:
    """Import strings of the suite, and those in options of methods that name a module which is there."""
    options = named_code([method.options for method in suite.methods])
    uses = [suite.backbone.use, *(method.use for method in suite.methods)]
    return [*uses, *(use for use in options if code_digest.is_there(use))]


def _listing_states(entries: Iterable[DataSet], call: Call) -> dict[str, str | None]:
    """State of the files of each listing by name of the data set; None where they are not there or cannot be listed."""
    listed = [entry for entry in entries if entry.source == "listing"]
    requests = [{"use": entry.use, "options": entry.options, "path": entry.path} for entry in listed]
    answers = call(LISTER, requests) if listed else []
    return {
        entry.name: None if isinstance(answer, CallError) else answer
        for entry, answer in zip(listed, answers, strict=True)
    }


def _key(entry: DataSet, input: Input, listed: str | None) -> str:
    """Digest of all that could change the fingerprint; DataError where there is nothing to read.

    ``listed``: state of the files of a listing.
    """
    states = [(str(file), *code_digest.stamp(file)) for file in locations.source_files(entry.source, entry.path)]
    return canonical_digest(
        {
            "requested": [entry.source, entry.fit, entry.select, entry.test, input.size, input.channels],
            "reading": [entry.reading, input.resize],
            "listing": [entry.options, listed, code_digest.digest(entry.use)] if entry.use and listed else None,
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


def _recall(folder: Path, key: str) -> Known | None:
    try:
        known = Known.model_validate_json((folder / f"{key}.json").read_bytes())
    except (OSError, ValidationError):  # not there, or damaged: read again
        return None
    return known if known.key == key else None


def _remember(folder: Path, known: Known) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        write_atomic(folder / f"{known.key}.json", known.model_dump_json().encode() + b"\n")


def _read(suite: Suite, entries: Mapping[str, DataSet], keys: Mapping[str, str], call: Call) -> dict[str, Known | str]:
    """Contents of each data set by its name, or the reason why it cannot be read."""
    shared = suite.input.model_dump(mode="json")
    requests = [{"dataset": entry.model_dump(mode="json"), "input": shared} for entry in entries.values()]
    contents: dict[str, Known | str] = {}
    for name, answer in zip(entries, call(READER, requests), strict=True):
        if isinstance(answer, CallError):
            contents[name] = ": ".join(["reading it failed", str(answer), *answer.log.splitlines()[-1:]])
        else:
            contents[name] = str(answer["missing"]) if "missing" in answer else Known(key=keys[name], **answer)
    return contents
