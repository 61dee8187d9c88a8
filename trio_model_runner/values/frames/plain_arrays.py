"""Arrays of a stranger's types as arrays of plain types; see `plain_types`.

Nothing is copied but views of text, and indices that become wider. Extension arrays become their storage, and
what is nested is put together anew from the same buffers, since metadata of fields are part of an array's
type.
"""

from __future__ import annotations

from typing import Any

from .views import without_views_of_nulls

__all__ = ["plain_array"]


def plain_array(pyarrow: Any, array: Any, kind: Any) -> Any:
    """Make an array of the type `kind` of an array that has it in a stranger's form.

    Args:
        pyarrow: the module.
        array: a `pyarrow.Array` that was validated in full.
        kind: the type that `plain_types` made of its type.
    """
    if array.type.equals(kind, check_metadata=True):
        return array
    types = pyarrow.types
    if isinstance(array, pyarrow.ExtensionArray):
        return plain_array(pyarrow, array.storage, kind)
    if types.is_dictionary(kind):
        values = plain_array(pyarrow, array.dictionary, kind.value_type)
        indices = array.indices.cast(kind.index_type)
        return pyarrow.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
    if types.is_struct(kind):
        return _plain_struct(pyarrow, array, kind)
    if types.is_map(kind):
        parts = [
            plain_array(pyarrow, array.keys, kind.key_type),
            plain_array(pyarrow, array.items, kind.item_type),
        ]
        entries = pyarrow.StructArray.from_arrays(parts, fields=[kind.key_field, kind.item_field])
        return _with_inner(pyarrow, array, kind, entries, 2)
    if types.is_list(kind) or types.is_large_list(kind):
        return _with_inner(pyarrow, array, kind, plain_array(pyarrow, array.values, kind.value_type), 2)
    if types.is_fixed_size_list(kind):
        return _with_inner(pyarrow, array, kind, plain_array(pyarrow, array.values, kind.value_type), 1)
    # A view that no list refers to may point anywhere: validating the list did not look at it.
    array.validate(full=True)
    return without_views_of_nulls(pyarrow, array).cast(kind)


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
