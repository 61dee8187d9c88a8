"""Streams over TCP.

A host name can have several addresses, and some of them may not work. To try them one after the other would
cost a timeout for each. So they are tried side by side, as RFC 8305 ("happy eyeballs") says: the next one
begins when the last one has failed, or has taken `happy_eyeballs_delay`. The first one that connects wins.

`trio.open_tcp_stream` does the same, but looks the name up in one of Trio's threads; see `lookups`.
"""

from __future__ import annotations

import contextlib
import math
import socket
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..errors import ConfigError
from ..groups import one_by_itself, reason_of
from ..text import kind_of_secret, shown
from .addresses import address_text
from .base import Network
from .lookups import NUMERIC, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TCPNetwork"]


def _to_seconds(value: Any) -> float:
    """Convert to a float. Python's own error would show the value, which may be anything, even a key."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        seconds = math.nan if isinstance(value, bool | str) else float(value)
        if 0 < seconds < math.inf:
            return seconds
    rule = "a finite number of seconds > 0"
    raise ConfigError(f"network.happy_eyeballs_delay: must be {rule}, got {shown(value)}")


@attrs.frozen
class TCPNetwork(Network):
    """TCP over IPv4 and IPv6.

    Attributes:
        happy_eyeballs_delay: seconds to wait for one address of a host before trying the next beside it.

    Raises:
        ConfigError: the delay is no number of seconds; the text names it as `ClusterConfig` does.
    """

    happy_eyeballs_delay: float = attrs.field(default=0.25, converter=_to_seconds)

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Open a TCP connection; see `Network.connect`."""
        addresses = await _resolve(host, port)
        if addresses == (host,):  # which is an IP address
            return await _open(host, port)
        return await self._race(host, port, _families_in_turn(addresses))

    async def look_up(self, host: str) -> None:
        """Look the host's name up; see `Network.look_up`."""
        await _resolve(host, 0)

    async def _race(self, host: str, port: int, addresses: Sequence[str]) -> trio.SocketStream:
        """Connect to one of several addresses."""
        errors: list[OSError] = []
        streams: list[trio.SocketStream] = []

        async def attempt(address: str, failed: trio.Event) -> None:
            try:
                streams.append(await _open(address, port))
                nursery.cancel_scope.cancel()
            except OSError as error:
                errors.append(error)
                failed.set()

        won = False
        try:
            with one_by_itself():
                async with trio.open_nursery() as nursery:
                    for address in addresses:
                        failed = trio.Event()
                        nursery.start_soon(attempt, address, failed)
                        with trio.move_on_after(self.happy_eyeballs_delay):
                            await failed.wait()
            won = bool(streams)
        finally:
            for stream in streams[won:]:
                stream.socket.close()
        if won:
            return streams[0]
        raise _all_failed(host, port, errors)


async def _resolve(host: str, port: int) -> Sequence[str]:
    """Look a host's name up. No error shows what stands in place of the name if it could be a key."""
    code = 0
    try:
        return await resolve(host, port)
    except OSError as error:
        if kind_of_secret(host) is None:
            raise
        code = error.errno or socket.EAI_NONAME
    # Here the other error is no longer the context of this one.
    raise socket.gaierror(code, f"{shown(host)} can't be a host's name")


async def _open(address: str, port: int) -> trio.SocketStream:
    """Connect to an IP address."""
    text = address_text(address, port)
    try:
        return await _connect(address, port)
    except OSError as error:
        failed = _failure(text, ExceptionGroup(f"the attempt to connect to {text} failed", [error]))
    raise failed


async def _connect(address: str, port: int) -> trio.SocketStream:
    """Connect a socket, without what `trio.open_tcp_stream` has around that to try several: half its time."""
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=NUMERIC)
    family, kind, protocol, _, place = found[0]
    connected = trio.socket.socket(family, kind, protocol)
    try:
        await connected.connect(place)
        return trio.SocketStream(connected)  # which switches Nagle's algorithm off
    except BaseException:
        connected.close()
        raise


def _families_in_turn(addresses: Sequence[str]) -> list[str]:
    """Have the second address be of the other family, IPv4 or IPv6, if there is one (RFC 8305, section 4)."""
    first, *others = addresses
    for each in others:
        if (":" in each) != (":" in first):
            others.remove(each)
            return [first, each, *others]
    return [first, *others]


def _all_failed(host: str, port: int, errors: Sequence[OSError]) -> OSError:
    """An error as that of `trio.open_tcp_stream`: its cause is a group of all attempts' errors."""
    reasons: list[Exception] = []
    for error in errors:
        cause = error.__cause__
        reasons += cause.exceptions if isinstance(cause, ExceptionGroup) else [error]
    text = f"all attempts to connect to {address_text(host, port)} failed"
    return _failure(text, ExceptionGroup(text, reasons))


def _failure(text: str, causes: ExceptionGroup[Exception]) -> OSError:
    """An error that says why, which Trio's own does not; its cause is the same."""
    error = OSError(f"{text}: {', '.join(dict.fromkeys(map(reason_of, causes.exceptions)))}")
    error.__cause__ = causes
    return error
