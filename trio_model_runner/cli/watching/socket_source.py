"""Events from the `StatusSocket` of a coordinator on this machine.

It sends a snapshot every 10 s, so silence says something, too: the coordinator's event loop stands still, and
its rounds with it. That is an event of its own here, with the type ``silence``.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import trio

from ...instruments.unix_listener import LONGEST_PATH
from ..running import Exit, Failure

__all__ = ["JSONLines", "connect", "events_of", "events_of_socket"]

Event = dict[str, Any]

_LONGEST_LINE: Final = 64 << 20  # bytes; a snapshot of 10,000 models has 3 MB
_PIECE: Final = 1 << 16
_PATIENCE: Final = 21.0  # seconds; a bit more than it takes to send two snapshots
_DOUBT: Final = 0.5  # seconds; this process may have stood still itself, and has much to read


class JSONLines:
    """Cuts bytes into lines, and reads each as a JSON object. What is none is left out."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes | bytearray) -> list[Event]:
        """The objects of the lines that are complete now."""
        searched = len(self._rest)
        self._rest += data
        if self._rest.find(b"\n", searched) < 0:
            if len(self._rest) > _LONGEST_LINE:
                self._rest.clear()
            return []
        *lines, last = self._rest.split(b"\n")
        self._rest = bytearray(last)
        return [row for line in lines if (row := _read(line)) is not None]


def _read(line: bytes | bytearray) -> Event | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


async def connect(path: str) -> trio.SocketStream:
    """Connect to a status socket.

    Raises:
        Failure: no coordinator listens there; the text says what may be the reason.
    """
    _check_path(path)
    try:
        return await trio.open_unix_socket(path)
    except FileNotFoundError as error:
        hint = "does the coordinator have StatusSocket among its instruments, with this path?"
        raise Failure(f"no coordinator runs at {path!r}: there is no such socket ({hint})") from error
    except ConnectionRefusedError as error:
        if not await trio.Path(path).is_socket():  # noqa: ASYNC120 - if it is cancelled, nobody asks why
            raise Failure(f"{path!r} is no socket; name the one of the coordinator's StatusSocket") from error
        raise Failure(f"no coordinator runs at {path!r}: nobody listens; the last one has ended") from error
    except PermissionError as error:
        hint = "only the coordinator's own user and root may read its status"
        raise Failure(f"{path!r} can't be read: permission denied ({hint})") from error
    except (OSError, ValueError) as error:
        raise Failure(f"{path!r} is no status socket: {error}") from error


def _check_path(path: str) -> None:
    if not path:
        raise Failure("'' is no path: name the socket of the coordinator's StatusSocket", Exit.USAGE)
    size = len(os.fsencode(path))
    if size > LONGEST_PATH:
        text = (
            f"{path!r} has {size} bytes, and a socket's path has at most {LONGEST_PATH}: use a relative one"
        )
        raise Failure(text, Exit.USAGE)


async def events_of_socket(path: str, tell: Callable[[Event], None]) -> None:
    """Tell the events of a status socket, until it ends. One is of our own: ``silence``; see `events_of`.

    Args:
        path: where it is.
        tell: is called with each event.

    Raises:
        Failure: no coordinator listens there.
    """
    async with await connect(path) as stream, aclosing(events_of(stream, patience=_PATIENCE)) as events:
        async for event in events:
            tell(event)


async def events_of(  # noqa: ASYNC900 - nothing is open at a `yield`
    stream: trio.abc.ReceiveStream, *, patience: float = math.inf
) -> AsyncGenerator[Event, None]:
    """The events of a status socket, until it ends.

    Args:
        stream: the connection.
        patience: if no event came for so many seconds, there is one that says so, with the type ``silence``,
            and ``since``, when the last came (POSIX seconds). Until one comes there is no other.
    """
    lines = JSONLines()
    heard_at, doubted = time.time(), False
    deadline = trio.current_time() + patience
    while True:
        data: bytes | bytearray = b""
        with trio.CancelScope(deadline=deadline) as scope:
            try:
                data = await stream.receive_some(_PIECE)
            except trio.BrokenResourceError:
                return
        if scope.cancelled_caught:
            deadline = math.inf if doubted else trio.current_time() + _DOUBT
            if doubted:
                yield {"type": "silence", "at": time.time(), "since": heard_at}
            doubted = True
            continue
        if not data:
            return
        for event in lines.feed(data):
            heard_at, doubted = time.time(), False
            deadline = trio.current_time() + patience
            yield event
