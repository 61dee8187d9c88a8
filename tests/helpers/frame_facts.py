"""What is in a data frame, in words that two releases of pandas agree on.

    python frame_facts.py

As a program, it reads frames as deployed nodes do, with whatever pandas and pyarrow its interpreter has: from
standard input, each the length of a Parquet file in 8 bytes and the file. It answers each with a line of
JSON: the facts, or the error. So this module imports nothing of ours.

Facts tell apart what a model would: 1 and True, bytes and text, a time and the same instant elsewhere. They
leave out what changes with the release, or what our README says is replaced by the next best: how a missing
value is written, tuples, lists and arrays, whole numbers and floats of the same value inside of columns,
fields of objects that are missing.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import io
import json
import numbers
import sys
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.parquet

__all__ = ["as_a_node_reads", "fact", "facts_of_frame", "facts_of_rows", "label_fact"]

MISSING = ["missing"]
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
DIGITS = decimal.Context(prec=200)


def as_a_node_reads(data: bytes) -> Any:
    """Read a Parquet file as release 0.4.2 of the node software does, in a process that is new.

    There, pandas has not registered its extension types yet: it does when it writes one, or reads a column of
    one. So they are taken away here.
    """
    for name in ("pandas.period", "pandas.interval"):
        with contextlib.suppress(KeyError):
            pyarrow.unregister_extension_type(name)
    try:
        return pyarrow.parquet.read_table(io.BytesIO(data)).to_pandas()
    finally:
        register_extension_types()


def register_extension_types() -> None:
    from pandas.core.arrays.arrow import extension_types

    for made in (
        extension_types.ArrowPeriodType("D"),
        extension_types.ArrowIntervalType(pyarrow.int64(), "left"),
    ):
        with contextlib.suppress(pyarrow.ArrowKeyError):
            pyarrow.register_extension_type(made)


def facts_of_frame(frame: Any) -> dict[str, Any]:
    """The facts of a pandas frame: its labels on both axes, their names, and its rows."""
    return {
        "columns": facts_of_labels(frame.columns),
        "index": facts_of_labels(frame.index),
        "values": [[fact(value) for value in frame.iloc[:, place]] for place in range(frame.shape[1])],
    }


def facts_of_labels(labels: Any) -> dict[str, Any]:
    return {
        "levels": labels.nlevels if isinstance(labels, pandas.MultiIndex) else 0,
        "names": [label_fact(name) for name in labels.names],
        "labels": [label_fact(label) for label in labels],
    }


def facts_of_rows(table: Any) -> dict[str, Any]:
    """The facts of a `pyarrow.Table`: the names of its columns, and their values."""
    return {
        "names": list(table.column_names),
        "values": [[fact(value) for value in column.to_pylist()] for column in table.columns],
    }


def label_fact(label: Any) -> Any:
    """The fact of a label: whole numbers and floats are told apart."""
    if isinstance(label, tuple):
        return ["tuple", *map(label_fact, label)]
    made = fact(label)
    if made[0] == "number" and not isinstance(label, decimal.Decimal):
        return ["whole" if isinstance(label, numbers.Integral) else "float", *made]
    return made


def fact(value: Any) -> Any:
    """The fact of a value."""
    if is_missing(value):
        return MISSING
    if isinstance(value, (bool, numpy.bool_)):
        return ["bool", bool(value)]
    if isinstance(value, str):
        return ["text", str(value)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, (numpy.datetime64, numpy.timedelta64)):
        is_time = isinstance(value, numpy.datetime64)
        return fact(pandas.Timestamp(value) if is_time else pandas.Timedelta(value))
    if isinstance(value, (numbers.Number, decimal.Decimal)):
        return fact_of_number(value)
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        return fact_of_time(value)
    return fact_of_other(value)


def fact_of_number(value: Any) -> Any:
    if isinstance(value, numbers.Integral):
        return ["number", str(int(value))]
    if isinstance(value, decimal.Decimal):
        if value.is_finite() and value == value.to_integral_value():
            return ["number", str(int(value))]
        return ["decimal", str(value.normalize(DIGITS))]
    if isinstance(value, numbers.Real):
        value = float(value)
        if value.is_integer() and str(value) != "-0.0":
            return ["number", str(int(value))]
    return ["number", repr(value)]


def fact_of_time(value: Any) -> Any:
    if isinstance(value, pandas.Timedelta):
        unit = numpy.datetime_data(value.asm8.dtype)[0]
        return ["duration", int(value.asm8.astype("int64")) * NANOSECONDS[unit]]
    if isinstance(value, datetime.timedelta):
        seconds = value.days * 86_400 + value.seconds
        return ["duration", (seconds * 10**6 + value.microseconds) * 1000]
    if isinstance(value, datetime.time):
        return ["clock", value.isoformat()]
    if not isinstance(value, datetime.datetime):
        return ["date", value.isoformat()]
    clock = [value.hour, value.minute, value.second, value.microsecond, getattr(value, "nanosecond", 0)]
    offset = value.utcoffset()
    zone = None if offset is None else offset.total_seconds()
    return ["time", value.year, value.month, value.day, *clock, zone]


def fact_of_other(value: Any) -> Any:
    if isinstance(value, pandas.Period):
        return ["period", str(value), value.freqstr]
    if isinstance(value, pandas.Interval):
        return ["interval", fact(value.left), fact(value.right), value.closed]
    if isinstance(value, dict):
        fields = {str(key): fact(each) for key, each in value.items()}
        return ["object", {key: each for key, each in sorted(fields.items()) if each != MISSING}]
    if isinstance(value, (list, tuple, numpy.ndarray)):
        return ["list", *map(fact, value)]
    return ["other", type(value).__name__, repr(value)]


def is_missing(value: Any) -> bool:
    if value is None or value is pandas.NaT or value is pandas.NA:
        return True
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    return not hasattr(value, "__len__") and bool(value != value)


def main() -> None:
    """Answer frames until standard input ends."""
    while length := sys.stdin.buffer.read(8):
        data = sys.stdin.buffer.read(int.from_bytes(length, "big"))
        try:
            answer = facts_of_frame(as_a_node_reads(data))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
