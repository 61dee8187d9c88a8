"""Relays for TCP between two processes of this machine, which can be told to let nothing pass.

What comes meanwhile is kept, as it is by a network that sends again what was not acknowledged.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Relays", "open_relays"]


class Relays:
    """All relays of one line.

    Attributes:
        passing: is set as long as all may pass.
    """

    def __init__(self) -> None:
        self.passing = threading.Event()
        self.passing.set()
        self._sockets: list[socket.socket] = []

    def open(self, port: int) -> int:
        """Relay to a port of this machine; return the port to connect to."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listener)
        self._start(self._accept, listener, port)
        return int(listener.getsockname()[1])

    def close(self) -> None:
        """End all of it."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.passing.set()

    def _start(self, function: object, *arguments: object) -> None:
        threading.Thread(target=function, args=arguments, name="relay", daemon=True).start()  # type: ignore[arg-type]

    def _accept(self, listener: socket.socket, port: int) -> None:
        with suppress(OSError):  # it is closed
            while True:
                accepted, _ = listener.accept()
                self._sockets.append(accepted)
                self.passing.wait()
                connected = socket.create_connection(("127.0.0.1", port))
                self._sockets.append(connected)
                self._start(self._pass_on, accepted, connected)
                self._start(self._pass_on, connected, accepted)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # one of them is closed
            while data := source.recv(1 << 16):
                self.passing.wait()
                sink.sendall(data)
        self.passing.wait()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def open_relays() -> Iterator[Relays]:
    """A line without relays yet, which is closed with the block."""
    relays = Relays()
    try:
        yield relays
    finally:
        relays.close()
