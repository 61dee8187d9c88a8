"""Child processes as the test has them: started, frozen, thawed, killed, and never left behind.

All of them are forked by one process (`launcher`), in a group of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

import trio

from .control import ControlChannel
from .launcher import MAX_REQUEST_BYTES

__all__ = ["ChildProcess", "Launcher", "open_launcher"]

END_TIMEOUT = 20.0  # seconds in which the launcher collects all processes
START_TIMEOUT = 60.0  # seconds until a process listens


class ChildProcess:
    """One of them.

    Attributes:
        pid: its process id, which stays its own when it has ended.
        port: where it listens.
        name: for messages.
    """

    def __init__(self, name: str, pid: int, channel: ControlChannel) -> None:
        self.name = name
        self.pid = pid
        self.port = 0
        self._channel = channel
        self._expected_to_end = False
        self._asked = self._done = 0
        self._something_done = trio.lowlevel.ParkingLot()
        self._listening = trio.Event()
        self._ended = trio.Event()

    async def follow(self, take_report: Callable[[dict[str, Any]], None]) -> None:
        """Take what it tells until it ends.

        Raises:
            RuntimeError: it has ended by itself.
        """
        try:
            async with contextlib.aclosing(self._channel.receive_all()) as messages:
                async for message in messages:
                    if "listening" in message:
                        self.port = message["listening"]
                        self._listening.set()
                    elif "done" in message:
                        self._done = message["done"]
                        self._something_done.unpark_all()
                    else:
                        take_report(message["report"])
        finally:
            with trio.CancelScope(shield=True):
                await self._channel.aclose()
            self._ended.set()
        if not self._expected_to_end:
            raise RuntimeError(f"the process of {self.name} has ended by itself")

    async def wait_listening(self) -> None:
        """Wait until it listens."""
        with trio.fail_after(START_TIMEOUT):
            await self._listening.wait()

    async def tell(self, **command: Any) -> None:
        """Send it a command; it is carried out later if the process is frozen."""
        self._expected_to_end = self._expected_to_end or "stop" in command
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._channel.send(command)

    async def wait_done(self) -> None:
        """Wait until it has carried out all that it was told; not while it is frozen."""
        self._asked += 1
        asked = self._asked
        await self.tell(tell_done=asked)
        with trio.fail_after(START_TIMEOUT):
            while self._done < asked:
                await self._something_done.park()

    async def wait_ended(self) -> None:
        """Wait until it is gone, and its sockets with it."""
        with trio.fail_after(END_TIMEOUT):
            await self._ended.wait()

    async def kill(self) -> None:
        """End it at once, frozen or not, and wait until it is gone."""
        self._expected_to_end = True
        os.kill(self.pid, signal.SIGKILL)
        await self.wait_ended()

    def freeze(self) -> None:
        """Stop it in its tracks; the kernel keeps its connections, and takes new ones for it."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


class Launcher:
    """Starts processes.

    Args:
        requests: the launcher process's socket.
        nursery: where each process is followed.
        take_report: told of each failure that an orchestrator's process was told.
    """

    def __init__(
        self,
        requests: trio.socket.SocketType,
        nursery: trio.Nursery,
        take_report: Callable[[dict[str, Any]], None],
    ) -> None:
        self._requests = requests
        self._nursery = nursery
        self._take_report = take_report
        self._asking = trio.Lock()

    async def start(self, name: str, **request: Any) -> ChildProcess:
        """Fork a process; `ChildProcess.wait_listening` waits for it."""
        ours, theirs = socket.socketpair()
        with theirs:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, theirs.fileno().to_bytes(4, sys.byteorder))]
            async with self._asking:
                await self._requests.sendmsg([json.dumps(request).encode()], rights)
                pid = int(await self._requests.recv(MAX_REQUEST_BYTES))
        process = ChildProcess(name, pid, ControlChannel(ours))
        self._nursery.start_soon(process.follow, self._take_report)
        return process


@contextlib.asynccontextmanager
async def open_launcher(log: Path, take_report: Callable[[dict[str, Any]], None]) -> AsyncIterator[Launcher]:
    """A launcher, which takes all processes along when the block is left, by any way.

    Args:
        log: where they write what they have to say.
        take_report: see `Launcher`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, log.open("wb") as output:
        launcher = _launch(theirs, output)
        try:
            async with trio.open_nursery() as nursery:
                yield Launcher(trio.socket.from_stdlib_socket(ours), nursery, take_report)
                nursery.cancel_scope.cancel()
        finally:
            ours.close()
            _end(launcher)


def _launch(requests: socket.socket, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the launcher, and leave it its end of the socket."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with requests:
        return subprocess.Popen(
            [sys.executable, "-m", "chaos.launcher", str(requests.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            pass_fds=[requests.fileno()],
            start_new_session=True,
        )


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Wait until it has killed and collected all; it blocks, and nothing here runs any more.

    Raises:
        RuntimeError: not all of them had ended by that, but now they have.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        launcher.wait(END_TIMEOUT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
        raise RuntimeError("processes had to be killed, since the launcher has not done so")
