"""What a data set holds: read, divided, brought to the input size, and its fingerprint.

``python -m harness.data.contents REQUEST ANSWERS`` does it for fingerprints, which must not import torch.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.images import DataError, Images, fitted
from harness.data.locations import concerning
from harness.data.sources import read
from harness.data.splits import divide
from harness.processes.lifeline import die_with_parent
from harness.suite import DataSet, Input

SPLITS = ("fit", "select_a", "select_b", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    parts: Mapping[str, Images]  # by the names of SPLITS, at the input size
    dropped: int  # training images left out because an official select or test split holds the same image


def contents(spec: DataSet, input: Input) -> Contents:
    """Raises :class:`DataError` for whatever a person can mend."""
    try:
        parts = read(spec.source, spec.path, input.size, input.channels)
        divided = divide(parts, {"fit": spec.fit, "select": spec.select, "test": spec.test})
        ready = {name: fitted(getattr(divided, name), input.size, input.channels) for name in SPLITS}
    except DataError as error:
        raise concerning(spec.name, spec.source, error) from error
    return Contents(ready, divided.dropped)


def fingerprint(parts: Mapping[str, Images]) -> str:
    """Equal exactly when every split holds the same images, labels and pixels: else runs are not comparable."""
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        digest.update(repr((name, tuple(part.pixels.shape), part.classes)).encode("utf-8", "surrogatepass"))
        digest.update(b"".join(part.hashes))
        digest.update(part.labels.numpy().tobytes())
        digest.update(memoryview(part.pixels.contiguous().numpy()))  # type: ignore[arg-type]  # no copy
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> int:
    die_with_parent()
    asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    input = Input.model_validate_json(json.dumps(asked["input"]))
    with Path(arguments[1]).open("w", encoding="utf-8") as answers:
        for entry in asked["datasets"]:
            answer = _answer(DataSet.model_validate_json(json.dumps(entry)), input)
            answers.write(json.dumps({"name": entry["name"], **answer}) + "\n")
            answers.flush()  # what is known stays known if the next set ends this process
    return 0


def _answer(spec: DataSet, input: Input) -> dict[str, str | int]:
    try:
        parts = contents(spec, input).parts
        return {"fingerprint": fingerprint(parts), "fit": len(parts["fit"])}
    except DataError as error:
        return {"missing": str(error)}
    except Exception as error:  # planning must go on whatever a file holds; the cell will fail by name
        return {"missing": f'data set "{spec.name}" (source "{spec.source}"): {type(error).__name__}: {error}'}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
