"""Data sets of Hugging Face's package ``datasets``: saved folders, folders of parquet files, or names on the hub.

Images are decoded as those of every other source; what comes from the hub is saved below the data root first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from harness.data.decoding import decode_image
from harness.data.image_folder import SPLIT_OF
from harness.data.listings import ListedImages, Listing, MissingFilesError
from harness.data.locations import DataError
from harness.data.shards import files_by_split
from harness.messages import choices, quoted

__all__ = ["hub_dataset"]

HUB, OPENED = "hub", "opened-parquet"  # folder below the data root for what the hub has, and for parquet as Arrow files


def hub_dataset(
    root: Path,
    name: str,
    config: str | None = None,
    image: str = "image",
    label: str = "label",
    splits: dict[str, str] = {},  # noqa: B006  # never changed
) -> Listing:
    """A folder or name of Hugging Face's `datasets`. Options: name, config, image, label (columns), splits."""
    package = _package()
    copy = root / HUB / "--".join([*name.split("/"), *([config] if config else [])])
    place = root / name if (root / name).exists() else copy
    if not place.exists():
        raise MissingFilesError(
            f"{name}: missing in {quoted(root)}: a folder {quoted(name)} of save_to_disk or of parquet files, or "
            f"{quoted(copy.relative_to(root))} with what the hub has under this name.",
            partial(_download, package, name, config, copy),
        )
    files, tables = _tables(package, place, root / HUB / OPENED)
    chosen = {role: _known(tables, split, f"{name}: split") for role, split in _roles(name, splits, tables).items()}
    for table in chosen.values():
        _known(table.features, image, f"{name}: column")
        _known(table.features, label, f"{name}: column")
    names, labels = _labels(name, {role: (table[label][:], table.features[label]) for role, table in chosen.items()})
    listed = {role: ListedImages(TableImages(package, table, image), labels[role]) for role, table in chosen.items()}
    return Listing(names, listed["train"], listed.get("select"), listed.get("test"), files)


class TableImages:
    """Images of a column, read and decoded when they are asked for."""

    def __init__(self, package: Any, table: Any, column: str) -> None:
        if not isinstance(table.features[column], package.Image):
            raise DataError(f"column {column!r}: holds {type(table.features[column]).__name__}, no images")
        self._table, self._column = (
            table.select_columns([column]).cast_column(column, package.Image(decode=False)),
            column,
        )

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Image.Image:
        stored = self._table[index][self._column]
        content = Path(stored["path"]) if stored["bytes"] is None else BytesIO(stored["bytes"])
        return decode_image(content, f"image {index}")


def _package() -> Any:
    try:
        import datasets  # of the extra `hub`; late: planning a suite without it must work
    except ModuleNotFoundError:
        raise DataError(
            "needs the package datasets: python -m pip install 'eavit-bench[hub]', or in a clone -e '.[hub]'."
        ) from None
    datasets.disable_progress_bars()
    return datasets


def _download(package: Any, name: str, config: str | None, copy: Path) -> None:
    """Save what the hub has under a name, as a whole or not at all."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{copy.name}.", suffix=".tmp", dir=copy.parent) as beside:
        package.load_dataset(name, config, cache_dir=f"{beside}/cache").save_to_disk(f"{beside}/saved")
        Path(beside, "saved").rename(copy)


def _tables(package: Any, place: Path, opened: Path) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
    """Files of a data set, and its tables by split."""
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        saved = package.load_from_disk(str(place))
        return tuple(sorted(place.rglob("*.arrow"))), saved if isinstance(saved, Mapping) else {"train": saved}
    by_split = files_by_split(place, ".parquet")
    if not by_split:
        raise DataError(f"{quoted(place)}: holds neither a data set of save_to_disk nor parquet files")
    names = {split: [str(file) for file in files] for split, files in by_split.items()}
    try:
        tables = package.load_dataset("parquet", data_files=names, cache_dir=str(opened))
    except Exception as error:  # the package raises whatever damaged files lead to
        raise DataError(f"{quoted(place)}: cannot be read ({type(error).__name__}: {error})") from error
    return tuple(file for files in by_split.values() for file in files), tables


def _roles(name: str, splits: Mapping[str, str], tables: Mapping[str, Any]) -> dict[str, str]:
    """Split of the data set for ``train``, ``select`` and ``test``: those of the option, else by their usual names."""
    for role in splits:
        if role not in ("train", "select", "test"):
            raise DataError(f"{name}: splits.{role}: unknown; {choices(role, ('train', 'select', 'test'))}")
    roles = dict(splits) or {SPLIT_OF[split]: split for split in tables if split in SPLIT_OF}
    if "train" not in roles:
        raise DataError(f"{name}: splits.train: name the split to train on; the data set has: {', '.join(tables)}")
    return roles


def _known(table: Mapping[str, Any], key: str, what: str) -> Any:
    if key not in table:
        raise DataError(f"{what} {key!r}: is not there; {choices(key, map(str, table))}")
    return table[key]


def _labels(name: str, columns: Mapping[str, tuple[list[Any], Any]]) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Names of the classes, and labels by split: numbers with the column's names or without any, or names."""
    values = {role: labels for role, (labels, _) in columns.items()}
    every = {value for labels in values.values() for value in labels}
    declared = getattr(columns["train"][1], "names", None)
    if every and all(isinstance(value, str) for value in every):
        places = {value: place for place, value in enumerate(sorted(every))}
        return tuple(places), {role: [places[value] for value in labels] for role, labels in values.items()}
    if not all(isinstance(value, int) and value >= 0 for value in every):
        odd = next(value for value in every if not isinstance(value, int) or value < 0)
        raise DataError(f"{name}: a label is {odd!r}: a split without labels? Allowed are names and numbers from 0.")
    return tuple(declared or map(str, range(1 + max(every, default=0)))), values
