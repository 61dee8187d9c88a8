"""What runs in the process of a relay: the way to a node, which may swallow all that is sent.

A router that has lost its way closes nothing. So while the relay is cut, it takes connections and what is
sent into them, as much as fits, and lets nothing through, the end of a connection neither; afterwards all of
it arrives.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import trio

from .control import ControlChannel

__all__ = ["run"]

_CHUNK_BYTES = 65536


def run(request: dict[str, Any], control: socket.socket) -> None:
    """Be a relay until nobody controls it.

    Args:
        request: the `host` where it listens and the node does, too, and the node's `port`.
        control: takes `cut` ("up", "down" or "both") and `seconds`; tells `listening`.
    """
    trio.run(_serve, request, control)


class _Way:
    """One of the two ways."""

    def __init__(self) -> None:
        self._cut_until = -1.0

    def cut(self, seconds: float) -> None:
        self._cut_until = trio.current_time() + seconds

    async def wait_clear(self) -> None:
        while trio.current_time() < self._cut_until:  # noqa: ASYNC110 - it may be cut again
            await trio.sleep_until(self._cut_until)

    async def carry(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while True:
            await self.wait_clear()
            data = await source.receive_some(_CHUNK_BYTES)
            await self.wait_clear()  # it may have been cut while nothing was sent
            if not data:
                return
            await sink.send_all(data)


async def _serve(request: dict[str, Any], control: socket.socket) -> None:
    ways = {"up": _Way(), "down": _Way()}
    (listener,) = await trio.open_tcp_listeners(0, host=request["host"])
    channel = ControlChannel(control)
    async with trio.open_nursery() as nursery:
        relay = partial(_relay, request["host"], request["port"], ways)
        nursery.start_soon(trio.serve_listeners, relay, [listener])
        await channel.send({"listening": listener.socket.getsockname()[1]})
        async for command in channel.receive_all():
            for name in _named(command["cut"], ways):
                ways[name].cut(command["seconds"])
        nursery.cancel_scope.cancel()


def _named(which: str, ways: Iterable[str]) -> Iterable[str]:
    return ways if which == "both" else [which]


async def _relay(host: str, port: int, ways: dict[str, _Way], client: trio.SocketStream) -> None:
    """Carry what is sent until either end closes; then close the other one."""
    await ways["up"].wait_clear()
    try:
        node = await trio.open_tcp_stream(host, port)
    except OSError:
        return
    async with node, trio.open_nursery() as nursery:
        nursery.start_soon(_carry, ways["up"], client, node, nursery.cancel_scope.cancel)
        nursery.start_soon(_carry, ways["down"], node, client, nursery.cancel_scope.cancel)


async def _carry(
    way: _Way, source: trio.SocketStream, sink: trio.SocketStream, end: Callable[[], None]
) -> None:
    try:
        await way.carry(source, sink)
    except trio.BrokenResourceError as error:
        print(f"relay: {error}", file=sys.stderr)
        await way.wait_clear()
    end()
