"""Hostile nodes: raw HTTP/2 servers that answer Setup and health as they should, and calls with a flood.

    python hostile_server.py KIND COUNT [CERTIFICATE]

Each node has a port of its own. The ports are printed as one line of JSON. When standard input ends, a second
line says how many connections were made to them, and how many bytes they sent; then the process ends. With
the file of a certificate and its key they speak TLS.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterator

import hostile_frame_kinds  # noqa: F401 - each of these adds its kinds to KINDS
import hostile_header_kinds  # noqa: F401
import hostile_other_kinds  # noqa: F401
from hostile_peer import KINDS, Kind, Peer
from hostile_wire import Type, frame

__all__ = ["Servers", "play"]

SETTINGS = frame(Type.SETTINGS, 0, 0)


def play(peer: Peer, kind: Kind) -> None:
    """Serve one connection until the client is gone, or the flood hangs up.

    Raises:
        OSError: always, when the connection has ended.
    """
    flood: Iterator[bytes] | None = None
    if kind.begins == "connection":
        flood = kind.flood(peer, 0)
    else:
        peer.send(SETTINGS)
    while True:
        if flood is None and peer.calls:
            flood = kind.flood(peer, peer.calls.popleft())
        if flood is None:
            peer.read(wait=True)
            continue
        piece = next(flood, None)
        if piece is None:
            flood = None
        else:
            peer.send(piece)
            peer.read(wait=False)


class Servers:
    """So many nodes of a kind.

    Args:
        kind: what they do.
        count: how many nodes.
        certificate: a file with a certificate and its key (PEM); None is plaintext.

    Attributes:
        ports: the nodes' ports.
        connections: how many connections were accepted.
    """

    def __init__(self, kind: Kind, count: int, certificate: str | None = None) -> None:
        self.connections = 0
        self._kind = kind
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
            self._context.set_alpn_protocols(["h2"])
        self._peers: list[Peer] = []
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        self.ports: list[int] = [listener.getsockname()[1] for listener in listeners]
        for listener in listeners:
            threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    @property
    def sent(self) -> int:
        """How many bytes were sent, all connections together."""
        return sum(peer.sent for peer in self._peers)

    def _accept(self, listener: socket.socket) -> None:
        for _ in itertools.count():
            connection, _address = listener.accept()
            self.connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            peer = Peer(connection, sets_up=self._kind.begins != "setup")
            self._peers.append(peer)
            play(peer, self._kind)
        connection.close()


def main() -> None:
    """Serve what the command line says until standard input ends."""
    name, count, *certificate = sys.argv[1:]
    servers = Servers(KINDS[name], int(count), *certificate)
    print(json.dumps(servers.ports), flush=True)
    sys.stdin.read()
    print(json.dumps({"connections": servers.connections, "sent": servers.sent}), flush=True)
    os._exit(0)  # not waiting for threads that are sending


if __name__ == "__main__":
    main()
