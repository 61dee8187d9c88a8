"""Whether a server that says nothing is still there: PINGs, their answers, and when silence asks for one.

Anything that arrives is a sign of life, not only the answer to a PING: that may come behind a large message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import trio

__all__ = ["Keepalive"]


class Keepalive:
    """Asks one connection's server with PINGs, and learns of its answers.

    Args:
        send_ping: sends a PING with these 8 bytes, and what the function beside it sends, in one write.

    Attributes:
        pieces_read: how many pieces have been read from the server; the connection counts them.
        pings_sent: how many PINGs have been sent.
        unanswered: the PINGs that wait for their answers, by their bytes.
    """

    def __init__(self, send_ping: Callable[[bytes, Callable[[], None]], None]) -> None:
        self.pieces_read = 0
        self._send_ping = send_ping
        self.pings_sent = 0
        self.unanswered: dict[bytes, trio.Event] = {}

    async def ping(self, timeout: float, beside: Callable[[], None] = lambda: None) -> bool:
        """Whether anything comes from the server within `timeout` seconds after a PING, before `give_up`."""
        payload = struct.pack(">Q", self.pings_sent)
        self.pings_sent += 1
        over = self.unanswered[payload] = trio.Event()
        try:
            self._send_ping(payload, beside)
            with trio.move_on_after(timeout):
                await over.wait()
            return payload not in self.unanswered
        finally:
            self.unanswered.pop(payload, None)

    def note_bytes(self) -> None:
        """Something has come from the server, be it a part of a TLS record."""
        self.pieces_read += 1
        if self.unanswered:
            self.heard()

    def heard(self) -> None:
        """Something has come from the server: it is alive."""
        unanswered, self.unanswered = self.unanswered, {}
        for over in unanswered.values():
            over.set()

    def give_up(self) -> None:
        """No answer will come any more."""
        for over in self.unanswered.values():
            over.set()

    async def wait_silent(self, interval: float, retired: trio.Event) -> bool:
        """Wait for `interval` seconds, or until `retired`; say whether nothing was read meanwhile."""
        pieces_read = self.pieces_read
        with trio.move_on_after(interval):
            await retired.wait()
        return self.pieces_read == pieces_read
