"""Whether a frame that is sent arrives as it was: sent by us, read as nodes read it, and by ourselves.

The rule: it arrives with the same facts (see `frame_facts`), or is refused by a TypeError or a ValueError
that is not pyarrow's own. What the README calls the next best is the same in these facts; the dtypes of
pandas' columns are compared apart, with `expected_dtype`.
"""

from __future__ import annotations

import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pandas
import pyarrow

from trio_model_runner.values.data import DataType, decode_data, encode_data

from . import frame_facts
from .frame_facts import as_a_node_reads, facts_of_frame, facts_of_rows

__all__ = ["NodeReader", "assert_that_it_arrives", "expected_dtype"]


class NodeReader:
    """Another interpreter, with the pandas and the pyarrow of a node, that says what arrived."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), frame_facts.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def facts(self, data: bytes) -> Any:
        """Have a Parquet file read; an error there is an AssertionError here."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(len(data).to_bytes(8, "big") + data)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the node's reader has ended"
        facts = json.loads(line)
        assert "error" not in facts, f"the node can't read it: {facts['error']}"
        return facts

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def assert_that_it_arrives(frame: Any, node: NodeReader | None = None) -> bool:
    """Send a frame, and say whether it was sent; it may be refused.

    Raises:
        AssertionError: it arrives changed, can't be read where it arrives, or is refused in other ways.
    """
    before = _facts(frame)
    data = _sent(frame, DataType.PARQUET)
    stream = _sent(frame, DataType.ARROW)
    if stream is not None:
        streamed = _rows_of(decode_data(stream, DataType.ARROW))
        assert data is None or streamed == _rows_of(decode_data(data, DataType.PARQUET))
    if data is None:
        return False
    arrived = as_a_node_reads(data)
    if before is None:
        assert arrived.shape == frame.shape
        return True
    assert _facts(frame) == before, "sending has changed the frame itself"
    _assert_same(_as_json(facts_of_frame(arrived)), before)
    if node is not None:
        _assert_same(node.facts(data), before)
    if isinstance(frame, pandas.DataFrame):
        _assert_dtypes(frame, arrived)
    else:
        assert _rows_of(decode_data(data, DataType.PARQUET)) == before["values"]
    return True


def _sent(frame: Any, data_type: DataType) -> bytes | None:
    try:
        with warnings.catch_warnings(action="error"):
            return encode_data(data_type, frame)
    except (TypeError, ValueError) as error:
        if type(error) in (TypeError, ValueError):  # pyarrow's own are of classes that are made of these
            return None
        raise AssertionError(f"it is refused by {error!r}") from error


def _facts(frame: Any) -> Any:
    """The facts of a frame before it is sent; None, where it has values that can't be looked at."""
    if isinstance(frame, pandas.DataFrame):
        try:
            return _as_json(facts_of_frame(frame))
        except (ValueError, OverflowError, KeyError, NotImplementedError):
            return None  # times of no year of Python's, an unknown zone, types that pandas has no word for
    if isinstance(frame, pyarrow.Table):
        rows = _rows_of(frame)
        return None if rows is None else {"names": list(frame.column_names), "values": rows}
    columns = [[frame_facts.fact(value) for value in column.to_list()] for column in frame.get_columns()]
    return {"names": frame.columns, "values": _as_json(columns)}


def _rows_of(table: Any) -> Any:
    try:
        return _as_json(facts_of_rows(table))["values"]
    except (ValueError, OverflowError):
        return None


def _as_json(facts: Any) -> Any:
    return json.loads(json.dumps(facts))


def _assert_same(arrived: Any, before: Any) -> None:
    if "names" in before:
        assert [label[1] for label in arrived["columns"]["labels"]] == before["names"]
        assert arrived["index"]["levels"] == 0
    else:
        assert arrived["columns"] == before["columns"]
        assert arrived["index"] == before["index"]
    assert arrived["values"] == before["values"]


def _assert_dtypes(frame: Any, arrived: Any) -> None:
    for place, dtype in enumerate(frame.dtypes):
        expected = expected_dtype(frame.iloc[:, place])
        got = str(arrived.dtypes.iloc[place])
        assert expected in (None, got), f"{dtype} came back as {got}"


def expected_dtype(column: Any) -> str | None:
    """The dtype with which a column of pandas arrives where this release of pandas reads it.

    None: several ones are right, for objects and for categories that are no texts.
    """
    dtype, name = column.dtype, str(column.dtype)
    if name.startswith("datetime64[s"):
        return name.replace("64[s", "64[ms")
    if name == "string[pyarrow]" or (isinstance(dtype, pandas.ArrowDtype) and name.startswith("string[")):
        return "string"
    if isinstance(dtype, pandas.ArrowDtype):
        return None
    if isinstance(dtype, pandas.CategoricalDtype):
        is_text = pandas.api.types.infer_dtype(dtype.categories) == "string"
        return name if is_text and column.notna().any() else None
    return None if name == "object" else name
