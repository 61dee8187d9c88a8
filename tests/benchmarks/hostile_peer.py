"""What hostile servers are made of: a client's connection, and the kinds of floods that are played on it.

A flood is a generator of bytes. The server sends each piece as fast as the client takes it, and between two
pieces it reads what the client sent, and does what a good server does: it answers Setup, health checks,
PINGs and SETTINGS, and counts windows. So a flood has only its misbehaviour to write down. Pieces are large
where they can be: 100 KiB and more, so that sending costs little, and at most a megabyte, so that reading is
not put off for long.

One thread serves a connection. Python's TLS sockets can't be read and written by two at a time.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import hpack
from hostile_wire import (
    CALL_ANSWER,
    FRAME_HEADER_LENGTH,
    HEALTHY,
    PREFACE,
    SET_UP,
    Flag,
    Setting,
    Type,
    answer,
    body,
    frame,
)

__all__ = ["KINDS", "Flood", "Kind", "Peer", "kind", "on_newest"]

READ_SIZE = 1 << 18
DEFAULT_WINDOW = 65_535


class Peer:
    """A client's connection.

    Args:
        connection: the socket, TLS or not.
        sets_up: answer Setup; else a flood does, or does not.

    Attributes:
        stream: the stream of the newest call; 0 before the first.
        calls: the streams of the calls that no flood has been begun for, oldest first.
        deaf: read no more.
        sent: bytes that were sent.
    """

    def __init__(self, connection: socket.socket, *, sets_up: bool = True) -> None:
        self.stream = 0
        self.calls: deque[int] = deque()
        self.deaf = False
        self.sent = 0
        self._connection = connection
        self._sets_up = sets_up
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._buffer = bytearray()
        self._begun = False
        self._decoder = hpack.Decoder()
        self._initial_window = DEFAULT_WINDOW
        self._window = DEFAULT_WINDOW
        self._windows: dict[int, int] = {}  # of the streams that are open

    def send(self, piece: bytes) -> None:
        """Send all of a piece, however long that takes.

        Raises:
            OSError: the client is gone.
        """
        self._connection.sendall(piece)
        self.sent += len(piece)

    def read(self, *, wait: bool) -> None:
        """Read what the client has sent, and answer what needs an answer.

        Args:
            wait: wait until there is something.

        Raises:
            OSError: the client is gone.
        """
        if self.deaf and not wait:
            return
        if not wait and not self._pending() and not self._poll.poll(0):
            return
        received = self._connection.recv(READ_SIZE)
        if not received:
            raise ConnectionResetError("the client has hung up")
        self._buffer += received
        self._read_frames()

    def take(self, stream: int, wanted: int, unit: int = 1) -> int:
        """Wait until some bytes of DATA may be sent, and take them of the windows.

        Args:
            stream: on which one; 0 asks the connection's window alone, for streams that are closed.
            wanted: how many bytes; a multiple of `unit`.
            unit: how many bytes are of no use without each other.

        Returns:
            How many, a multiple of `unit`; 0 if the client has reset the stream.

        Raises:
            OSError: the client is gone.
        """
        while stream == 0 or stream in self._windows:
            granted = min(wanted, self._window, self._windows[stream] if stream else wanted)
            granted -= granted % unit
            if granted > 0:
                self._window -= granted
                if stream:
                    self._windows[stream] -= granted
                return granted
            self.read(wait=True)
        return 0

    def answer(self, stream: int, message: bytes = CALL_ANSWER) -> bytes:
        """A whole answer with a small message, which is taken of the connection's window."""
        self._window -= len(body(message))
        return answer(stream, message)

    def next_call(self, stream: int) -> int:
        """Wait for a call that is newer than that on `stream`, and give its stream.

        Raises:
            OSError: the client is gone.
        """
        while self.stream == stream:
            self.read(wait=True)
        return self.stream

    def hang_up(self) -> None:
        """End the connection, from a flood.

        Raises:
            ConnectionResetError: always.
        """
        raise ConnectionResetError("hung up")

    def _pending(self) -> bool:
        return bool(getattr(self._connection, "pending", int)())

    def _read_frames(self) -> None:
        buffer, position = self._buffer, 0
        if not self._begun:
            if len(buffer) < len(PREFACE):
                return
            position, self._begun = len(PREFACE), True
        while len(buffer) - position >= FRAME_HEADER_LENGTH:
            end = position + FRAME_HEADER_LENGTH + int.from_bytes(buffer[position : position + 3], "big")
            if len(buffer) < end:
                break
            stream = int.from_bytes(buffer[position + 5 : position + 9], "big")
            payload = bytes(buffer[position + FRAME_HEADER_LENGTH : end])
            self._handle(buffer[position + 3], buffer[position + 4], stream, payload)
            position = end
        del buffer[:position]

    def _handle(self, what: int, flags: int, stream: int, payload: bytes) -> None:
        if what == Type.HEADERS:
            self._begin_call(flags, stream, payload)
        elif what == Type.RST_STREAM:
            self._windows.pop(stream, None)
        elif what == Type.WINDOW_UPDATE:
            (increment,) = struct.unpack(">I", payload)
            if stream == 0:
                self._window += increment
            elif stream in self._windows:
                self._windows[stream] += increment
        elif what == Type.SETTINGS and not flags & Flag.ACK:
            self._apply_settings(payload)
            self.send(frame(Type.SETTINGS, Flag.ACK, 0))
        elif what == Type.PING and not flags & Flag.ACK:
            self.send(frame(Type.PING, Flag.ACK, 0, payload))

    def _apply_settings(self, payload: bytes) -> None:
        for number, value in struct.iter_unpack(">HI", payload):
            if number == Setting.INITIAL_WINDOW_SIZE:
                change, self._initial_window = value - self._initial_window, value
                for stream in self._windows:
                    self._windows[stream] += change

    def _begin_call(self, flags: int, stream: int, payload: bytes) -> None:
        padding = payload[0] if flags & Flag.PADDED else 0
        begin = bool(flags & Flag.PADDED) + (5 if flags & Flag.PRIORITY else 0)
        fields = dict(self._decoder.decode(payload[begin : len(payload) - padding], raw=True))
        path = fields[b":path"]
        if path.endswith(b"/Check"):
            self.send(self.answer(stream, HEALTHY))
        elif path.endswith(b"/Setup") and self._sets_up:
            self.send(self.answer(stream, SET_UP))
        else:
            self._windows[stream] = self._initial_window
            self.stream = stream
            self.calls.append(stream)


Flood = Callable[[Peer, int], Iterator[bytes]]
"""What a kind sends for a call: takes the connection and the call's stream, gives pieces.

It may go on for ever; then later calls change `Peer.stream`, and nothing else is sent to them."""


@dataclass(frozen=True)
class Kind:
    """A kind of misbehaviour.

    Attributes:
        name: what the command line calls it.
        flood: what it sends.
        begins: with what it begins: a "call"; "setup", which it gets instead of an answer; or the
            "connection", before anything else is sent (not even SETTINGS), with stream 0.
        memory: by how many MB it may let the coordinator grow, five nodes of it together.
    """

    name: str
    flood: Flood
    begins: str
    memory: float

    @property
    def description(self) -> str:
        """What it is, in a line or two."""
        return " ".join((self.flood.__doc__ or "").split())


KINDS: dict[str, Kind] = {}
"""All kinds by name, in the order of their definition."""


def kind(*, begins: str = "call", memory: float = 64) -> Callable[[Flood], Flood]:
    """Make a flood a kind that has its name; the arguments are those of `Kind`."""

    def register(flood: Flood) -> Flood:
        name: str = flood.__name__
        KINDS[name] = Kind(name, flood, begins, memory)
        return flood

    return register


def on_newest(
    peer: Peer, pieces: Callable[[int], Iterator[bytes]], *, answered: bool = False
) -> Iterator[bytes]:
    """Send pieces that belong to a call's stream, until a newer call comes; then the pieces for that one.

    Args:
        peer: the connection.
        pieces: gives endless pieces for a stream.
        answered: answer each call first as one should, so that its stream is closed. Else it is open, until
            the client gives the call up.
    """
    while True:
        stream = peer.stream
        if answered:
            yield peer.answer(stream)
        for piece in pieces(stream):
            yield piece
            if peer.stream != stream:
                break
