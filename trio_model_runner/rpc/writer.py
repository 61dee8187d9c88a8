"""The one task that writes on a connection, and the short way past it.

A task that is cancelled in the middle of `send_all` leaves half a frame on the wire, and with it corrupts
every other stream of the connection. So nobody who can be cancelled ever writes: callers change the state of
the `http2.Http2Client` and `flush`. On a plain socket that hands the bytes to the kernel right there, with
no task switch and no copy. What the kernel doesn't take, and everything on other streams (TLS, memory), is
left to the task in `run`.

**A write that fails is no end of the connection yet.** What the peer said before, be it answers, a GOAWAY
or a TLS alert, still lies unread, and says better what happened than "broken pipe" does. So `run` only
returns, and the connection's owner decides how long the reader may go on.
"""

from __future__ import annotations

import os
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

from .http2 import Buffer, Http2Client

__all__ = ["Writer"]

_MAX_BUFFERS_PER_WRITE: Final = 1024  # IOV_MAX on Linux and macOS


class Writer:
    """Puts what an `Http2Client` has to send on a byte stream.

    Args:
        stream: where to.
        http2: what says what is to be sent.
        progress: where those are parked who wait until more of theirs was taken from `http2`.
    """

    def __init__(
        self, stream: trio.abc.Stream, http2: Http2Client, progress: trio.lowlevel.ParkingLot
    ) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._http2 = http2
        self._progress = progress
        self._unwritten: list[Buffer] = []
        self._busy = False
        self._closed = False
        self._failed = False
        self._work = trio.Event()
        self._written = trio.Event()

    @property
    def all_written(self) -> bool:
        """Whether nothing that was taken to be sent is still here: the kernel has it."""
        return not (self._unwritten or self._busy)

    @enable_ki_protection
    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        self._written.set()

    @enable_ki_protection
    def flush(self) -> None:
        """Put what there is to send on the wire, or have the task do it."""
        if self._busy or self._closed or self._failed:
            return
        if self._socket is None:
            self._work.set()
            return
        try:
            while self._unwritten or self._fetch():
                self._write_some(self._socket.fileno())
        except BlockingIOError:
            self._work.set()
        except OSError:
            self._failed = True
            self._work.set()

    async def wait_written(self) -> None:
        """Wait until all is written that there is to send, or nothing more can be."""
        while not (self._closed or self._failed or (self.all_written and not self._work.is_set())):
            if self._written.is_set():
                self._written = trio.Event()
            await self._written.wait()
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def run(self) -> None:
        """Write until writing fails, which is when this returns."""
        try:
            while True:
                await self._work.wait()
                if self._failed:
                    return
                self._work = trio.Event()
                await self._write()
        finally:
            self._failed = True
            self._written.set()

    async def _write(self) -> None:  # noqa: ASYNC910 - only `run` calls it, and waits before
        self._busy = True
        try:
            while self._unwritten or self._fetch():
                if self._socket is not None:
                    await trio.lowlevel.wait_writable(self._socket)
                    self._write_some(self._socket.fileno())
                else:
                    buffers, self._unwritten = self._unwritten, []
                    await self._stream.send_all(b"".join(buffers))
        except BlockingIOError:
            self._work.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._failed = True
            self._work.set()
        finally:
            self._busy = False
            self._written.set()

    def _fetch(self) -> bool:
        if not self._http2.wants_to_send:
            return False
        self._unwritten = self._http2.data_to_send()
        if self._progress:
            self._progress.unpark_all()
        return bool(self._unwritten)

    def _write_some(self, descriptor: int) -> None:
        """Write what one system call takes of what is unwritten."""
        written = os.writev(descriptor, self._unwritten[:_MAX_BUFFERS_PER_WRITE])
        if written == sum(map(len, self._unwritten)):
            self._unwritten = []
            return
        for index, buffer in enumerate(self._unwritten):
            if written < len(buffer):
                rest = memoryview(buffer)[written:] if written else buffer
                self._unwritten = [rest, *self._unwritten[index + 1 :]]
                return
            written -= len(buffer)
        self._unwritten = []
