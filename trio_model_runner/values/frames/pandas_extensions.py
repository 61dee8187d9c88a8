"""The two Arrow extension types that pandas writes for honest frames: periods and intervals.

A plain table has their storage, and says in a field's metadata, under keys of our own, what it was. Arrow's
own keys would not do: where pandas is imported, a table that comes from another process gets its extension
types as soon as it is read, and an error of pandas' there would be nobody's.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["extension_of", "is_dtype_of", "with_extensions"]

_OURS: Final = b"trio_model_runner.extension"
_NAME: Final = b"ARROW:extension:name"
_METADATA: Final = b"ARROW:extension:metadata"

_PERIOD: Final = b"pandas.period"
_INTERVAL: Final = b"pandas.interval"

_LONGEST: Final = 200
_FREQUENCY: Final = re.compile(
    r"[0-9]{0,4}(?:[BDHTSLUNMhs]|min|ms|us|ns|W-[A-Z]{3}|[QAY]-[A-Z]{3}|[WQAY])", re.ASCII
)
_INTERVAL_DTYPE: Final = re.compile(
    r"interval\[(?:u?int(?:8|16|32|64)|float(?:32|64)|(?:datetime|timedelta)64\[[mun]?s\]), "
    r"(?P<closed>[a-z]+)\]",
    re.ASCII,
)
_CLOSED: Final = frozenset({"left", "right", "both", "neither"})


def extension_of(pyarrow: Any, field: Any, storage: Any) -> dict[bytes, bytes] | None:
    """Say in the metadata of a plain field which of pandas' extension types a stranger's field had.

    Args:
        pyarrow: the module.
        field: the stranger's `pyarrow.Field`.
        storage: the plain type of the field.

    Returns:
        The plain field's metadata; None if it had none of the two, or its parameters are unknown.
    """
    name, text = _name_and_text(pyarrow, field)
    if name not in (_PERIOD, _INTERVAL):
        return None
    try:
        facts = json.loads(text) if 0 < len(text) <= _LONGEST else None
    except ValueError:  # also what is not UTF-8
        return None
    if not isinstance(facts, dict):
        return None
    if name == _PERIOD:
        freq = facts.get("freq")
        known = isinstance(freq, str) and _FREQUENCY.fullmatch(freq) and storage == pyarrow.int64()
        facts = {"freq": freq}
    else:
        closed = facts.get("closed")
        known = isinstance(closed, str) and closed in _CLOSED and _is_of_intervals(pyarrow, storage)
        facts = {"subtype": str(storage[0].type), "closed": closed} if known else {}
    return {_OURS: name, _METADATA: json.dumps(facts).encode()} if known else None


def is_dtype_of(field: Any, name: str) -> bool:
    """Say whether a dtype's name is the one that pandas has for a plain field that was an extension type."""
    metadata = field.metadata or {}
    if _OURS not in metadata:
        return False
    facts = json.loads(metadata[_METADATA])
    if metadata[_OURS] == _PERIOD:
        return name == f"period[{facts['freq']}]"
    match = _INTERVAL_DTYPE.fullmatch(name)
    return match is not None and match["closed"] == facts["closed"]


def with_extensions(pyarrow: Any, table: Any, pandas: Any = None) -> Any:
    """Give a plain table pandas' extension types, where its fields say so.

    Without pandas, if it has not registered them before, columns stay as they are, and fields say so.
    """
    if all(_OURS not in (field.metadata or ()) for field in table.schema):
        return table
    if pandas is not None:
        pyarrow.array(
            pandas.PeriodIndex([], freq="D").array
        )  # pandas registers them when it first writes one
    fields = [_with_arrows_keys(field) for field in table.schema]
    # Only reading makes extension types of fields.
    schema = pyarrow.ipc.read_schema(pyarrow.schema(fields, table.schema.metadata).serialize())
    columns = [
        _with_type(pyarrow, column, field.type) for column, field in zip(table.columns, schema, strict=True)
    ]
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _name_and_text(pyarrow: Any, field: Any) -> tuple[bytes, bytes]:
    if isinstance(field.type, pyarrow.ExtensionType):  # pandas is imported
        return field.type.extension_name.encode(), field.type.__arrow_ext_serialize__()
    metadata = field.metadata or {}
    return metadata.get(_NAME, b""), metadata.get(_METADATA, b"")


def _is_of_intervals(pyarrow: Any, storage: Any) -> bool:
    types = pyarrow.types
    if not types.is_struct(storage) or storage.num_fields != 2:
        return False
    left, right = storage[0], storage[1]
    fitting = (types.is_integer, types.is_floating, types.is_timestamp, types.is_duration)
    return (
        (left.name, right.name) == ("left", "right")
        and left.type == right.type
        and any(fits(left.type) for fits in fitting)
    )


def _with_arrows_keys(field: Any) -> Any:
    metadata = field.metadata or {}
    if _OURS not in metadata:
        return field
    return field.with_metadata({_NAME: metadata[_OURS], _METADATA: metadata[_METADATA]})


def _with_type(pyarrow: Any, column: Any, kind: Any) -> Any:
    if not isinstance(kind, pyarrow.BaseExtensionType):
        return column
    chunks = [pyarrow.ExtensionArray.from_storage(kind, chunk) for chunk in column.chunks]
    return pyarrow.chunked_array(chunks, kind)
