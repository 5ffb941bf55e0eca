"""The files that outlive the cells: points.csv, one row per method, data set, seed and budget, and records.jsonl."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.jobs.files import write_atomic
from harness.messages import choices
from harness.plan import Cell, canonical_digest
from harness.results.cell_files import StoreError, fits, parse_record
from harness.results.record import STATUSES, Point, Record
from harness.tasks import ACCURACY

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "suite,method,dataset,seed,budget,status,key,macs,params,correct,n,accuracy,train_macs,train_seconds,cell,"
    "full_macs,latency_ms,choice_hash,reason,classes,search_macs,regime,data,code,counter,area,"
    "score,mean_average_precision,auroc,mean_iou,chance"
).split(",")
LATER = COLUMNS[-5:]  # of tasks other than classification: a file without one does not have them
REQUIRED = COLUMNS[:15]  # of every version of the file; the others may be absent and are then empty
TEXT = (
    *("suite", "method", "dataset", "status", "key", "cell", "choice_hash", "reason", "regime", "data", "code"),
    "score",
)
KEY = ["suite", "method", "dataset", "seed", "budget"]

Row = dict[str, str | int | float | None]


def point_rows(cells: Iterable[Cell], records: Mapping[str, Record]) -> list[Row]:
    """Rows in the order of the plan, named as the plan names them; a cell without a record has no row."""
    return [
        _row(cell, records[cell.id], point) for cell in cells if cell.id in records for point in records[cell.id].points
    ]


def _row(cell: Cell, record: Record, point: Point) -> Row:
    single = point.scores is None  # each image is right or wrong
    spent, classes = bool(record.ledger), record.data.get("classes")
    return {
        "suite": cell.suite,
        "method": cell.method,
        "dataset": cell.dataset,
        "seed": cell.seed,
        "budget": point.budget,
        "status": point.status,
        "key": point.key,
        "macs": point.macs,
        "params": point.params,
        "correct": point.correct,
        "n": point.n,
        "accuracy": record.value(point) if single else None,
        "train_macs": int(record.train_macs) if spent else None,
        "train_seconds": round(record.train_seconds, 3) if spent else None,
        "cell": record.cell,
        "full_macs": record.full_macs,
        "latency_ms": point.latency_ms,
        "choice_hash": record.choice_hash,
        "reason": point.reason,
        "classes": len(classes) if isinstance(classes, list) else None,
        "search_macs": int(record.macs_of("search")) if spent else None,
        "regime": _said(record, "regime"),
        "data": _said(record, "data"),
        "code": canonical_digest(record.identity["code"])[:16] if "code" in record.identity else None,
        "counter": _said(record, "counter"),
        "area": record.area,
        "score": None if record.score == ACCURACY else record.score,
        "chance": None if record.score == ACCURACY else record.chance,
        **{name: (point.scores or {}).get(name) for name in LATER[1:-1]},
    }


def _said(record: Record, key: str) -> str | int | None:
    """A plain part of the cell's identity: two points are comparable only if these are equal."""
    value = record.identity.get(key)
    return value if isinstance(value, str | int) else None


def read_points(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows of ``points.csv`` with all ``COLUMNS`` in their types, and the optional columns that the file lacks.
    Of a suite with another score than accuracy, that score is the column ``accuracy`` of what is read.

    Ids and statuses stay text: ``12e45`` is no number, and ``nan`` is a status. StoreError: the file is not there or no
    table of points, a number is none, a status is unknown, or a point occurs twice.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, "str"), keep_default_na=False, na_values=[""])
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; `eavit-bench run` writes it") from None
    except ValueError as error:  # not CSV, empty, or not UTF-8
        raise StoreError(f"{path}: not a table of points: {error}; `eavit-bench run` writes it") from None
    absent = [column for column in REQUIRED if column not in table]
    if absent:
        raise StoreError(f"{path}: not a table of points, without the columns {', '.join(absent)}")
    optional = tuple(column for column in COLUMNS if column not in table)
    for column in COLUMNS:
        if column in optional:
            table[column] = pd.Series(
                pd.NA if column in TEXT else float("nan"), table.index, "str" if column in TEXT else float
            )
        elif column not in TEXT:
            table[column] = _numeric(table[column], path)
    _check_rows(table, path)
    for score in table["score"].dropna().unique():  # what is compared, whatever it is
        here = table["score"] == score
        table.loc[here, "accuracy"] = table.loc[here, score]
    return table, tuple(column for column in optional if column not in LATER)


def _numeric(values: pd.Series, path: Path) -> pd.Series:
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce")
    wrong = values[numbers.isna() & values.notna()]
    if len(wrong) or (values.name in KEY and numbers.isna().any()):
        at = wrong.index[0] if len(wrong) else numbers.index[numbers.isna()][0]
        what = f"{values[at]!r} is not a number" if len(wrong) else "empty; needs a number"
        raise StoreError(f"{path}: line {at + 2}: {values.name}: {what}")
    return numbers


def _check_rows(table: pd.DataFrame, path: Path) -> None:
    for at, status in table["status"][~table["status"].isin(STATUSES)].head(1).items():
        raise StoreError(f"{path}: line {int(str(at)) + 2}: status: {choices(str(status), STATUSES)}")
    twice = table[table.duplicated(KEY)]
    if len(twice):
        _, method, dataset, seed, budget = (twice[column].iloc[0] for column in KEY)
        point = f"{method} · {dataset} · seed {seed} at {100 * budget:g} %"
        raise StoreError(f"{path}: line {int(twice.index[0]) + 2}: {point} occurs twice")


def write_records(path: Path, cells: Iterable[Cell], records: Mapping[str, Record]) -> None:
    """All records in one file, a line each in the plan's order: provenance that can be kept without the cells."""
    lines = (records[cell.id].model_dump_json() for cell in cells if cell.id in records)
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode("utf-8"))


def read_records(path: Path) -> dict[str, Record]:
    """Read what :func:`write_records` wrote, by cell, older schemas migrated.

    StoreError names the line that is cut, changed in what its cell's id stands for, or there twice.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    records: dict[str, Record] = {}
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        where = f"{path}: line {number}"
        if not line.endswith(b"\n"):
            raise StoreError(f"{where}: cut short")
        record = parse_record(line, where)
        if not fits(record):
            raise StoreError(f"{where}: what it says of its cell is not what {record.cell} stands for: it was changed")
        if record.cell in records:
            raise StoreError(f"{where}: cell {record.cell} is there twice")
        records[record.cell] = record
    return records


def write_points(path: Path, rows: Iterable[Row]) -> None:
    """Replace ``path`` as a whole: whoever reads it sees the old file or the new one."""
    text, kept = io.StringIO(newline=""), list(rows)
    columns = [name for name in COLUMNS if name not in LATER or any(row["score"] for row in kept)]
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(kept)
    write_atomic(path, text.getvalue().encode("utf-8"))
