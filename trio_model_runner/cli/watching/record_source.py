"""Events from the file of a `RoundRecorder`, which grows, and is replaced by a new one now and then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import trio

from ..running import Failure
from .fields import number
from .socket_source import Event, JSONLines

__all__ = ["Follower", "events_of_record"]

_LAST_BYTES: Final = 4 << 20  # of a record that is there already; 1,000 models have 28 KB a round
_PIECE: Final = 1 << 20
_SECONDS_BETWEEN_LOOKS: Final = 0.25


class Follower:
    """Reads what is added to a record.

    Args:
        path: the file. Of what it has already, the last rounds are read.

    Raises:
        Failure: it can't be read.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lines = JSONLines()
        self._file = self._open()
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - _LAST_BYTES))
        if size > _LAST_BYTES:
            self._file.readline()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def look(self) -> list[Event]:
        """The rounds that were added since the last look, a few at a time."""
        data = self._file.read(_PIECE)
        if not data and self._was_replaced():
            self._file.close()
            self._file, self._lines = self._open(), JSONLines()  # a torn last line is lost
            data = self._file.read(_PIECE)
        return [_as_event(row) for row in self._lines.feed(data)]

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            hint = "does the coordinator have RoundRecorder among its instruments, with this path?"
            raise Failure(f"no record at {str(self._path)!r}: {error.strerror} ({hint})") from error

    def _was_replaced(self) -> bool:
        try:
            now = self._path.stat()
        except OSError:
            return False  # between two files
        here = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (here.st_dev, here.st_ino) or now.st_size < self._file.tell()


def _as_event(row: Event) -> Event:
    started, seconds = number(row, "started"), number(row, "seconds")
    ended_at = None if started is None else started + (seconds or 0.0)
    return {"type": "round", "at": ended_at, "round": row}


async def events_of_record(path: str, tell: Callable[[Event], None]) -> None:
    """Tell the last rounds of a record, and those that are added; this has no end.

    Args:
        path: the file.
        tell: is called with each event.

    Raises:
        Failure: it can't be read.
    """
    follower = Follower(path)
    try:
        while True:
            events = follower.look()
            for event in events:
                tell(event)
            await trio.sleep(0 if events else _SECONDS_BETWEEN_LOOKS)
    finally:
        follower.close()
