"""Views of text, as Arrow has them: what a null has for a view may be anything, and must not be followed."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["is_view", "lengths_of_views", "without_views_of_nulls"]

_VIEW_BYTES: Final = 16
"""A view has the length of the text in its first 4 bytes; then the text, or where it is."""


def is_view(pyarrow: Any, kind: Any) -> bool:
    """Say whether `kind` is the type of views. An older pyarrow has none."""
    types = pyarrow.types
    checks = (getattr(types, f"is_{of}_view", None) for of in ("string", "binary"))
    return any(check is not None and check(kind) for check in checks)


def without_views_of_nulls(pyarrow: Any, array: Any) -> Any:
    """Make the same array with empty views for nulls. pyarrow (release 26) may follow them, and die of it."""
    if not array.null_count:
        return array
    validity, views, *texts = array.buffers()
    kind = pyarrow.binary(_VIEW_BYTES)
    fixed = pyarrow.Array.from_buffers(kind, len(array), [validity, views], offset=array.offset)
    filled = fixed.fill_null(bytes(_VIEW_BYTES))
    is_valid = array.is_valid().buffers()[1]  # the same bits, from the first one on
    return pyarrow.Array.from_buffers(array.type, len(array), [is_valid, _bytes_of(filled), *texts])


def lengths_of_views(pyarrow: Any, array: Any) -> int:
    """Add up the lengths of the texts, in bytes."""
    array = without_views_of_nulls(pyarrow, array)
    views = memoryview(array.buffers()[1]).cast("B").cast("i")
    begin = 4 * array.offset
    return sum(map(abs, views[begin : begin + 4 * len(array) : 4].tolist()))


def _bytes_of(fixed: Any) -> Any:
    return fixed.buffers()[1].slice(fixed.offset * _VIEW_BYTES)
