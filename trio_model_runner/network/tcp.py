"""Streams over TCP.

A host name can have several addresses, and some of them may not work. To try them one after the other would
cost a timeout for each. `trio.open_tcp_stream` tries them side by side, as RFC 8305 ("happy eyeballs") says.
It also switches Nagle's algorithm off.
"""

from __future__ import annotations

import math

import attrs
import trio

from ..groups import one_by_itself
from .addresses import ascii_host
from .base import Network

__all__ = ["TCPNetwork"]


@attrs.frozen
class TCPNetwork(Network):
    """TCP over IPv4 and IPv6.

    Attributes:
        happy_eyeballs_delay: seconds to wait for one address of a host before trying the next beside it.
    """

    happy_eyeballs_delay: float = attrs.field(
        default=0.25, converter=float, validator=[attrs.validators.gt(0), attrs.validators.lt(math.inf)]
    )

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Open a TCP connection; see `Network.connect`."""
        host = ascii_host(host)
        with one_by_itself():  # a KeyboardInterrupt comes out of Trio's own tasks in a group
            return await trio.open_tcp_stream(host, port, happy_eyeballs_delay=self.happy_eyeballs_delay)
