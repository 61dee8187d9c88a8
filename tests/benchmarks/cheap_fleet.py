"""Nodes that cost next to nothing, so that what is measured is the client: one process, a port each.

    python cheap_fleet.py COUNT [secure DIRECTORY | gateway DIRECTORY]

A node answers with bytes that were made beforehand, and decodes no header. Secure nodes have TLS,
certificates both ways, and the proof of a wallet with each answer; gateways have TLS, and look at no token.
The coordinator's credentials are written into the directory. It prints the entries of an orchestrator as one
line of JSON. It runs in the development environment.

Calls of the method "mixed" are not all answered: one in twenty never, by chance, and one in twenty at the
moment that the argument ``at`` says (POSIX seconds). Each line on standard input is answered by a line of
JSON: how many calls were left unanswered since the last one, and how late the latest of those answers was.
It ends when standard input does.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import json
import random
import re
import resource
import selectors
import socket
import ssl
import struct
import sys
import time
from typing import Any

from cheap_fleet_identities import identities_of
from entries import Entry, entry
from hostile_wire import (
    CALL_ANSWER,
    FRAME_HEADER_LENGTH,
    HEALTHY,
    OK,
    PREFACE,
    SET_UP,
    TRAILERS,
    Flag,
    Setting,
    Type,
    body,
    data,
    frame,
    headers,
    literal,
    setting,
)
from job import CLASS_NAME

LARGEST_WINDOW = 2**31 - 1
GREETING = frame(
    Type.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, LARGEST_WINDOW) + setting(5, 2**20)
) + frame(Type.WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - 65535))
REPLENISH = 2**29
READ_BYTES = 2**20
WAITED_FOR = 2**16
"""So much of a DATA frame is waited for, so that its head is in one piece."""
HUNG = LATE = 0.05

Answers = tuple[bytes, bytes, bytes]
"""What Setup, Check and a call are answered with, for stream 0."""


def answers_for(proof: tuple[tuple[str, str], ...] = ()) -> Answers:
    """The answers of a node."""
    block = OK + b"".join(literal(name.encode(), value.encode()) for name, value in proof)
    made = [
        headers(0, block) + data(0, body(message)) + headers(0, TRAILERS, end=True)
        for message in (SET_UP, HEALTHY, CALL_ANSWER)
    ]
    return made[0], made[1], made[2]


def to_stream(answer: bytes, stream: int) -> bytes:
    """An answer, for a stream: the number is in the header of each of its three frames."""
    sent, number, at = bytearray(answer), struct.pack(">I", stream), 0
    while at < len(sent):
        sent[at + 5 : at + FRAME_HEADER_LENGTH] = number
        at += FRAME_HEADER_LENGTH + int.from_bytes(sent[at : at + 3], "big")
    return bytes(sent)


class Fleet:
    """All nodes, and what they still have to do.

    Attributes:
        selector: what they wait with.
        hung: how many calls were left unanswered.
        lateness: of the latest answer that had its moment, seconds.
    """

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.hung = 0
        self.lateness = 0.0
        self._due: list[tuple[float, int, Connection, int]] = []
        self._buffer = bytearray(READ_BYTES)
        self._cache: dict[tuple[bytes, int], bytes] = {}

    def listen(self, answers: Answers, context: ssl.SSLContext | None) -> int:
        """Have one more node; its port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        listener.setblocking(False)

        def accept() -> None:
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.setblocking(False)
            if context is not None:
                accepted = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
            connection = Connection(self, accepted, answers)
            if context is None:
                connection.greet()
            self.selector.register(accepted, selectors.EVENT_READ, connection.read)

        self.selector.register(listener, selectors.EVENT_READ, accept)
        port: int = listener.getsockname()[1]
        return port

    def answer_at(self, moment: float, connection: Connection, stream: int) -> None:
        """Answer a call at a moment, POSIX seconds."""
        heapq.heappush(self._due, (moment, id(connection), connection, stream))

    def bytes_for(self, answer: bytes, stream: int) -> bytes:
        """An answer, for a stream."""
        found = self._cache.get((answer, stream))
        if found is None:
            found = self._cache[answer, stream] = to_stream(answer, stream)
        return found

    def report(self) -> str:
        """What there is to say, and begin anew."""
        said = json.dumps({"hung": self.hung, "lateness": self.lateness})
        self.hung, self.lateness = 0, 0.0
        return said

    def run(self) -> None:
        """Serve until standard input ends."""
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        while True:
            timeout = max(0.0, self._due[0][0] - time.time()) if self._due else None
            for key, _ in self.selector.select(timeout):
                if key.data is not None:
                    key.data()
                elif not sys.stdin.readline():
                    return
                else:
                    print(self.report(), flush=True)
            while self._due and self._due[0][0] <= time.time():
                moment, _, connection, stream = heapq.heappop(self._due)
                connection.answer(2, stream)
                self.lateness = max(self.lateness, time.time() - moment)

    @property
    def buffer(self) -> bytearray:
        """Where all connections read into."""
        return self._buffer


class Connection:
    """One connection to a node."""

    def __init__(self, fleet: Fleet, accepted: socket.socket, answers: Answers) -> None:
        self._fleet = fleet
        self._socket = accepted
        self._answers = answers
        self._greeted = False
        self._prefaced = False
        self._rest = b""
        self._skipped = 0  # bytes of a DATA frame that are still to come
        self._ending = 0  # the stream that ends with that frame
        self._heads: dict[int, bytes] = {}
        self._taken = 0

    def read(self) -> None:
        """Take what has come."""
        try:
            if not self._greeted and isinstance(self._socket, ssl.SSLSocket):
                self._socket.do_handshake()
                self.greet()
            if self._skipped and not isinstance(self._socket, ssl.SSLSocket):
                # Linux throws it away, which spares the copy.
                most = min(self._skipped, READ_BYTES)
                count = self._socket.recv_into(self._fleet.buffer, most, socket.MSG_TRUNC)
            else:
                count = self._socket.recv_into(self._fleet.buffer)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            count = 0
        if not count:
            self._fleet.selector.unregister(self._socket)
            self._socket.close()
            return
        self._take(memoryview(self._fleet.buffer)[:count])
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            self.read()

    def greet(self) -> None:
        """Send the server's preface. The reference client waits for it where it sends nothing itself."""
        self._greeted = True
        self._send(GREETING)

    def answer(self, which: int, stream: int) -> None:
        """Answer a call."""
        self._send(self._fleet.bytes_for(self._answers[which], stream))

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # answers are small, and who is gone is gone
            self._socket.send(message)

    def _take(self, view: memoryview) -> None:
        at = 0
        if self._skipped:
            at = min(self._skipped, len(view))
            self._skipped -= at
            if not self._skipped and self._ending:
                self._end(self._ending)
            if at == len(view):
                return
        received = (
            self._rest + bytes(view[at:]) if len(view) - at < READ_BYTES // 2 or self._rest else view[at:]
        )
        at = 0
        if not self._prefaced and len(received) >= len(PREFACE):
            self._prefaced = True
            at = len(PREFACE)
        while self._prefaced and len(received) - at >= FRAME_HEADER_LENGTH:
            length = int.from_bytes(received[at : at + 3], "big")
            kind, flags = received[at + 3], received[at + 4]
            start = at + FRAME_HEADER_LENGTH
            if kind == Type.DATA and len(received) - start >= min(length, WAITED_FOR):
                stream = int.from_bytes(received[at + 5 : start], "big")
                at = self._take_data(received, start, length, stream, flags)
                continue
            if len(received) - start < length:
                break
            if kind == Type.SETTINGS and not flags & Flag.ACK:
                self._send(frame(Type.SETTINGS, Flag.ACK, 0))
            elif kind == Type.PING and not flags & Flag.ACK:
                self._send(frame(Type.PING, Flag.ACK, 0, bytes(received[start : start + length])))
            at = start + length
        self._rest = bytes(received[at:])

    def _take_data(self, received: Any, start: int, length: int, stream: int, flags: int) -> int:
        end = min(len(received), start + length)
        if stream not in self._heads:
            self._heads[stream] = bytes(received[start : min(end, start + 400)])
        self._taken += length
        if self._taken > REPLENISH:
            self._send(frame(Type.WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        self._skipped = start + length - end
        self._ending = stream if flags & Flag.END_STREAM else 0
        if self._ending and not self._skipped:
            self._end(stream)
        return end

    def _end(self, stream: int) -> None:
        self._ending = 0
        request = self._heads.pop(stream)[5:]
        if not request:
            self.answer(1, stream)
        elif CLASS_NAME.encode() in request:
            self.answer(0, stream)
        elif b"mixed" in request:
            self._answer_perhaps(request, stream)
        else:
            self.answer(2, stream)

    def _answer_perhaps(self, request: bytes, stream: int) -> None:
        chance = random.random()
        if chance < HUNG:
            self._fleet.hung += 1
        elif chance < HUNG + LATE:
            found = re.search(rb'"at": ?([\d.]+)', request)
            assert found is not None, request
            self._fleet.answer_at(float(found[1]), self, stream)
        else:
            self.answer(2, stream)


def listening(fleet: Fleet, count: int, mode: str, directory: str) -> list[Entry]:
    """Have so many nodes in a fleet; their entries."""
    identities = identities_of(mode, directory)
    entries = []
    for index in range(count):
        port = fleet.listen(answers_for(identities.proof(index)), identities.context(index))
        entries.append(entry(index, port, identities.participant(index)))
    return entries


def main() -> None:
    """Serve as many nodes as the command line says."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count, mode, directory = int(sys.argv[1]), *(sys.argv[2:] or ["", ""])
    fleet = Fleet()
    print(json.dumps(listening(fleet, count, mode, directory)), flush=True)
    gc.disable()  # nothing here is in a cycle, and a collection in the middle of a round would be a stall
    fleet.run()


if __name__ == "__main__":
    main()
