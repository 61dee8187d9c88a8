"""The types of columns as they are sent: each arrives with its values, or is refused before anything is sent.

Parquet lacks some of Arrow's types. What it has may still come back as something else where it is read.
Deployed nodes (release 0.4.2) have pyarrow 18, and pandas from 2.2.3 on: they do ``to_pandas()``. There a
duration as the key of a map is a number, a list of times loses their zone, and an extension type that is not
registered is its bare storage. What a node can't read at all counts as its model's failure. All of this was
tried with their releases. So types are replaced by others with the same values, at any depth: views of text
by text, lists of a fixed length by lists, categories that are no text by their values. What has no such type
is refused.

Read `sent_schema` first. This module looks at types, never at values. `plain_types` does the same for what
comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..refusal import Refusal
from .plain_types import DEEPEST, names_of_types
from .time_zones import is_known_zone

__all__ = ["sent_schema"]

_EXTENSION: Final = b"ARROW:extension:name"  # of a type that is not registered here
_OF_PANDAS: Final = frozenset({"pandas.period", "pandas.interval"})
"""pandas finds these by the name of the column's dtype, where they are registered and where they are not."""

_TEXTS: Final = frozenset({"STRING", "LARGE_STRING", "BINARY", "LARGE_BINARY"})
_VIEWS: Final = frozenset({"STRING_VIEW", "BINARY_VIEW"})
_AS_THEY_ARE: Final = _TEXTS | {
    *("NA", "BOOL", "HALF_FLOAT", "FLOAT", "DOUBLE", "DATE32", "DATE64", "TIME32", "TIME64"),
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
}
_ADDRESS_BYTES: Final = 8


def sent_schema(pyarrow: Any, schema: Any, *, parquet: bool, library: str) -> Any:
    """Make the schema with which a table is sent.

    Args:
        pyarrow: the module.
        schema: the table's `pyarrow.Schema`.
        parquet: whether it becomes Parquet; an Arrow stream has more types.
        library: the name of the package that made the frame, such as ``polars``.

    Returns:
        The schema, with the same columns and metadata.

    Raises:
        Refusal: a column can't be sent. The reason names the column, the type, and what to do.
    """
    types = _SentTypes(pyarrow, parquet=parquet, library=library)
    return pyarrow.schema([types.column(field) for field in schema], schema.metadata)


class _Unsendable(Exception):
    """A type that can't be sent. Its argument says what the column has, and what to do."""


class _SentTypes:
    def __init__(self, pyarrow: Any, *, parquet: bool, library: str) -> None:
        self._pyarrow = pyarrow
        self._parquet = parquet
        self._has_addresses = library in ("polars", "narwhals")
        self._names: Mapping[int, str] = names_of_types(pyarrow)

    def column(self, field: Any) -> Any:
        try:
            _require_readable_name(field)
            if isinstance(field.type, self._pyarrow.BaseExtensionType) and self._is_of_pandas(field.type):
                return field
            return field.with_type(self._of_field(field, ()))
        except _Unsendable as unsendable:
            raise Refusal(TypeError, f"column {field.name[:100]!r} {unsendable}") from None

    def _is_of_pandas(self, kind: Any) -> bool:
        name = kind.extension_name
        if name == "pandas.interval" and "tz=" in str(kind.storage_type):
            raise _Unsendable(
                "has intervals of times with a zone, which pandas 2 can't read (send both ends as columns)"
            )
        return name in _OF_PANDAS

    def _of_field(self, field: Any, inside: tuple[str, ...]) -> Any:
        """Make the type of a field; `inside` names the types around it, the innermost last."""
        _require_readable_name(field)
        name = (field.metadata or {}).get(_EXTENSION)
        if name is not None:
            raise _Unsendable(_of_extension(name.decode(errors="replace"), field.type))
        return self._type(field.type, inside)

    def _inner(self, field: Any, inside: tuple[str, ...], around: str) -> Any:
        if len(inside) >= DEEPEST:
            raise _Unsendable(
                f"has values inside of more than {DEEPEST} others, which are not read in answers"
            )
        return field.with_type(self._of_field(field, (*inside, around)))

    def _type(self, kind: Any, inside: tuple[str, ...]) -> Any:
        pyarrow = self._pyarrow
        if isinstance(kind, pyarrow.BaseExtensionType):
            raise _Unsendable(_of_extension(kind.extension_name, kind.storage_type))
        name = self._names.get(kind.id, "UNKNOWN")
        if name in _AS_THEY_ARE:
            return kind
        if name in _VIEWS:
            return pyarrow.large_string() if name == "STRING_VIEW" else pyarrow.large_binary()
        if name in ("TIMESTAMP", "DURATION"):
            return self._time(kind, inside)
        if name == "FIXED_SIZE_BINARY":
            return self._bytes(kind, inside)
        if name.startswith("DECIMAL"):
            return self._decimal(kind)
        if name == "DICTIONARY":
            return self._dictionary(kind, inside)
        if name in ("LIST", "LARGE_LIST", "FIXED_SIZE_LIST", "STRUCT", "MAP"):
            return self._nested(kind, name, inside)
        if name == "INTERVAL_MONTH_DAY_NANO" and not self._parquet:
            return kind
        why = "this release of pyarrow does not know" if name == "UNKNOWN" else "can't be sent"
        raise _Unsendable(f"has the type {kind}, which {why}")

    def _time(self, kind: Any, inside: tuple[str, ...]) -> Any:
        is_duration = self._pyarrow.types.is_duration(kind)
        zone = None if is_duration else kind.tz
        if zone is not None and not is_known_zone(zone):
            raise _Unsendable(f"has times of a zone that is not known, {zone[:100]!r}")
        if zone is not None and inside[-1:] == ("list",):
            raise _Unsendable("has lists of times with a zone: pandas would lose it (send times without one)")
        if "map" in inside and (is_duration or zone is not None):
            what = "durations" if is_duration else "times with a zone"
            raise _Unsendable(f"has maps with {what}: nodes would read something else (send numbers or text)")
        if kind.unit == "ns" and inside[-1:] in (("struct",), ("map",)):
            raise _Unsendable(
                f"has {kind} inside a {inside[-1]}: pandas would make numbers of it (send microseconds)"
            )
        return kind

    def _bytes(self, kind: Any, inside: tuple[str, ...]) -> Any:
        if self._has_addresses and kind.byte_width == _ADDRESS_BYTES:
            raise _Unsendable(
                "has Python objects, of which only the addresses in memory would be sent (send their values)"
            )
        # pandas makes no lists of fixed_size_binary, and Parquet has none of no bytes.
        return kind if kind.byte_width and inside[-1:] != ("list",) else self._pyarrow.binary()

    def _decimal(self, kind: Any) -> Any:
        if kind.scale < 0 and self._parquet:
            raise _Unsendable(f"has the type {kind}: Parquet has no negative scale (cast it to a scale of 0)")
        # The smaller ones are new, and pandas makes no lists of them.
        return kind if kind.bit_width >= 128 else self._pyarrow.decimal128(kind.precision, kind.scale)

    def _dictionary(self, kind: Any, inside: tuple[str, ...]) -> Any:
        pyarrow, of = self._pyarrow, kind.value_type
        value = self._type(of, inside)
        is_text = self._names.get(of.id) in _TEXTS | _VIEWS
        is_whole = self._parquet or pyarrow.types.is_nested(of) or pyarrow.types.is_float16(of)
        if is_text or not is_whole:
            return pyarrow.dictionary(kind.index_type, value, kind.ordered)
        return value  # Parquet knows no other categories; a duration's would come back as numbers

    def _nested(self, kind: Any, name: str, inside: tuple[str, ...]) -> Any:
        pyarrow = self._pyarrow
        if name == "STRUCT":
            fields = [kind[place] for place in range(kind.num_fields)]
            if not fields and self._parquet:
                raise _Unsendable("has objects without any field, which Parquet can't hold (send a number)")
            if len({field.name for field in fields}) < len(fields):
                raise _Unsendable("has objects with two fields of the same name")
            return pyarrow.struct([self._inner(field, inside, "struct") for field in fields])
        if name == "MAP":
            key = self._inner(kind.key_field, inside, "map")
            return pyarrow.map_(key, self._inner(kind.item_field, inside, "map"), kind.keys_sorted)
        inner = self._inner(kind.value_field, inside, "list")
        if name == "LARGE_LIST":
            return pyarrow.large_list(inner)
        if name == "FIXED_SIZE_LIST" and not self._parquet:
            return pyarrow.list_(inner, kind.list_size)
        return pyarrow.list_(inner)  # pyarrow 18 can't read a fixed length, if a list is missing


def _require_readable_name(field: Any) -> None:
    if "\0" in field.name:
        raise _Unsendable("has a zero byte in its name, or in that of a field: the name would end there")


def _of_extension(name: str, storage: Any) -> str:
    if name in _OF_PANDAS:
        kind = name.removeprefix("pandas.")
        return f"has {kind}s as categories, or inside others: nodes would read bare numbers (send text)"
    return f"has the extension type {name[:100]}: nodes would read bare {storage} (send that, or text)"
