"""Files that a report is made of, and a stamp beside it: where these are as they were, nothing is made again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import code_digest
from harness.jobs.files import write_atomic
from harness.results.checksums import file_checksum
from harness.suite import Suite

FIGURES = "figures"  # the folder of the figures
NAME = ".made-of"  # JSON: the digest of the sources, the checksums of the files, and what the command shows of them
PACKAGES = ("altair", "matplotlib", "numpy", "pandas", "scipy", "vl-convert-python")  # tables and figures depend on


def claims_beside(suite_file: Path) -> Path:
    """The file that holds the claims of a suite."""
    return suite_file.with_suffix(".claims.toml")


def digest_of_sources(folder: Path, suite: Suite, suite_file: Path) -> str:
    """Digest of all that a report is made of: points and records, what is read beside them, the suite with the code of
    its metrics and its claims, the sources of this program, and the versions of the packages that count and draw.
    """
    program = Path(__file__).parents[1]
    beside = [*(folder / name for name in ("points.csv", "records.jsonl", "cards.json")), claims_beside(suite_file)]
    sources = [*sorted(program.rglob("*.py")), *sorted((program / "reports" / "page" / "templates").glob("*"))]
    digest = sha256(suite.model_dump_json().encode())
    digest.update(" ".join(code_digest.digest(metric.use) for metric in suite.metrics).encode())
    digest.update(" ".join(f"{name} {metadata.version(name)}" for name in PACKAGES).encode())
    for path in (*beside, *sorted((folder.parent / "reference").glob("*.csv")), *sources):
        digest.update(path.name.encode() + (sha256(path.read_bytes()).digest() if path.is_file() else b"-"))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Stamp:
    """Files that were made, by their names in the folder, and plain values that the command shows of them."""

    files: tuple[str, ...]
    shown: Mapping[str, Any]


def write_stamp(folder: Path, sources: str, files: Iterable[Path], shown: Mapping[str, Any]) -> Stamp:
    """Write and return the stamp of ``files``, which lie in ``folder``."""
    checksums = {path.relative_to(folder).as_posix(): file_checksum(path) for path in files}
    text = json.dumps({"sources": sources, "checksums": checksums, "shown": shown}, ensure_ascii=False)
    write_atomic(folder / NAME, text.encode("utf-8"))
    return Stamp(tuple(checksums), shown)


def read_stamp(folder: Path, sources: str) -> Stamp | None:
    """The stamp in ``folder``; None where other sources made its files, or one of them is not as it was."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        stamp = json.loads((folder / NAME).read_bytes())
        same = all(file_checksum(folder / name) == checksum for name, checksum in stamp["checksums"].items())
        if same and stamp["sources"] == sources and isinstance(stamp["shown"], dict):
            return Stamp(tuple(stamp["checksums"]), stamp["shown"])
    return None
