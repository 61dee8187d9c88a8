"""What instruments check of their arguments, and that each listens to one cluster at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError
from ..text import shown

__all__ = ["OneCluster", "check_count", "check_path"]


def check_path(path: str | os.PathLike[str]) -> Path:
    """A path that was given.

    Raises:
        ConfigError: it is none. What could be a secret is not shown.
    """
    try:
        usable = isinstance(path, str | os.PathLike) and b"\0" not in (os.fsencode(path) or b"\0")
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise ConfigError(f"path: must be the path of a file, got {shown(path)}")
    return Path(path)


def check_count(name: str, value: int, least: int) -> int:
    """A whole number that was given.

    Raises:
        ConfigError: it is none, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}: must be a whole number, {least} at least, got {shown(value)}")
    return value


class OneCluster:
    """An instrument keeps what it knows of its cluster, so two at the same time would be mixed up.

    The two may be in two threads, each with a Trio of its own.
    """

    def __init__(self, instrument: object) -> None:
        self._instrument = instrument
        self._taken = threading.Lock()

    @contextmanager
    def cluster(self) -> Iterator[None]:
        """It listens to a cluster while this lasts.

        Raises:
            ConfigError: it does already.
        """
        if not self._taken.acquire(blocking=False):
            kind = type(self._instrument).__name__
            raise ConfigError(f"instruments: this {kind} listens to another cluster; make one for each")
        try:
            yield
        finally:
            self._taken.release()
