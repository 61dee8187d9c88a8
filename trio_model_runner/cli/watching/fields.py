"""Reads fields of JSON from outside: one that is missing, or of another type, is as if it said nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["as_dict", "as_list", "number", "texts", "word"]


def as_dict(value: Any) -> Mapping[str, Any]:
    """The value, if it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value, if it is an array; else an empty one."""
    return value if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """The texts in an array; None and others are empty ones."""
    return [item if isinstance(item, str) else "" for item in as_list(value)]


def word(row: Mapping[str, Any], key: str) -> str:
    """The text under a key, or ""."""
    value = row.get(key)
    return value if isinstance(value, str) else ""


def number(row: Mapping[str, Any], key: str) -> float | None:
    """The finite number under a key, or None."""
    return as_number(row.get(key))


def as_number(value: Any) -> float | None:
    """The value, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None
