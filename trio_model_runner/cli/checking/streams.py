"""Streams that a check needs: one that is open already, and a look at whether a port speaks TLS."""

from __future__ import annotations

import ssl
from typing import Final

import trio

from ...network import Network
from ...network.tls import TLSNetwork

__all__ = ["OpenStream", "speaks_tls"]

_PATIENCE: Final = 2.0  # seconds


class OpenStream(Network):
    """A network that has connected already: what comes after TCP can be looked at by itself.

    Args:
        stream: the stream.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Give the stream."""
        await trio.lowlevel.checkpoint()
        return self._stream


async def speaks_tls(network: Network, host: str, port: int) -> bool:
    """Whether a port speaks TLS, which is tried on a connection of its own. Nothing is sent over that.

    Many servers hang up without a word when plaintext comes to a port that wants TLS.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is trusted here
    with trio.move_on_after(_PATIENCE):
        try:
            stream = await TLSNetwork(context, network, protocol=None).connect(host, port)
        except OSError:
            return False
        await trio.aclose_forcefully(stream)
        return True
    return False
