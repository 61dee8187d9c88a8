"""The one writer of a connection, which writes at once where it can.

A task that is cancelled in the middle of `send_all` leaves half a frame on the wire, and with it corrupts
every other stream of the connection. So nobody who can be cancelled ever writes: callers change the state of
the `http2.Http2Client` and `flush`. On a socket that hands the bytes to the kernel right there, encrypted if
need be, with no task switch. What the kernel doesn't take is written when it has room: a `reader.SocketHub`
says when, or else the task in `run`. Everything on other streams is left to that task.

**A write that fails is no end of the connection yet.** What the peer said before, be it answers, a GOAWAY
or a TLS alert, still lies unread, and says better what happened than "broken pipe" does. So the reader may go
on for a moment.
"""

from __future__ import annotations

import os
import ssl
from functools import partial
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

from ..network.tls_codec import TLSCodec
from ..signal import Signal
from .http2 import Buffer, Http2Client
from .reader import SocketHub

__all__ = ["Writer"]

_LAST_READ_SECONDS: Final = 1.0
_MAX_BUFFERS_PER_WRITE: Final = 1024  # IOV_MAX on Linux and macOS


class Writer:
    """Puts what an `Http2Client` has to send on a byte stream.

    Args:
        stream: where to.
        tls: encrypts it, if not None.
        hub: waits for room in sockets. Without it, and for streams that are none, `run` must run.
        http2: what says what is to be sent.
        progress: sent whenever something was taken from `http2` to be written.
        scope: what the connection lives in: it is cancelled a moment after writing has failed.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        tls: TLSCodec | None,
        hub: SocketHub | None,
        http2: Http2Client,
        progress: Signal,
        scope: trio.CancelScope,
    ) -> None:
        self._stream = stream
        self._tls = tls
        self._hub = hub
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._http2 = http2
        self._progress = progress
        self._scope = scope
        self._unwritten: list[Buffer] = []
        self._busy = False  # or waits for room
        self._finishing = False
        self._closed = False
        self._failed = False
        self._has_work = False  # for the task
        self._work = Signal()
        self._settled = Signal()  # all is written, or nothing more will be

    @property
    def all_written(self) -> bool:
        """Whether nothing that was taken to be sent is still here: the kernel has it."""
        return not (self._unwritten or self._busy)

    def finish(self) -> None:
        """Have TLS say goodbye when all is written that there is to send; later, nothing is."""
        self._finishing = True

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        if self._busy and self._hub is not None and self._socket is not None:
            self._hub.forget_writer(self._socket.fileno())
        self._settled.send()

    @property
    def idle(self) -> bool:
        """Whether what is `put` is written at once; a task would take it from `http2` as late as it can."""
        if self._socket is None or self._unwritten or self._busy:
            return False
        return not (self._has_work or self._closed or self._failed)

    def put(self, data: bytes) -> None:
        """Put on the wire what came from `Http2Client.send_whole`; only if this is `idle`."""
        self._unwritten = [data]  # if that can't be encrypted, it is not written
        if self._tls is not None:
            try:
                self._unwritten = self._encrypted(self._tls, [data])
            except ssl.SSLError:
                self._fail()
        self.flush()

    @property
    def has_more(self) -> bool:
        """Whether there may be something to `flush`."""
        return self._http2.wants_to_send or (self._tls is not None and self._tls.wants_to_send)

    def flush(self) -> None:
        """Put what there is to send on the wire, or have it done when that is possible."""
        if self._busy or self._closed or self._failed:
            return
        if self._socket is None:
            self._give_to_task()
            return
        try:
            while self._unwritten or self._fetch():
                self._write_some(self._socket.fileno())
        except BlockingIOError:
            self._wait_for_room(self._socket)
        except OSError:
            self._fail()

    def _wait_for_room(self, socket: trio.socket.SocketType) -> None:
        if self._hub is None:
            self._give_to_task()
            return
        self._busy = True
        if not self._hub.write_when_possible(socket, partial(self._write_on, socket)):
            self._fail()

    def _write_on(self, socket: trio.socket.SocketType) -> bool:
        """Write once, for the hub; say whether there is more."""
        try:
            self._write_some(socket.fileno())
            self._busy = bool(self._unwritten) or self._fetch()
        except BlockingIOError:
            pass
        except OSError:
            self._fail()
        if not self._busy:
            self._settled.send()
        return self._busy

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
        self._busy = False
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + _LAST_READ_SECONDS)
        self._work.send()
        self._settled.send()

    @enable_ki_protection
    async def run(self) -> None:
        """Write what nobody else does, until writing fails."""
        while not self._failed:
            await self._work.wait_until(lambda: self._has_work or self._failed)
            self._has_work = False
            if not self._failed:
                await self._write()

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
            self._fail()
        finally:
            self._busy = False
            self._settled.send()

    def _fetch(self) -> bool:
        """Take the next piece that is to be written, if there is one."""
        if self._http2.wants_to_send:
            data = self._unwritten = self._http2.data_to_send()  # if it can't be encrypted, it is not written
            self._progress.send()
        elif self._tls is None:
            return False
        else:
            data = []
        self._unwritten = data if self._tls is None else self._encrypted(self._tls, data)
        return bool(self._unwritten)

    def _encrypted(self, tls: TLSCodec, data: list[Buffer]) -> list[Buffer]:
        if tls.said_goodbye:
            return []
        encrypted = tls.encrypt(data)
        return tls.say_goodbye() if self._finishing and not encrypted else encrypted

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
