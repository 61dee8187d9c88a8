"""How many Python objects pandas makes of an Arrow column.

Numbers and times stay numbers in a pandas frame. Texts (before pandas 3), dates, decimals, lists, structs and
maps become one Python object each, or many. While they are made, nothing else runs in this process, whichever
thread makes them; and later each collection of garbage looks at those that hold others. 20 kB of Parquet can
be ten million of them. So they are counted before they are made, and made a few at a time.

They are counted in *units*. One is about 100 ns and 100 bytes of memory: a short text, a date, an array that
stands for a list. The numbers here are measured (pandas 2.3 and 3.1, pyarrow 15 and 26).
"""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "MOST_CATEGORIES",
    "MOST_IN_A_ROW",
    "MOST_OBJECTS",
    "MOST_OF_CATEGORIES",
    "dictionaries_in",
    "is_made_of_objects",
    "refuse_more_objects",
    "units_of_categories",
    "units_up_to",
]

MOST_OBJECTS: Final = 2_000_000
"""How many units a frame may have as a pandas frame: 0.2 to 0.4 s, and about 300 MB."""

MOST_IN_A_ROW: Final = 200_000
"""How many units a single value may have, in a single row: they are made at once (20 to 40 ms)."""

MOST_CATEGORIES: Final = 2**15
"""How many categories of texts, or of other objects, a column may have: pandas looks them up one by one."""

MOST_OF_CATEGORIES: Final = 1_000_000
"""How many units the categories of all columns may have: pandas keeps an object for each, in a table to look
it up, and all are freed at once with the frame (20 to 40 ms)."""

_MOST_NUMBERS: Final = 2**20
"""How many categories of numbers a column may have."""

_MONTHS = 100  # an interval of months, days and nanoseconds is a tuple with a name for each of its parts
_DICT, _DICT_VALUE = 4, 1
_MAP, _MAP_ENTRY = 6, 3
_REFERENCES: Final = 4
"""So many times True, False or None count as a unit: these are there already."""

_TEXT_BYTES: Final = 64
"""So many bytes of text count as a unit: to decode them takes up to 100 ns."""


def is_made_of_objects(pyarrow: Any, column: Any, *, texts: bool) -> bool:
    """Say whether pandas makes an object of each value of a column.

    Args:
        pyarrow: the module.
        column: a `pyarrow.ChunkedArray` of a plain type, or of one of pandas' extension types.
        texts: whether texts are objects: before pandas 3 they are.
    """
    types, kind = pyarrow.types, column.type
    if isinstance(kind, pyarrow.BaseExtensionType) or types.is_dictionary(kind):
        return False
    if types.is_string(kind) or types.is_large_string(kind):
        return texts
    if types.is_boolean(kind):
        return bool(column.null_count)
    return not _stays_a_number(types, kind)


def units_up_to(pyarrow: Any, array: Any, *, inside: bool = False) -> Any:
    """Count the units of an array's values, added up.

    Args:
        pyarrow: the module.
        array: a `pyarrow.Array` of a plain type.
        inside: whether it is inside a struct or a map, where numbers become objects, too.

    Returns:
        A numpy array of one number more than `array` has values: at `n`, the units of the first `n` values.

    Raises:
        ValueError: there are more than `MOST_OBJECTS`, as its length alone tells.
    """
    import numpy

    types, kind, count = pyarrow.types, array.type, len(array)
    if _stays_a_number(types, kind) and not inside:
        return numpy.broadcast_to(numpy.int64(0), count + 1)  # takes no memory
    is_there = types.is_boolean(kind) or types.is_null(kind)
    refuse_more_objects(count // _REFERENCES if is_there else count)
    rows = numpy.arange(count + 1, dtype="int64")
    if types.is_nested(kind):
        return _of_nested(pyarrow, array, rows)
    if types.is_dictionary(kind):
        return _of_references(pyarrow, array, rows)
    if is_there:
        return rows // _REFERENCES
    if _stays_a_number(types, kind):
        return rows
    if kind.id == pyarrow.lib.Type_INTERVAL_MONTH_DAY_NANO:
        return rows * _MONTHS
    return rows + _bytes_up_to(pyarrow, array) // _TEXT_BYTES


def refuse_more_objects(units: int) -> None:
    """Refuse a frame that has more units than it may.

    Raises:
        ValueError: `units` are more.
    """
    if units > MOST_OBJECTS:
        raise ValueError(f"pandas would make more than {MOST_OBJECTS} objects of it")


def units_of_categories(pyarrow: Any, column: Any) -> int:
    """Count the units of the categories of a dictionary column.

    Raises:
        ValueError: there are too many categories.
    """
    types, kind = pyarrow.types, column.type.value_type
    most = _MOST_NUMBERS if types.is_boolean(kind) or _stays_a_number(types, kind) else MOST_CATEGORIES
    # All chunks have the same dictionary, as `reading` left them.
    dictionaries = [chunk.dictionary for chunk in column.chunks]
    if any(len(dictionary) > most for dictionary in dictionaries):
        raise ValueError(f"a column has more than {most} categories")
    return max((int(units_up_to(pyarrow, dictionary)[-1]) for dictionary in dictionaries), default=0)


def dictionaries_in(types: Any, kind: Any) -> int:
    """Count the dictionary types in a plain type, itself included."""
    if types.is_struct(kind):
        return sum(dictionaries_in(types, kind[place].type) for place in range(kind.num_fields))
    if types.is_map(kind):
        return dictionaries_in(types, kind.key_type) + dictionaries_in(types, kind.item_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return dictionaries_in(types, kind.value_type)
    return int(types.is_dictionary(kind))


def _stays_a_number(types: Any, kind: Any) -> bool:
    return any(
        fits(kind) for fits in (types.is_integer, types.is_floating, types.is_timestamp, types.is_duration)
    )


def _of_nested(pyarrow: Any, array: Any, rows: Any) -> Any:
    """The units of an array of structs, maps or lists, with those of what is inside."""
    types, kind = pyarrow.types, array.type
    if types.is_struct(kind):
        total = rows * _DICT
        for place in range(kind.num_fields):
            total += rows * _DICT_VALUE + units_up_to(pyarrow, array.field(place), inside=True)
        return total
    if types.is_map(kind):
        starts = array.offsets.to_numpy()
        keys = units_up_to(pyarrow, array.keys, inside=True)
        items = units_up_to(pyarrow, array.items, inside=True)
        total = rows * _MAP + (starts - starts[0]) * _MAP_ENTRY
        return total + keys[starts] - keys[starts[0]] + items[starts] - items[starts[0]]
    if types.is_fixed_size_list(kind):
        starts = (rows + array.offset) * kind.list_size
    else:
        starts = array.offsets.to_numpy()
    inner = units_up_to(pyarrow, array.values)
    return rows + inner[starts] - inner[starts[0]]


def _of_references(pyarrow: Any, array: Any, rows: Any) -> Any:
    """The units of a dictionary array inside another one: each value is made where it is referred to."""
    import numpy

    values = units_up_to(pyarrow, array.dictionary, inside=True)
    each = numpy.append(values[1:] - values[:-1], 1)  # the last one is for nulls
    places = array.indices.fill_null(0).to_numpy(zero_copy_only=False) if len(each) > 1 else rows[:-1] * 0
    return numpy.concatenate([rows[:1], numpy.cumsum(each[places])])


def _bytes_up_to(pyarrow: Any, array: Any) -> Any:
    import numpy
    from pyarrow import compute

    types, kind = pyarrow.types, array.type
    if types.is_fixed_size_binary(kind) and not types.is_decimal(kind):
        return numpy.arange(len(array) + 1, dtype="int64") * kind.byte_width
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    if not any(fits(kind) for fits in texts):
        return 0
    lengths = compute.fill_null(compute.binary_length(array), 0).to_numpy(zero_copy_only=False)
    return numpy.concatenate([[0], numpy.cumsum(lengths, dtype="int64")])
