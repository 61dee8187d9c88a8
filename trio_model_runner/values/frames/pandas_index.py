"""The index of a large pandas frame, where its values are Python objects.

pyarrow makes the objects of an index at once, and pandas looks up each value of an index of several levels.
With many objects both take long, and nothing else runs meanwhile. So an index of one level is made a few
objects at a time here. In one of several levels a column of objects is first replaced by numbers that stand
for its different values, which Arrow finds; then pandas looks up each different value once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .objects import is_made_of_objects
from .slicing import objects_of

__all__ = ["FEW_ROWS", "LargeIndex"]

FEW_ROWS: Final = 5000
"""Of so many rows pandas may make any index: 20 ms, where it holds intervals."""

_MOST_DIFFERENT: Final = 20_000
"""How many different objects a level of an index may have: pandas looks them up, and sorts them (40 ms)."""

_MOST_VALUES: Final = 8_000_000
"""How many values an index of several levels may have in all: pandas takes 60 bytes each, and 1 to 3 s."""

_MOST_TEXTS: Final = 1_000_000
"""How many texts a level may have, where pandas makes no objects of them: it sorts different ones (40 ms)."""


class LargeIndex:
    """What is to be done for the index of a large table, before and after pyarrow makes a frame of it.

    Args:
        pyarrow: the module.
        pandas: the module.
        table: the table, with metadata that `pandas_metadata` made.
        facts: these metadata.
        texts: whether pandas makes objects of texts.
    """

    def __init__(
        self, pyarrow: Any, pandas: Any, table: Any, facts: Mapping[str, Any], *, texts: bool
    ) -> None:
        self._pyarrow, self._pandas = pyarrow, pandas
        levels: Sequence[Any] = facts.get("index_columns", ())
        self._single: Any = None
        self._different: dict[int, Any] = {}
        several = len(levels) > 1
        if several and table.num_rows * len(levels) > _MOST_VALUES:
            raise ValueError(f"its index has several levels, and more than {_MOST_VALUES} values")
        for place, name in enumerate(levels):
            if not isinstance(name, str):
                continue
            column = table.column(name)
            if several and table.num_rows > FEW_ROWS:
                table = self._without_objects(table, place, name, texts=texts)
            elif is_made_of_objects(pyarrow, column, texts=texts) and not several:
                self._single = column
                numbers = pyarrow.nulls(table.num_rows, pyarrow.int8())
                table = table.set_column(table.column_names.index(name), name, numbers)
        self.table = table

    def put_into(self, frame: Any) -> None:
        """Put the objects into the index of the frame that pyarrow made of `table`."""
        pandas = self._pandas
        if self._single is not None:
            values = pandas.Series(objects_of(self._pyarrow, self._single), dtype=object)
            frame.index = pandas.Index(values, name=frame.index.name)
        if self._different:
            index = frame.index
            levels, codes = list(index.levels), list(index.codes)
            for place, column in self._different.items():
                levels[place], codes[place] = self._factorize(column, levels[place], codes[place])
            frame.index = pandas.MultiIndex(levels, codes, names=index.names, verify_integrity=False)

    def _without_objects(self, table: Any, place: int, name: str, *, texts: bool) -> Any:
        """Put numbers into an index column of objects. A null is -1."""
        pyarrow, column = self._pyarrow, table.column(name)
        types, kind = pyarrow.types, column.type
        is_extension = isinstance(kind, pyarrow.BaseExtensionType)
        if types.is_nested(kind.storage_type if is_extension else kind):
            raise ValueError(
                f"its index has several levels, more than {FEW_ROWS} rows, and lists or intervals"
            )
        if not types.is_boolean(kind) and not is_made_of_objects(pyarrow, column, texts=texts):
            if table.num_rows > _MOST_TEXTS and (types.is_string(kind) or types.is_large_string(kind)):
                raise ValueError(f"its index has several levels, and one of more than {_MOST_TEXTS} texts")
            return table
        encoded = column.combine_chunks().dictionary_encode()
        if isinstance(encoded, pyarrow.ChunkedArray):
            encoded = encoded.unify_dictionaries().combine_chunks()
        if len(encoded.dictionary) > _MOST_DIFFERENT:
            raise ValueError(f"its index has more than {_MOST_DIFFERENT} different objects")
        self._different[place] = encoded.dictionary, column.null_count
        numbers = encoded.indices.fill_null(-1)
        return table.set_column(table.column_names.index(name), name, numbers)

    def _factorize(self, column: tuple[Any, int], numbers: Any, codes: Any) -> tuple[Any, Any]:
        """Make a level and its codes of the different values, as pandas does of all values."""
        import numpy

        different, nulls = column
        if self._pyarrow.types.is_boolean(different.type) and not nulls:
            values = different.to_pandas()
        else:
            chunks = self._pyarrow.chunked_array([different])
            values = self._pandas.Series(objects_of(self._pyarrow, chunks), dtype=object)
        categorical = self._pandas.Categorical(values)
        of_different = numpy.append(categorical.codes, -1)  # the last one, at -1, is for nulls
        return categorical.categories, of_different[numbers.to_numpy()[codes]]
