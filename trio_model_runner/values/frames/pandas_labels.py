"""The labels of a pandas frame's columns, as its metadata describe them, checked.

In a table, labels are text. Metadata say what they were: numbers, times, or tuples for labels of several
levels. pyarrow casts the text of each level to what is said there, and evaluates tuples as Python literals.
So here each text must have the form of what it is said to be. If it doesn't, labels stay text. A tuple must
be one, of as many simple literals as there are levels.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .pandas_dtypes import LABEL_DTYPES
from .plain_types import LONGEST_NAME
from .time_zones import is_known_zone

__all__ = ["check_label", "describe_labels"]

_MOST_LEVELS: Final = 16

_ANY: Final = re.compile(r".*", re.DOTALL)
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_INTEGER_TYPE: Final = re.compile(
    r"integer|(?P<unsigned>[uU])?[iI]nt(?P<bits>8|16|32|64)(?:\[pyarrow\])?", re.ASCII
)
_FLOAT: Final = re.compile(r"-?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?(?:e[+-]?[0-9]{1,3})?|inf)|nan", re.ASCII)
_DECIMAL: Final = re.compile(r"-?[0-9]{1,80}(?:\.[0-9]{0,80})?(?:E[+-]?[0-9]{1,3})?|NaN", re.ASCII)
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?"
    r"(?:[+-][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?|NaT",
    re.ASCII,
)

_FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    **dict.fromkeys(("unicode", "string", "bytes", "bool", "boolean", "empty"), _ANY),
    **dict.fromkeys(("mixed", "mixed-integer", "mixed-integer-float"), _ANY),
    **dict.fromkeys(("integer", "int64", "int32", "int16", "int8"), _INTEGER),
    **dict.fromkeys(("uint64", "uint32", "uint16", "uint8"), _INTEGER),
    **dict.fromkeys(("floating", "float64", "float32"), _FLOAT),
    **dict.fromkeys(("datetime", "datetimetz"), _TIME),
    **{f"datetime64[{unit}]": _TIME for unit in ("s", "ms", "us", "ns")},
    "decimal": _DECIMAL,
}
"""What is said about a level (its ``pandas_type``), and the form that its texts must have."""

_TEXT: Final = {"pandas_type": "unicode", "numpy_type": "object", "metadata": {"encoding": "UTF-8"}}

_ESCAPED: Final = r"\\(?:[\\'\"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})"
_LITERAL: Final = (
    rf"(?:'(?:[^'\\\n\r]|{_ESCAPED})*'|\"(?:[^\"\\\n\r]|{_ESCAPED})*\""
    r"|None|True|False|-?[0-9]{1,18}(?:\.[0-9]{1,18})?)"
)
_TUPLE: Final = re.compile(rf"\({_LITERAL}(?:, {_LITERAL})*,?\)", re.ASCII)


def describe_labels(levels: object, labels: Sequence[object]) -> list[dict[str, Any]]:
    """Make the description of the labels (``column_indexes``) anew.

    Args:
        levels: the stranger's description: a list, which should have an object for each level.
        labels: the labels of all columns that are not the index.

    Raises:
        ValueError: the description makes no sense, or there are several levels and a label is no tuple.
    """
    if not isinstance(levels, list) or len(levels) > _MOST_LEVELS:
        raise ValueError("column_indexes is no short list")
    if not levels:
        return []
    rows = [_in_levels(label, len(levels)) for label in labels]
    described = [_describe(level, [row[place] for row in rows]) for place, level in enumerate(levels)]
    for level in described[1:]:
        # pyarrow looks for the zone of any level in the first one.
        if level["pandas_type"] == "datetimetz" and not (described[0]["metadata"] or {}).get("timezone"):
            level.update(_TEXT)
    return described


def check_label(label: object) -> Any:
    """Return a label, or the name of an index, as it is.

    Raises:
        ValueError: it is a list or an object, or too long, or has lone surrogates.
    """
    if isinstance(label, str):
        if len(label) > LONGEST_NAME:
            raise ValueError(f"a name has more than {LONGEST_NAME} characters")
        label.encode()  # UnicodeEncodeError is a ValueError
    elif isinstance(label, int):
        if label.bit_length() > 64:
            raise ValueError("a name is a number of more than 64 bits")
    elif label is not None and not isinstance(label, float):
        raise ValueError("a name is neither text nor a number")
    return label


def _in_levels(label: object, count: int) -> tuple[object, ...]:
    if count == 1:
        return (label,)
    if not isinstance(label, str) or not _TUPLE.fullmatch(label):
        raise ValueError("labels of several levels must be tuples of texts")
    try:
        parts = ast.literal_eval(label)
    except SyntaxError as error:
        raise ValueError(str(error)) from None
    if not isinstance(parts, tuple) or len(parts) != count:
        raise ValueError(f"a label does not have {count} levels")
    return tuple(map(check_label, parts))


def _describe(level: object, texts: Iterable[object]) -> dict[str, Any]:
    if not isinstance(level, dict) or "name" not in level:
        raise ValueError("a level of column_indexes has no name")
    pandas_type, numpy_type = level.get("pandas_type"), level.get("numpy_type")
    name = check_label(level["name"])
    description: dict[str, Any] = {"name": name, "field_name": name, **_TEXT}
    if not isinstance(pandas_type, str) or not isinstance(numpy_type, str):
        return description
    form = _FORMS.get(pandas_type)
    if form is None or numpy_type not in LABEL_DTYPES:
        return description
    bounds = _bounds_of(pandas_type, numpy_type)
    if form is not _ANY and not all(_has_form(text, form, bounds) for text in texts):
        return description
    if pandas_type == "datetimetz":
        zone = _zone_of(level)
        if zone is None or not numpy_type.startswith("datetime64["):
            return description
        description["metadata"] = {"timezone": zone}
    elif pandas_type != "unicode":
        description["metadata"] = None
    description["pandas_type"], description["numpy_type"] = pandas_type, numpy_type
    return description


def _has_form(text: object, form: re.Pattern[str], bounds: Sequence[range]) -> bool:
    if isinstance(text, str):
        if form.fullmatch(text) is None:
            return False
        return form is not _INTEGER or all(int(text) in bound for bound in bounds)
    # A label that is missing: what pyarrow writes for it depends on its release.
    if text is None:
        return form in (_FLOAT, _TIME)
    return isinstance(text, float) and math.isnan(text) and form is not _INTEGER


def _bounds_of(pandas_type: str, numpy_type: str) -> list[range]:
    """Say which integers the types of a level can hold: its texts are cast to both, one after the other."""
    matches = (_INTEGER_TYPE.fullmatch(name) for name in (pandas_type, numpy_type))
    bounds = []
    for match in filter(None, matches):
        bits = int(match["bits"] or 64)
        bounds.append(range(2**bits) if match["unsigned"] else range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
    return bounds


def _zone_of(level: Mapping[str, Any]) -> str | None:
    metadata = level.get("metadata")
    zone = metadata.get("timezone") if isinstance(metadata, dict) else None
    return zone if isinstance(zone, str) and is_known_zone(zone) else None
