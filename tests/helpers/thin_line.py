"""A network in memory whose lines to clients are thin: bytes come at so many a second, on Trio's clock."""

from __future__ import annotations

import trio

from trio_model_runner.network import MemoryNetwork, Network

__all__ = ["ThinNetwork"]

_PIECE = 1000


class _ThinStream(trio.abc.HalfCloseableStream):
    """A client's end; what it receives comes slowly, in pieces of 1,000 bytes."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, rate: float) -> None:
        self._stream = stream
        self._rate = rate

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(min(_PIECE, max_bytes or _PIECE))
        await trio.sleep(len(data) / self._rate)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


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
