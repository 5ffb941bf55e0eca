"""The checksums of what a folder of results keeps, so that a file changed by a digit is found: ``SHA256SUMS``.

In the format of ``sha256sum``, which checks it too: ``sha256sum --check SHA256SUMS``.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from harness.jobs.files import write_atomic

NAME = "SHA256SUMS"
SOURCES = ("points.csv", "records.jsonl", "cards.json", "correct.npz", "metrics.csv")  # what reports are made of
# What is kept and can be committed. Cells have checksums of their own, figures/ and report.html are drawn again.
KEPT = (
    *SOURCES,
    "table.md",
    "report.tex",
    "table.csv",
    "differences.csv",
    "selector_comparison.md",
    "pareto.png",
    "pareto.svg",
)
FRAGMENTS = "tex"  # the folder of the tables that a paper can input
LINE = re.compile(rf"([0-9a-f]{{64}})  ((?:{FRAGMENTS}/)?[^/\0\r\n]+)")


def write_checksums(folder: Path) -> Path:
    """List every kept file that is there, as it is now."""
    fragments = [f"{FRAGMENTS}/{path.name}" for path in sorted((folder / FRAGMENTS).glob("*.tex"))]
    there = [name for name in (*KEPT, *fragments) if (folder / name).is_file()]
    write_atomic(folder / NAME, "".join(f"{file_checksum(folder / name)}  {name}\n" for name in there).encode())
    return folder / NAME


def checksum_faults(folder: Path) -> dict[str, str]:
    """Name of each listed file that is not as it was, and how; the list itself where it cannot be read.

    Empty where the folder has no list, or every file is as listed.
    """
    try:
        lines = (folder / NAME).read_bytes().decode("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        return {NAME: f"cannot be read: {error}"}
    faults: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = LINE.fullmatch(line)
        if match is None:
            faults[NAME] = f"line {number}: not of the form of sha256sum"
        elif not (folder / match[2]).is_file():
            faults[match[2]] = f"is missing, {NAME} lists it"
        elif file_checksum(folder / match[2]) != match[1]:
            faults[match[2]] = f"was changed after it was written: its checksum is not the one in {NAME}"
    return faults


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, in hex. OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
