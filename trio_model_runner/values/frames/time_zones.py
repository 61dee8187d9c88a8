"""Which time zones a stranger's frame may name: those that are known here, and offsets like ``+01:00``."""

from __future__ import annotations

import re
import zoneinfo
from functools import lru_cache
from typing import Final

__all__ = ["is_known_zone"]

_OFFSET: Final = re.compile(r"[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}", re.ASCII)
_LONGEST: Final = 64


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
