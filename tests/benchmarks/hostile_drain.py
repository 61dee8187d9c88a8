"""A client that calls each of some nodes once a second, and throws away whatever they send.

    python hostile_drain.py PERIOD TLS PORT...

It puts on the machine the load that a kind of hostile nodes puts on it, while the coordinator has nothing to
do with them. It knows no HTTP/2: what it sends was prepared, it reads as fast as it can, and it connects
again half a second after a connection has ended. PERIOD is in seconds, TLS 0 or 1. It ends when standard
input does, and says then in a line of JSON how many bytes it has read.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time

from hostile_wire import PREFACE, Setting, Type, body, data, frame, headers, literal, setting

READ_SIZE = 1 << 20
PAUSE = 0.5  # seconds between two connections
LARGEST_WINDOW = 2**31 - 1
BEGIN = (
    PREFACE
    + frame(Type.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, LARGEST_WINDOW))
    + frame(Type.WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65_535).to_bytes(4, "big"))
)


def call(stream: int, method: str) -> bytes:
    """A call with an empty message."""
    path = f"/dynamic_subclass.DynamicSubclassService/{method}".encode()
    return headers(stream, b"\x83\x86" + literal(b":path", path)) + data(stream, body(b""))


class Drain:
    """One node's client.

    Attributes:
        received: bytes that were read.
    """

    def __init__(self, port: int, period: float, context: ssl.SSLContext | None) -> None:
        self.received = 0
        self._port = port
        self._period = period
        self._context = context

    def run(self) -> None:
        """Connect and read, again and again."""
        while True:
            with contextlib.suppress(OSError):
                self._connect()
            time.sleep(PAUSE)

    def _connect(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port))
        with self._context.wrap_socket(connection) if self._context else connection as stream:
            self._read(stream)

    def _read(self, connection: socket.socket) -> None:
        buffer = bytearray(READ_SIZE)
        connection.settimeout(self._period)
        connection.sendall(BEGIN + call(1, "Setup"))
        due, stream = time.monotonic(), 3
        while True:
            if time.monotonic() >= due:
                connection.sendall(call(stream, "Call"))
                due, stream = due + self._period, stream + 2
            try:
                count = connection.recv_into(buffer)
            except TimeoutError:
                continue
            if not count:
                return
            self.received += count


def main() -> None:
    """Drain the nodes that the command line says until standard input ends."""
    period, tls, *ports = sys.argv[1:]
    context = None
    if tls == "1":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
    drains = [Drain(int(port), float(period), context) for port in ports]
    for drain in drains:
        threading.Thread(target=drain.run, daemon=True).start()
    sys.stdin.read()
    print(json.dumps({"received": sum(drain.received for drain in drains)}), flush=True)
    os._exit(0)  # not waiting for threads that are reading


if __name__ == "__main__":
    main()
