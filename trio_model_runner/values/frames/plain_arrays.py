"""Arrays of one type as arrays of another with the same values.

A stranger's become those of `plain_types`, and a coordinator's those of `sent_types`.

Nothing is copied but views of text, indices that become wider, lists that had a fixed length, and values that
were categories. Extension arrays become their storage, and what is nested is put together anew from the same
buffers, since metadata of fields are part of an array's type.
"""

from __future__ import annotations

from typing import Any

from .views import is_view, without_views_of_nulls

__all__ = ["plain_array"]


def plain_array(pyarrow: Any, array: Any, kind: Any) -> Any:
    """Make an array of the type `kind` of an array that has the same values.

    Args:
        pyarrow: the module.
        array: a `pyarrow.Array` that was validated in full, if it is a stranger's.
        kind: the type that `plain_types` or `sent_types` made of its type.
    """
    if array.type.equals(kind, check_metadata=True):
        return array
    types = pyarrow.types
    if isinstance(array, pyarrow.ExtensionArray):
        return plain_array(pyarrow, array.storage, kind)
    if isinstance(array, pyarrow.DictionaryArray) and not types.is_dictionary(kind):
        return plain_array(pyarrow, array.dictionary_decode(), kind)
    if isinstance(array, pyarrow.FixedSizeListArray) and not types.is_fixed_size_list(kind):
        return _with_offsets(pyarrow, array, kind)
    if types.is_nested(kind):
        return _plain_nested(pyarrow, array, kind)
    if types.is_dictionary(kind):
        values = plain_array(pyarrow, array.dictionary, kind.value_type)
        indices = array.indices.cast(kind.index_type)
        return pyarrow.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
    if not is_view(pyarrow, array.type):
        return array.cast(kind)
    # A view that no list refers to may point anywhere: validating the list did not look at it.
    array.validate(full=True)
    return without_views_of_nulls(pyarrow, array).cast(kind)


def _plain_nested(pyarrow: Any, array: Any, kind: Any) -> Any:
    types = pyarrow.types
    if types.is_struct(kind):
        return _plain_struct(pyarrow, array, kind)
    if types.is_map(kind):
        parts = [
            plain_array(pyarrow, array.keys, kind.key_type),
            plain_array(pyarrow, array.items, kind.item_type),
        ]
        entries = pyarrow.StructArray.from_arrays(parts, fields=[kind.key_field, kind.item_field])
        return _with_inner(pyarrow, array, kind, entries, 2)
    inner = plain_array(pyarrow, array.values, kind.value_type)
    return _with_inner(pyarrow, array, kind, inner, 1 if types.is_fixed_size_list(kind) else 2)


def _with_offsets(pyarrow: Any, array: Any, kind: Any) -> Any:
    """Make lists of those of a fixed length. pyarrow's own cast breaks such lists inside of others."""
    from pyarrow import compute

    size = pyarrow.scalar(array.type.list_size, pyarrow.int32())
    ends = compute.cumulative_sum_checked(compute.multiply(array.is_valid().cast("int32"), size))
    offsets = pyarrow.concat_arrays([pyarrow.array([0], pyarrow.int32()), ends])
    inner = plain_array(pyarrow, array.flatten(), kind.value_type)
    mask = array.is_null() if array.null_count else None
    return pyarrow.ListArray.from_arrays(offsets, inner, type=kind, mask=mask)


def _with_inner(pyarrow: Any, array: Any, kind: Any, inner: Any, buffers: int) -> Any:
    own = array.buffers()[:buffers]
    return pyarrow.Array.from_buffers(kind, len(array), own, array.null_count, array.offset, [inner])


def _plain_struct(pyarrow: Any, array: Any, kind: Any) -> Any:
    if not kind.num_fields:
        own = array.buffers()[:1]
        return pyarrow.Array.from_buffers(kind, len(array), own, array.null_count, array.offset, [])
    parts = [plain_array(pyarrow, array.field(place), kind[place].type) for place in range(kind.num_fields)]
    mask = array.is_null() if array.null_count else None
    fields = [kind[place] for place in range(kind.num_fields)]
    return pyarrow.StructArray.from_arrays(parts, fields=fields, mask=mask)
