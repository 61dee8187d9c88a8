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

from ..signal import Signal
from .http2 import Buffer, Http2Client

__all__ = ["Writer"]

_MAX_BUFFERS_PER_WRITE: Final = 1024  # IOV_MAX on Linux and macOS


class Writer:
    """Puts what an `Http2Client` has to send on a byte stream.

    Args:
        stream: where to.
        http2: what says what is to be sent.
        progress: sent whenever something was taken from `http2` to be written.
    """

    def __init__(self, stream: trio.abc.Stream, http2: Http2Client, progress: Signal) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._http2 = http2
        self._progress = progress
        self._unwritten: list[Buffer] = []
        self._busy = False
        self._closed = False
        self._failed = False
        self._has_work = False  # for the task
        self._work = Signal()
        self._settled = Signal()  # all is written, or nothing more will be

    @property
    def all_written(self) -> bool:
        """Whether nothing that was taken to be sent is still here: the kernel has it."""
        return not (self._unwritten or self._busy)

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        self._settled.send()

    @property
    def idle(self) -> bool:
        """Whether nothing is in the way of `put`."""
        return not (self._unwritten or self._busy or self._has_work or self._closed or self._failed)

    def put(self, data: bytes) -> None:
        """Put on the wire what came from `Http2Client.send_whole`; only if this is `idle`."""
        self._unwritten = [data]
        self.flush()

    def flush(self) -> None:
        """Put what there is to send on the wire, or have the task do it."""
        if self._busy or self._closed or self._failed:
            return
        if self._socket is None:
            self._give_to_task()
            return
        try:
            while self._unwritten or self._fetch():
                self._write_some(self._socket.fileno())
        except BlockingIOError:
            self._give_to_task()
        except OSError:
            self._fail()

    async def wait_written(self) -> None:
        """Wait until all is written that there is to send, or nothing more can be."""
        await self._settled.wait_until(self._is_settled)
        await trio.lowlevel.checkpoint()

    def _is_settled(self) -> bool:
        return self._closed or self._failed or (self.all_written and not self._has_work)

    def _give_to_task(self) -> None:
        self._has_work = True
        self._work.send()

    def _fail(self) -> None:
        self._failed = True
        self._work.send()

    async def run(self) -> None:
        """Write until writing fails, which is when this returns."""
        try:
            while not self._failed:
                await self._work.wait_until(lambda: self._has_work or self._failed)
                self._has_work = False
                if not self._failed:
                    await self._write()
        finally:
            self._failed = True
            self._settled.send()

    async def _write(self) -> None:
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
            self._has_work = True
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._failed = True
        finally:
            self._busy = False
            self._settled.send()

    def _fetch(self) -> bool:
        if not self._http2.wants_to_send:
            return False
        self._unwritten = self._http2.data_to_send()
        self._progress.send()
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
