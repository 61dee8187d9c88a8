"""Which time zones a stranger's frame may name, and which times in them pandas can hold.

The zones are those that are known here, and offsets like ``+01:00``.

pandas 2, which nodes have, takes zones from pytz. That knows no summer time after 2037, and whole minutes
only, although many zones once had local times with seconds (Paris until 1911). Long before a zone's first
change its times end the process.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from functools import lru_cache
from typing import Any, Final

__all__ = [
    "extremes_of",
    "has_far_times",
    "has_moving_times",
    "is_known_zone",
    "refuse_far_times",
    "told_of_moving",
]

_OFFSET: Final = re.compile(r"[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}", re.ASCII)
_LONGEST: Final = 64

_UNITS_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST: Final = -62_135_510_400  # 0001-01-02, in seconds since 1970: no offset leads out of the years
_LAST: Final = 253_402_214_399  # the last second of 9999-12-30

_NEVER_CHANGED: Final = frozenset(
    {"UTC", "GMT", "UCT", "Zulu", "Universal", "Greenwich", "GMT0", "GMT+0", "GMT-0"}
)
_SURE_FROM, _SURE_UNTIL = 1902, 2038
_NEVER: Final = float("inf")
_LAST_UNEVEN: Final = 1975  # Liberia was the last, until 1972


@lru_cache(maxsize=1000)
def is_known_zone(name: str) -> bool:
    """Say whether `name` is a time zone that pyarrow and pandas can use."""
    if len(name) > _LONGEST:
        return False
    if _OFFSET.fullmatch(name):
        return True
    return _NAME.fullmatch(name) is not None and (_exists(name) or not _exists("UTC"))


def _exists(name: str) -> bool:
    # Without any database of time zones even UTC is unknown; then the shape of the name must do.
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def refuse_far_times(pyarrow: Any, table: Any) -> None:
    """Refuse times with a zone outside of Python's years: pandas raises whenever one of them is looked at.

    Raises:
        ValueError: there are some; the text names the column.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        arrays, kind = [column], column.type
        if pyarrow.types.is_dictionary(kind):
            arrays, kind = [chunk.dictionary for chunk in column.chunks[:1]], kind.value_type
        if not pyarrow.types.is_timestamp(kind) or kind.tz is None:
            continue
        if any(has_far_times(array) for array in arrays):
            raise ValueError(f"column {name!r} has times outside of the years 1 to 9999")


def has_far_times(times: Any) -> bool:
    """Say whether some timestamps are outside of Python's years, or so near that their zone matters."""
    units = _UNITS_PER_SECOND[times.type.unit]
    return not all(_FIRST <= each // units <= _LAST for each in extremes_of(times))


def has_moving_times(times: Any) -> bool:
    """Say whether some timestamps with a zone may have another hour, or another minute, on a node."""
    units = _UNITS_PER_SECOND[times.type.unit]
    first, end = _sure_seconds(times.type.tz)
    return not all(first <= each // units < end for each in extremes_of(times))


def told_of_moving(name: str) -> str:
    """Say in which times of a zone `has_moving_times` finds something."""
    first, end = _sure_seconds(name)
    years = f"before {_year_of(first)}" + ("" if end == _NEVER else f" or after {_year_of(end) - 1}")
    return f"of the zone {name[:100]!r} {years}, where pandas 2 has other offsets from UTC"


def _year_of(seconds: float) -> int:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).year


@lru_cache(maxsize=1000)
def _sure_seconds(name: str) -> tuple[float, float]:
    """The seconds since 1970 between which pytz has the same offsets for a zone, the first one included."""
    if name in _NEVER_CHANGED or name.startswith("Etc/") or _OFFSET.fullmatch(name):
        return -_NEVER, _NEVER
    first, end = _SURE_FROM, float(_seconds_of(_SURE_UNTIL))
    if _exists(name):
        months = range(_SURE_FROM * 12, _LAST_UNEVEN * 12)
        uneven = (month // 12 for month in months if _offset(name, month // 12, 30 * (month % 12)) % 60)
        first = max(uneven, default=first - 1) + 1
        weeks = [(year, day) for year in range(_SURE_UNTIL - 2, _SURE_UNTIL + 2) for day in range(0, 364, 7)]
        if len({_offset(name, year, day) for year, day in weeks}) == 1:
            end = _NEVER
    return _seconds_of(first), end


def _offset(name: str, year: int, day: int) -> float:
    at = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(day)
    return (at.astimezone(zoneinfo.ZoneInfo(name)).utcoffset() or datetime.timedelta()).total_seconds()


def _seconds_of(year: int) -> int:
    return int(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp())


def extremes_of(array: Any) -> list[int]:
    """Find the smallest and the largest of integers, dates, times or durations; none, if all are missing."""
    from pyarrow import compute

    is_duration = str(array.type).startswith("duration")
    extremes = compute.min_max(array.cast("int64") if is_duration else array)
    found = [each for each in (extremes["min"], extremes["max"]) if each.is_valid]
    return [each.value if hasattr(each, "value") else each.as_py() for each in found]
