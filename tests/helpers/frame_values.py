"""Python values for the frames of `frames_to_send`: few of each kind, at limits, or alike to others."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import polars
import pyarrow
from hypothesis import strategies as st

__all__ = [
    "DAY",
    "DURATIONS",
    "FLOATS",
    "NOON",
    "PLAIN_TEXTS",
    "TEXTS",
    "TIMES",
    "UTC",
    "WHOLE",
    "ZONES",
    "Decimal",
    "make_or_none",
    "there",
]

UTC = datetime.UTC
NOON = datetime.datetime(2026, 1, 2, 12, 30)
DAY = datetime.date(2026, 1, 2)
Decimal = decimal.Decimal

TEXTS = [
    "a",
    "b",
    "",
    "ü€😀",
    "1",
    "nan",
    "None",
    "NaT",
    "True",
    "('a', 1)",
    "it's",
    'q"',
    "x\x00y\n",
    "\ud800",
]
TEXTS += ["__index_level_0__", "2026-01-01", "a text of more than twelve bytes"]
WHOLE = [0, 1, -1, 127, 255, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**60, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, 1.5, 0.1, 1e300, 2.0**53, float("inf"), float("nan")]
TIMES = [NOON, datetime.datetime(2026, 1, 2), datetime.datetime(2026, 7, 1, 0, 0, 0, 1)]
TIMES += [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23), datetime.datetime(1900, 1, 1)]
DURATIONS = [datetime.timedelta(days=1), datetime.timedelta(microseconds=1), datetime.timedelta(-3)]
PLAIN_TEXTS = TEXTS[:-4]
ZONES = ("UTC", "Europe/Berlin", "+01:00", "-05:30", "Asia/Kolkata")


def make_or_none(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `make` makes; a case that the library itself refuses is no frame."""
    try:
        return make(*args, **kwargs)
    except (
        ValueError,
        TypeError,
        OverflowError,
        NotImplementedError,
        AttributeError,
        pyarrow.ArrowException,
    ):
        return None
    except polars.exceptions.PolarsError:
        return None


def there(made: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return made.filter(lambda value: value is not None)
