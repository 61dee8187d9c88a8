"""How much memory a frame takes, found out as it is read, batch by batch.

If many rows refer to one text, the text is there once. It counts for each row all the same: when the frame is
used, each row may get a text of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..views import lengths_of_views
from .limit import CELL_BYTES

__all__ = ["Scales"]


class Scales:
    """Weighs the batches of one frame, which may share dictionaries.

    Args:
        pyarrow: the module.
    """

    def __init__(self, pyarrow: Any) -> None:
        self._pyarrow = pyarrow
        self._dictionaries: dict[int, Any] = {}  # by address; kept, so that no other one gets their place

    def weigh(self, batch: Any) -> int:
        """How large a batch is, in bytes, if each value has bytes of its own.

        Args:
            batch: a `pyarrow.RecordBatch` that was validated, of types that `plain_types` knows.
        """
        rows = int(batch.num_rows) * CELL_BYTES
        return max(rows, sum(self._weigh_array(column) for column in batch.columns))

    def _weigh_array(self, array: Any) -> int:
        types, kind = self._pyarrow.types, array.type
        cells = len(array) * CELL_BYTES
        if types.is_primitive(kind):
            return max(cells, int(array.nbytes))
        if isinstance(kind, self._pyarrow.BaseExtensionType):
            return self._weigh_array(array.storage)
        if types.is_dictionary(kind):
            return cells + self._weigh_references(array)
        if types.is_struct(kind) or types.is_fixed_size_list(kind):
            return cells + sum(self._weigh_array(inner) for inner in _inner(array))
        if types.is_map(kind):
            return cells + self._weigh_array(array.keys) + self._weigh_array(array.items)
        if types.is_list(kind) or types.is_large_list(kind):
            return cells + self._weigh_array(array.flatten())
        if str(kind) in ("string_view", "binary_view"):
            return cells + lengths_of_views(self._pyarrow, array)
        return max(cells, int(array.nbytes))

    def _weigh_references(self, array: Any) -> int:
        pyarrow, values = self._pyarrow, array.dictionary
        own = self._weigh_dictionary(values)
        texts = (
            pyarrow.StringArray,
            pyarrow.LargeStringArray,
            pyarrow.BinaryArray,
            pyarrow.LargeBinaryArray,
        )
        if not isinstance(values, texts):
            return own + len(array) * int(values.nbytes // max(1, len(values)))
        from pyarrow import compute

        lengths = compute.take(compute.binary_length(values), array.indices)
        return own + int(compute.sum(compute.cast(lengths, "int64")).as_py() or 0)

    def _weigh_dictionary(self, values: Any) -> int:
        buffer = next((buffer for buffer in reversed(values.buffers()) if buffer is not None), None)
        if buffer is None or buffer.address in self._dictionaries:
            return 0
        self._dictionaries[buffer.address] = buffer
        return max(int(values.nbytes), len(values) * CELL_BYTES)


def _inner(array: Any) -> Iterable[Any]:
    parts = array.flatten()
    return parts if isinstance(parts, list) else [parts]
