"""What the process of a shard of `LocalEngine` does: it serves a shard over the socket that it was given.

It must not outlive its driver. When the other end of the socket closes, and so when the driver is killed, the
shard has 30 s for what it must still do. Then it is cancelled; and some seconds later the process ends, also
if its event loop stands still. Ctrl-C in a terminal means the driver, which ends its shards.

What the process prints goes into the pipe that its driver keeps the end of, not into the program's output.
"""

from __future__ import annotations

import contextlib
import faulthandler
import pkgutil
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final

import trio

from .engine import Serve, ShardLost
from .stream import MessageStream

__all__ = ["main"]

_SECONDS_LEFT: Final = 30.0
_SECONDS_UNTIL_KILLED: Final = 35.0


def main() -> None:
    """Serve a shard. The arguments: its index, the socket's descriptor, and the name of its `Serve`."""
    _, _, descriptor, serve = sys.argv
    _take_signals()
    faulthandler.enable()
    trio.run(_serve, socket.socket(fileno=int(descriptor)), pkgutil.resolve_name(serve))


def _take_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the driver blocks or ignores is inherited.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


async def _serve(connected: socket.socket, serve: Serve) -> None:
    stream = MessageStream(trio.socket.from_stdlib_socket(connected))
    with trio.CancelScope() as scope:

        def hurry() -> None:
            scope.deadline = trio.current_time() + _SECONDS_LEFT

        token = trio.lowlevel.current_trio_token()
        threading.Thread(target=_watch, args=(connected.fileno(), token, hurry), daemon=True).start()
        with contextlib.suppress(ShardLost):  # what it had to do is done
            await stream.send(b"")  # it has started
            await serve(await stream.receive(), stream.send, stream.receive)


def _watch(descriptor: int, token: trio.lowlevel.TrioToken, hurry: Callable[[], None]) -> None:
    """Wait until the driver is gone, in a thread, since the event loop may stand still."""
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", 0))
    poll.poll()
    faulthandler.dump_traceback_later(_SECONDS_UNTIL_KILLED, exit=True)
    with contextlib.suppress(trio.RunFinishedError):
        token.run_sync_soon(hurry)
