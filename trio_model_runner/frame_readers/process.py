"""One reader process, as its coordinator sees it: started, sent frames, heard, ended.

This module knows what a process said and how it ended. It does not know which frame was at fault.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

import trio

from ..errors import ReadersUnavailable
from ..interpreters import command_of
from ..values.encoded import Encoded
from .confinement import cpu_seconds
from .messages import Kind, Message, MessageParser, head

__all__ = ["PROGRAM", "End", "ReaderProcess", "open_reader"]

PROGRAM: Final = "trio_model_runner.frame_readers"
"""The module that a reader runs."""

_START_SECONDS: Final = 60.0
"""A start takes 0.3 s on an idle machine."""

_KILL_SECONDS: Final = 1.0
_PIPE_BYTES: Final = 2**20  # as large as Linux lets a user make it
_F_SETPIPE_SZ: Final = 1031

_KEPT_VARIABLES: Final = (
    "LD_LIBRARY_PATH",
    "PATH",
    "SYSTEMROOT",
    "TMPDIR",
    "TZ",
    "TZDIR",
)
"""What a reader needs to know of the environment. The rest may be secret."""

_FROM_OUTSIDE: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, getattr(signal, "SIGKILL", 9)}
)
"""Signals that no frame leads to. The system kills by SIGKILL when memory is short everywhere."""


class End:
    """How a reader process ended.

    Attributes:
        text: the same in words.
        took_too_long: the frame that it was at took more of a processor's time than it may.
        from_outside: no frame was the cause.
    """

    def __init__(self, code: int | None, *, hung: bool = False, nonsense: bool = False) -> None:
        self.took_too_long = code == -getattr(signal, "SIGPROF", 0) != 0
        self.from_outside = hung or (not nonsense and (code is None or -code in _FROM_OUTSIDE))
        if hung:
            self.text = "since it stood still"
        elif nonsense:
            self.text = "since it said what no reader says"
        elif code is not None and -code in set(signal.Signals):
            self.text = f"by {signal.Signals(-code).name}"
        else:
            self.text = f"with exit code {code}"


class ReaderProcess:
    """A reader process. `open_reader` starts one, and ends it.

    Attributes:
        sent: the numbers and the lengths (bytes) of the frames whose answers have not come, in their order.
    """

    def __init__(self, process: trio.Process, max_frame_bytes: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.sent: deque[tuple[int, int]] = deque()
        self._process = process
        self._input = process.stdin
        self._output = process.stdout
        # A table has no more bytes than it may take, besides a head and a list of buffers.
        self._parser = MessageParser(2 * max_frame_bytes + 2**20)
        self._hung = self._nonsense = False

    async def send(self, frames: Sequence[tuple[int, Encoded]]) -> None:
        """Send frames, with their numbers.

        Raises:
            trio.BrokenResourceError: the process has ended.
        """
        parts: list[bytes] = []
        for number, encoded in frames:
            length = len(encoded.data)
            self.sent.append((number, length))
            parts += head(number, encoded.data_type, length), encoded.data
        if len(parts) > 2 or len(parts[1]) < _PIPE_BYTES:
            parts = [b"".join(parts)]
        for part in parts:
            await self._input.send_all(part)

    async def receive(self) -> list[Message]:
        """Receive what the process says next; nothing if it has ended, or says what no reader says."""
        while not self._nonsense and (data := await self._output.receive_some(_PIPE_BYTES)):
            try:
                messages = [self._checked(message) for message in self._parser.feed(bytes(data))]
            except ValueError:
                self._nonsense = True
                self._process.kill()
                break
            if messages:
                return messages
        return []

    def _checked(self, message: Message) -> Message:
        if message.kind in (Kind.TABLE, Kind.REFUSAL):
            if not self.sent or message.number != self.sent.popleft()[0]:
                raise ValueError("an answer to no question")
        elif message.kind not in (Kind.READY, Kind.BROKEN):
            raise ValueError("no answer at all")
        return message

    @property
    def longest_wait(self) -> float:
        """How long the next answer may take before something is wrong with this machine, in seconds."""
        length = self.sent[0][1] if self.sent else 0
        return 10.0 + 10.0 * cpu_seconds(length)

    def give_up(self) -> None:
        """End the process: it stands still, or nobody waits for its frame."""
        self._hung = True
        self._process.kill()

    async def wait_ready(self) -> None:
        """Wait until frames can be sent.

        Raises:
            ReadersUnavailable: the process can't work.
        """
        with trio.move_on_after(_START_SECONDS):
            messages = await self.receive()
            if not messages:
                raise ReadersUnavailable(f"it ended {(await self.end()).text} when it was started")
            if messages[0].kind == Kind.READY:
                return
            raise ReadersUnavailable(bytes(messages[0].body).decode("utf-8", "replace"))
        raise ReadersUnavailable(f"it did not start within {_START_SECONDS:g} s")

    async def end(self) -> End:
        """Wait until the process has ended, which it must do by itself; see `give_up`."""
        with trio.move_on_after(_KILL_SECONDS):
            await self._process.wait()
        return End(self._process.returncode, hung=self._hung, nonsense=self._nonsense)


@contextlib.asynccontextmanager
async def open_reader(max_frame_bytes: int) -> AsyncIterator[ReaderProcess]:
    """Start a reader process, and end it with the block.

    Args:
        max_frame_bytes: how large a frame may become, bytes.

    Raises:
        ReadersUnavailable: it can't be started.
    """
    # Isolated (-I), it executes nothing that lies beside the coordinator's program, such as a sitecustomize.
    options = ("-I", "-X", "utf8", "-W", "ignore")
    try:
        process = await trio.lowlevel.open_process(
            command_of(PROGRAM, str(max_frame_bytes), options=options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C in a terminal goes to all processes of a session
        )
    except OSError as error:
        raise ReadersUnavailable(f"it can't be started: {error}") from error
    try:
        _enlarge_pipes(process)
        yield ReaderProcess(process, max_frame_bytes)
    finally:
        process.kill()
        with trio.move_on_after(_KILL_SECONDS, shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve more than they use
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }


def _enlarge_pipes(process: trio.Process) -> None:
    if sys.platform != "linux":
        return
    import fcntl

    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # the user has too many large pipes
            fcntl.fcntl(stream.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[union-attr]
