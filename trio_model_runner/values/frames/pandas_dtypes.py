"""The names of pandas' dtypes that a stranger's metadata may have, and which of them fit a column.

pandas makes a dtype of any text, with numpy's parser, too: ``S600000000`` is one. So only names from these
lists are passed on. A name that is on no list, or that does not fit, is passed on as `NATURAL`: the column
gets the dtype that its Arrow type has in pandas anyway.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["LABEL_DTYPES", "NATURAL", "fitting_dtype"]

NATURAL: Final = "object"
"""pyarrow looks nothing up for this one, nor for the names of numpy's numbers."""

_INTEGERS: Final = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_FLOATS: Final = frozenset({"float32", "float64"})
_UNITS: Final = ("s", "ms", "us", "ns")
_TIMES: Final = frozenset(f"datetime64[{unit}]" for unit in _UNITS)
_NULLABLE_INTEGERS: Final = frozenset(f"{sign}nt{bits}" for sign in ("I", "UI") for bits in (8, 16, 32, 64))
_NULLABLE_FLOATS: Final = frozenset({"Float32", "Float64"})
_TEXTS: Final = frozenset({"str", "string", "string[python]", "string[pyarrow]"})
_ARROW_ALIASES: Final = frozenset(
    {
        *_INTEGERS,
        *("bool", "halffloat", "float", "double", "large_string", "binary", "large_binary", "null"),
        *("date32[day]", "date64[ms]", "time32[s]", "time32[ms]", "time64[us]", "time64[ns]"),
        *(f"{kind}[{unit}]" for kind in ("timestamp", "duration") for unit in _UNITS),
    }
)
"""Types that pandas finds by their name; it knows no others with parameters but zones of timestamps."""

_ALIKE: Final = (
    frozenset(f"timestamp[{unit}]" for unit in _UNITS),
    frozenset({"time32[s]", "time32[ms]", "time64[us]", "time64[ns]"}),
    frozenset({"date32[day]", "date64[ms]"}),
)
"""Types that pandas casts to each other. Parquet has not all of them, and holds some as others."""

_VIEWS: Final = {f"{kind}_view[pyarrow]": kind for kind in ("string", "binary")}
"""The values of views are large texts and bytes in a plain table."""

LABEL_DTYPES: Final = frozenset(
    {
        *_INTEGERS,
        *_FLOATS,
        *_TIMES,
        *_NULLABLE_INTEGERS,
        *_NULLABLE_FLOATS,
        *_TEXTS,
        *("bool", "boolean", "object"),
        *(f"{name}[pyarrow]" for name in (*_INTEGERS, "double", "float", "bool")),
    }
)
"""The names of dtypes that labels of columns may get."""


def fitting_dtype(name: str, pyarrow: Any, kind: Any) -> str:
    """Return a dtype for a column of the plain type `kind`: `name`, if that is one, and else `NATURAL`."""
    types = pyarrow.types
    if name in _NULLABLE_INTEGERS:
        fits = types.is_integer(kind)
    elif name in _NULLABLE_FLOATS:
        fits = types.is_floating(kind)
    elif name == "boolean":
        fits = types.is_boolean(kind)
    elif name in _TEXTS:
        fits = types.is_string(kind) or types.is_large_string(kind)
    elif name in _VIEWS:
        name = f"large_{_VIEWS[name]}[pyarrow]"
        fits = name == f"{kind}[pyarrow]"
    else:
        fits = _is_name_for(name, types, kind)
    return name if fits else NATURAL


def _is_name_for(name: str, types: Any, kind: Any) -> bool:
    if types.is_nested(kind) or types.is_dictionary(kind) or not name.endswith("[pyarrow]"):
        return False
    alias = str(kind)
    if types.is_timestamp(kind) and kind.tz is not None:
        return name in {f"timestamp[{unit}, tz={kind.tz}][pyarrow]" for unit in _UNITS}
    said = name.removesuffix("[pyarrow]")
    if alias not in _ARROW_ALIASES or said not in _ARROW_ALIASES:
        return False
    return said == alias or any(said in alike and alias in alike for alike in _ALIKE)
