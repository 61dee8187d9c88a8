"""Who is at the other end of a channel or a call."""

from __future__ import annotations

from typing import Any

import attrs

from ..rpc.connection import Connection

__all__ = ["Peer"]


@attrs.frozen
class Peer:
    """Who is at the other end, in the form of grpclib's `Peer`.

    Attributes:
        address: the host and port that were asked for, or the path of a UNIX socket.
        connection: what leads there; None before there is one.
    """

    address: tuple[str, int] | str
    connection: Connection | None = attrs.field(default=None, repr=False, eq=False)

    def addr(self) -> tuple[str, int] | str:
        """Give the `address`."""
        return self.address

    def cert(self) -> dict[str, Any] | None:
        """Give the server's certificate as `ssl.SSLSocket.getpeercert` has it; None without TLS.

        See `Connection.peer_certificate` for the certificate itself.
        """
        return None if self.connection is None else self.connection.peer_certificate_fields
