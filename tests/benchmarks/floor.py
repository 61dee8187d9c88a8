"""What the system calls of a round cost alone: ready-made frames written, waited for and read.

    python floor.py JOB    (the nodes' ports: one line of JSON on standard input)

Nothing is parsed, and there is no event loop but a poll: no client can cost less. A request is as large
as one of ours. All requests of a round are written, then the answers are read as they come. The nodes are
plaintext ones of `cheap_fleet`. It runs in the development environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import sys

from cheap_fleet import GREETING, LARGEST_WINDOW, answers_for
from hostile_wire import FRAME_HEADER_LENGTH, PREFACE, Flag, Setting, Type, body, frame, setting
from job import PREDICT, Job, finish, given_job, play_rounds

HELLO = PREFACE + frame(Type.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, LARGEST_WINDOW))
HELLO_ANSWER_LENGTH = len(GREETING) + FRAME_HEADER_LENGTH
ANSWER_LENGTH = len(answers_for()[2])
BLOCK = bytes(16)  # the nodes look at none; one of ours has about as much when all of it was sent before
READ_BYTES = 65536


class Floor:
    """Connections to all nodes of a job."""

    def __init__(self, job: Job, ports: list[int]) -> None:
        self._job = job
        self._stream = 1
        self._poll = select.epoll()
        self._connections = [connect(port) for port in ports]
        for connection in self._connections:
            self._poll.register(connection, select.EPOLLIN)

    async def play_round(self) -> int:
        """Call all nodes; how many have answered."""
        frames = request(self._job, self._stream)
        self._stream += 2
        missing = {connection.fileno(): ANSWER_LENGTH for connection in self._connections}
        for descriptor in missing:
            os.writev(descriptor, frames)
        while missing:
            for descriptor, _ in self._poll.poll():
                missing[descriptor] -= len(os.read(descriptor, READ_BYTES))
                if not missing[descriptor]:
                    del missing[descriptor]
        return len(self._connections)


def connect(port: int) -> socket.socket:
    """Connect to a node, and read all that it says before it is called."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(HELLO)
    connection.recv(HELLO_ANSWER_LENGTH, socket.MSG_WAITALL)
    return connection


def request(job: Job, stream: int) -> list[bytes]:
    """The frames of a call."""
    message = body(PREDICT.encode() + json.dumps(job.small_payload()).encode())
    head = frame(Type.HEADERS, Flag.END_HEADERS, stream, BLOCK)
    return [head, frame(Type.DATA, Flag.END_STREAM, stream, message)]


def main() -> None:
    """Do the job on the command line."""
    job = given_job()
    floor = Floor(job, json.loads(sys.stdin.readline()))
    finish(asyncio.run(play_rounds(job, floor.play_round)))


if __name__ == "__main__":
    main()
