"""Writes a record as a Parquet table with a row for each result, for pandas, DuckDB and their like.

Rows are collected until a row group is full, so memory stays as it is. The table has its name only when it
is whole: until then it is written beside it. So the name must be free, or that of a file: nothing else is
ever replaced. It needs pyarrow (the extra ``arrow``), so nothing imports this
file unless a table is wanted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ...text import is_utf8
from ...values.results import Status
from .record import Round

__all__ = ["SCHEMA", "Table"]

_NAME: Final = pa.dictionary(pa.int32(), pa.string())

SCHEMA: Final = pa.schema(
    {
        "crunch_id": _NAME,
        "round": pa.int64(),
        "method": _NAME,
        "started": pa.timestamp("us", tz="UTC"),
        "timeout": pa.float64(),
        "round_seconds": pa.float64(),
        "model_id": _NAME,
        "deployment_id": _NAME,
        "status": _NAME,
        "elapsed": pa.float64(),
        "sent": pa.bool_(),
        "detail": pa.string(),
        "value": pa.string(),  # JSON
    }
)

_ROWS: Final = 1 << 17
_STATUS: Final = {
    "S": Status.SUCCESS.value,
    "F": Status.FAILED.value,
    "T": Status.TIMEOUT.value,
    "K": Status.SKIPPED.value,
    "A": Status.ABSENT.value,
}


class Table:
    """A Parquet file that is being written.

    Attributes:
        rows: how many it has been given.

    Args:
        path: where the table will be. A symbolic link stays one, and what it leads to is replaced.

    Raises:
        OSError: it can't be written; `FileExistsError` if something that is no file is there.
    """

    def __init__(self, path: Path) -> None:
        self.rows = 0
        if path.exists() and not path.is_file():  # a rename would replace even a device
            raise FileExistsError(errno.EEXIST, "is no file; a table can't be written there", str(path))
        self._path = path.resolve()
        self._part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        try:
            self._file = self._part.open("xb")
        except OSError as error:
            error.filename = str(path)  # nobody asked for the part
            raise
        self._writer = pq.ParquetWriter(self._file, SCHEMA, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with contextlib.closing(self._file), contextlib.closing(self._writer):
                if kind is None:
                    self._flush()
            if kind is None:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def add(self, told: Round) -> None:
        """Write a round's results."""
        count = len(told.model_ids)
        values = [None] * count if told.values is None else told.values
        columns: dict[str, Iterable[Any]] = {
            "crunch_id": [_sound(told.crunch_id)] * count,
            "round": [told.id if isinstance(told.id, int) else None] * count,
            "method": [_sound(told.method)] * count,
            "started": [round(told.started * 1e6)] * count,
            "timeout": [told.timeout] * count,
            "round_seconds": [told.seconds] * count,
            "model_id": map(_sound, told.model_ids),
            "deployment_id": map(_sound, told.deployment_ids),
            "status": map(_STATUS.__getitem__, told.statuses),
            "elapsed": told.elapsed,
            "sent": map("1".__eq__, told.sent),
            "detail": [_sound(told.details.get(model_id)) for model_id in told.model_ids],
            "value": map(_as_json, values, told.statuses) if told.values else values,
        }
        for name, column in columns.items():
            self._columns[name].extend(column)
        self.rows += count
        if len(self._columns["round"]) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(self._columns[field.name], field.type) for field in SCHEMA]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        for column in self._columns.values():
            column.clear()


def _sound(text: str | None) -> str | None:
    """A text as it is; half a surrogate pair, which no UTF-8 can have, is written out."""
    if text is None or is_utf8(text):
        return text
    return text.encode(errors="backslashreplace").decode()


def _as_json(value: Any, status: str) -> str | None:
    return json.dumps(value, separators=(",", ":")) if status == "S" else None
