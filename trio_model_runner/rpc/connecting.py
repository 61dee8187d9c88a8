"""How a connection comes to be: a byte stream, its tasks, and the server's SETTINGS."""

from __future__ import annotations

import trio
from trio.lowlevel import enable_ki_protection

from ..network import Network, address_text
from .connection import Connection
from .reader import SocketHub

__all__ = ["open_connection"]


@enable_ki_protection
async def open_connection(
    nursery: trio.Nursery,
    network: Network,
    host: str,
    port: int,
    *,
    timeout: float = 10.0,
    max_header_bytes: int = 16 << 10,
    hub: SocketHub | None = None,
) -> Connection:
    """Connect to a server and wait for its SETTINGS.

    Args:
        nursery: where the connection's tasks run, until it is lost or its `aclose` is done.
        network: what opens the byte stream.
        host: a name or an address.
        port: a port.
        timeout: seconds for all of it.
        max_header_bytes: see `Connection`.
        hub: see `Connection`.

    Raises:
        OSError: nobody answers there in time (`TimeoutError`), nobody listens, or the server does not
            speak HTTP/2 (`ConnectionError`).
    """
    connection: Connection | None = None
    peer = address_text(host, port)
    try:
        with trio.move_on_after(timeout):
            stream = await network.connect(host, port)
            new = Connection(stream, peer=peer, max_header_bytes=max_header_bytes, hub=hub)
            connection = await _start(nursery, stream, new)
            await connection.wait_ready()
            return connection
        if connection is None:
            raise TimeoutError(f"{peer}: no connection within {timeout:g} s")
        raise TimeoutError(f"{peer}: connected, but no HTTP/2 SETTINGS within {timeout:g} s")
    except BaseException:
        if connection is not None:
            connection.abort("the connection was given up")
        raise


async def _start(nursery: trio.Nursery, stream: trio.abc.Stream, connection: Connection) -> Connection:
    """Give a connection its tasks; without them nobody would close the stream."""
    try:
        nursery.start_soon(connection.run)
    except RuntimeError:  # the nursery is closed
        await trio.aclose_forcefully(stream)
        raise
    await trio.lowlevel.cancel_shielded_checkpoint()
    return connection
