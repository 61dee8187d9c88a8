"""A network in memory whose lines to clients are thin: bytes come at so many a second, on Trio's clock."""

from __future__ import annotations

import trio

from helpers.wrapped_stream import WrappedStream
from trio_model_runner.network import MemoryNetwork, Network

__all__ = ["ThinNetwork"]

_PIECE = 1000


class _ThinStream(WrappedStream):
    """A client's end; what it receives comes slowly, in pieces of 1,000 bytes."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, rate: float) -> None:
        super().__init__(stream)
        self._rate = rate

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(min(_PIECE, max_bytes or _PIECE))
        await trio.sleep(len(data) / self._rate)
        return data


class ThinNetwork(Network):
    """Connects through a network in memory.

    Args:
        network: where the servers listen.
        rate: bytes a second.

    Attributes:
        connections: how many were made.
        rate: may be changed for those that are made from then on.
    """

    def __init__(self, network: MemoryNetwork, rate: float) -> None:
        self.connections = 0
        self.rate = rate
        self._network = network

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        self.connections += 1
        return _ThinStream(await self._network.connect(host, port), self.rate)
