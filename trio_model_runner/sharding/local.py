"""Shards as processes of this machine: the engine that needs nothing to be installed.

A shard is a ``python -m trio_model_runner.sharding`` with one end of a pair of sockets (`program` is what it
does). It is started anew, not forked, and does not import the coordinator's ``__main__``. It has a session of
its own: Ctrl-C in the terminal does not reach it. When its driver's end of the socket closes, it ends by
itself, so none is left behind when the driver is killed.

No relay can be put into a pair of sockets, and nothing cuts it while both ends live: it breaks when one end
is closed, or half of it, and stands still while one process does.

`Shard.exited` is what the operating system says. This module must not know what the messages say.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import Final

import trio

from ..forks import keep_from_children
from ..groups import open_nursery_for_body
from ..interpreters import command_of
from ..text import readable
from .engine import SERVE, Shard, ShardLost, close_all
from .stream import MessageStream

__all__ = ["LocalEngine", "LocalShard"]

_PROGRAM: Final = "trio_model_runner.sharding"

_START_SECONDS: Final = 60.0
"""A start takes half a second on an idle machine."""

_END_SECONDS: Final = 2.0
"""For a shard whose socket was closed to end by itself. Then it is killed."""

_HURRIED_END_SECONDS: Final = 0.3
"""The same once the driver is cancelled, as by Ctrl-C."""

_KILL_SECONDS: Final = 2.0
"""For a killed process to be gone. One that waits for a disk that hangs does not go."""

_REASON_SECONDS: Final = 0.5
"""How long a lost shard's end is waited for, so that the error can say what it was."""

_OUTPUT_SECONDS: Final = 0.2
"""For the rest of what a process has printed, once it is gone."""

_KEPT_OUTPUT_BYTES: Final = 2**16
_SHOWN_LINES: Final = 8
_SHOWN_LETTERS: Final = 2000


class LocalEngine:
    """Launches each shard as a process of this machine, with the Python, modules and environment of this one.

    Args:
        serve: what a shard runs, as ``module:function``; see `engine.Serve`. Tests have others.
    """

    has_network = False

    def __init__(self, *, serve: str = SERVE) -> None:
        self._serve = serve
        self._nursery: trio.Nursery | None = None
        self._shards: list[LocalShard] = []

    @contextlib.asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def running(self) -> AsyncIterator[None]:
        """See `engine.Engine`. Shards that were not closed are closed when this is left."""
        async with open_nursery_for_body() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                self._nursery = None
                await close_all(self._shards)  # noqa: ASYNC102 - which shields and bounds itself

    @trio.lowlevel.enable_ki_protection
    async def launch(self, index: int, first_message: bytes) -> Shard:
        """See `engine.Engine`."""
        if self._nursery is None:
            raise RuntimeError("shards are launched inside `async with engine.running()`")
        shard = LocalShard(index, *await self._start(index))
        self._shards.append(shard)
        self._nursery.start_soon(shard.run)
        try:
            with trio.move_on_after(_START_SECONDS):
                await shard.receive()  # it has started
                await shard.send(first_message)
                return shard
            raise ShardLost(f"shard {index} did not start within {_START_SECONDS:g} s")
        except BaseException:
            shard.kill()
            await shard.aclose()
            raise
        finally:
            self._shards = [each for each in self._shards if not each.closed]

    async def _start(self, index: int) -> tuple[trio.Process, MessageStream]:
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.callback(ours.close)
            try:
                process = await trio.lowlevel.open_process(
                    command_of(_PROGRAM, str(index), str(theirs.fileno()), self._serve),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                raise ShardLost(f"shard {index} can't be started: {error}") from error
            unless_started.pop_all()
        keep_from_children(ours)  # or the shard would not see the end of a driver that has forked
        return process, MessageStream(trio.socket.from_stdlib_socket(ours))


class LocalShard:
    """A shard's process; see `engine.Shard`. `LocalEngine` makes these.

    Attributes:
        closed: `aclose` was called.
    """

    def __init__(self, index: int, process: trio.Process, stream: MessageStream) -> None:
        self.exited = trio.Event()
        self._index = index
        self._process = process
        self._stream = stream
        self.closed = False
        self._output = bytearray()
        self._all_is_said = trio.Event()
        self._watched = trio.CancelScope(shield=True)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """The end of what the process has printed, to either output: 64 KiB at most."""
        return self._output.decode("utf-8", "replace")

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Wait for the end of the process, and keep what it prints. `aclose` ends this in any case."""
        try:
            with self._watched:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_output)
                    await self._process.wait()
                    self.exited.set()
                    # A process that it has started may hold the pipe open.
                    nursery.cancel_scope.deadline = trio.current_time() + _OUTPUT_SECONDS
        finally:
            self._all_is_said.set()
            assert self._process.stdout is not None
            with trio.CancelScope(shield=True):  # it does not wait
                await self._process.stdout.aclose()

    @trio.lowlevel.enable_ki_protection
    async def _keep_output(self) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.receive_some(_KEPT_OUTPUT_BYTES):
            self._output += data
            del self._output[:-_KEPT_OUTPUT_BYTES]

    async def send(self, message: bytes) -> None:
        """See `engine.Shard`. If it is cancelled in the middle of a message, the way is gone."""
        try:
            await self._stream.send(message)
        except ShardLost as error:
            raise await self._lost(error) from error

    async def receive(self) -> bytes:
        """See `engine.Shard`."""
        try:
            return await self._stream.receive()
        except ShardLost as error:
            raise await self._lost(error) from error

    async def _lost(self, error: ShardLost) -> ShardLost:
        """Say why it was lost, which the end of its process says better than the socket."""
        if self.closed:
            return ShardLost(f"shard {self._index} was closed")
        with trio.move_on_after(_REASON_SECONDS):
            await self._all_is_said.wait()
        code = self._process.returncode
        if code is None:
            return ShardLost(f"shard {self._index}: {error}")
        text = f"shard {self._index} ended with exit code {code}"
        if code < 0:
            text += f" ({_name_of(-code)})"
        said = "\n".join(self.output.rstrip().splitlines()[-_SHOWN_LINES:])
        return ShardLost(f"{text}; it said:\n{readable(said[-_SHOWN_LETTERS:])}" if said else text)

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """See `engine.Shard`. It takes 4.3 s at most, and a moment if the process ends by itself."""
        self.closed = True
        self._stream.close()
        try:
            with trio.move_on_after(_END_SECONDS):
                await self.exited.wait()
        finally:
            with trio.move_on_after(_HURRIED_END_SECONDS, shield=True):
                await self.exited.wait()
            if not self.exited.is_set():
                self.kill()
                with trio.move_on_after(_KILL_SECONDS, shield=True):
                    await self.exited.wait()
                self._watched.cancel()


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
