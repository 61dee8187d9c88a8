"""How far a connection has come, and how it ends: in peace or at once, by us or by the server.

A connection goes through the states of `state.State`, forward only, and in one place (`_enter`). It takes no
new calls any more (`retire`), and then it is gone: in peace by `aclose`, at once by `abort`, or because the
byte stream has ended. Whichever comes first says why, in `loss`. A connection that is lost never raises out
of its tasks: the receivers of its calls are told, and whoever waits in `watch`. It is not reopened: a new one
is a new `Connection`.

A server that has died in silence is found here, too, by PINGs. This module must not know what is called, what
the server says, or which byte stream is below: `connection` adds that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

from ..signal import Signal
from .ending import EndCause, Ending
from .http2 import Http2Client, Http2Stream
from .keepalive import Keepalive
from .receiver import CallInterrupted
from .state import State
from .writer import Writer

__all__ = ["ConnectionLife"]

_MOST_PINGS_WITHOUT_ANSWER: Final = 3


class ConnectionLife:
    """The life of one connection, for whoever keeps it.

    Args:
        http2: has the streams, which are reset when it ends.
        writer: puts what `http2` has to send on the byte stream.
        peer: who is at the other end, for messages.
        progress: sent when something of the requests' bodies was taken to be written, or never will be.
        scope: what its tasks live in. They set `_ended` when they have ended.

    Attributes:
        peer: see above.
        state: how far it has come.
        accepts_calls: a new call has a chance here: the connection stands, and takes new calls.
        loss: why it takes no new calls; None as long as it does. The first reason stays: where the server
            said GOAWAY and then closed, that is the GOAWAY.
        on_retired: called when it takes no new calls any more, maybe more than once; or None.
        pings_without_answer: PINGs sent since the last piece of any call's answer. Servers take offence
            at many.
    """

    def __init__(
        self,
        http2: Http2Client,
        writer: Writer,
        *,
        peer: str,
        progress: Signal,
        scope: trio.CancelScope,
    ) -> None:
        self.peer = peer
        self.state = State.STARTING
        self.accepts_calls = True
        self.loss: Ending | None = None
        self.on_retired: Callable[[], None] | None = None
        self.pings_without_answer = 0
        self._http2 = http2
        self._writer = writer
        self._progress = progress
        self._scope = scope
        self._ready = trio.Event()  # the server's SETTINGS came, or it is lost
        self._retired = trio.Event()  # `loss` is known
        self._ended = trio.Event()  # the tasks have ended
        self._fell_idle = Signal()  # the last open call may have ended
        self._keepalive = Keepalive(self._send_ping)

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.state is State.LOST

    @property
    def idle(self) -> bool:
        """Whether no call is open on it."""
        return self._http2.idle

    @property
    def too_many_pings(self) -> bool:
        """Whether the server has retired it because of our PINGs."""
        return self.loss is not None and self.loss.cause is EndCause.TOO_MANY_PINGS

    @property
    def all_written(self) -> bool:
        """Whether nothing that was taken to be sent is still here: the kernel has it."""
        return self._writer.all_written

    @property
    def may_ping(self) -> bool:
        """Whether the server would accept one more PING: nodes close the connection at the fifth."""
        return self.pings_without_answer < _MOST_PINGS_WITHOUT_ANSWER

    async def wait_ready(self) -> None:
        """Wait for the server's SETTINGS, before which nobody can say that it speaks HTTP/2.

        Raises:
            ConnectionError: the connection was lost first.
        """
        await self._ready.wait()
        if self.lost:
            raise ConnectionError(f"{self.peer}: {self.loss}")

    @enable_ki_protection
    async def ping(self, timeout: float, beside: Callable[[], None] = lambda: None) -> bool:
        """Whether the server gives a sign of life within `timeout` seconds after a PING.

        Args:
            timeout: seconds.
            beside: sends something else; that and the PING are one write.
        """
        self.pings_without_answer += 1
        return await self._keepalive.ping(timeout, beside) and not self.lost

    @enable_ki_protection
    async def watch(self, interval: float = math.inf, timeout: float = 20.0) -> None:
        """Wait until the connection takes no new calls; `loss` then says why.

        A connection that died in silence is found by a PING, but only where calls are open and nothing
        came: nodes answer PINGs on idle connections with GOAWAY after the third.

        Args:
            interval: seconds of silence before a PING; `math.inf` for none.
            timeout: seconds in which its answer must come, else the connection is lost.
        """
        await trio.lowlevel.checkpoint()
        while not self._retired.is_set():
            silent = await self._keepalive.wait_silent(interval, self._retired)
            if silent and self.accepts_calls and not self.idle and not await self.ping(timeout):
                self.abort_silent(timeout)

    @enable_ki_protection
    def abort(self, reason: str, *, cause: EndCause = EndCause.CLOSED_BY_US) -> None:
        """Give the connection up at once: calls on it are interrupted, the socket closes without goodbye.

        Args:
            reason: why, in words for people.
            cause: why.
        """
        self._lose(Ending(cause, reason))
        self._writer.close()
        self._scope.cancel()

    def abort_silent(self, timeout: float) -> None:
        """Give the connection up: the server gave no sign of life within `timeout` seconds."""
        self.abort(f"no answer to a PING within {timeout:g} s", cause=EndCause.NO_ANSWER_TO_PING)

    @enable_ki_protection
    def retire(self, reason: str, *, cause: EndCause = EndCause.RETIRED) -> None:
        """Take no new calls; those that are open may end.

        The server isn't told before `aclose`: on a GOAWAY some, those on h2 for one, drop the open calls.
        The arguments are those of `abort`.
        """
        self._retire(Ending(cause, reason))

    @property
    def holds_unsent(self) -> bool:
        """Whether anything of a guarded request is still here: the kernel does not have all of it."""
        guarded = [stream for stream in self._http2.streams if stream.may_send is not None]
        return any(not stream.sent for stream in guarded) or (bool(guarded) and not self.all_written)

    @enable_ki_protection
    def retire_unsent(self, reason: str) -> None:
        """Take no new calls, and let only those go on that wait for the answer to a guarded request.

        All others end: what of a guarded request was not handed over is not sent, and a stream of answers
        that has begun could go on for ever. But where the writer is stuck, nobody can say how much of which
        request the kernel has: then the connection ends at once.

        Args:
            reason: why, in words for people.
        """
        ending = Ending(EndCause.RETIRED, reason)
        if self.holds_unsent and not self.all_written:
            self.abort(reason, cause=EndCause.RETIRED)
        self._retire(ending)
        for stream in self._http2.streams:
            if stream.may_send is None or not stream.sent or stream.brings_messages:
                self._cut_off(stream, ending)
        self._writer.flush()
        self._progress.send()
        self._fell_idle.send()

    async def wait_idle(self) -> None:
        """Wait until no call is open on a connection that takes no new ones; no checkpoint if none is."""
        await self._fell_idle.wait_until(lambda: self.idle or self.lost)

    @enable_ki_protection
    async def finish(self, grace: float = 1.0) -> None:
        """Take no new calls, wait until those that are open have ended, and close; see `aclose`."""
        try:
            self.retire("the connection is being closed", cause=EndCause.CLOSED_BY_US)
            await trio.lowlevel.checkpoint()
            await self.wait_idle()
        finally:
            await self.aclose(grace)  # noqa: ASYNC102 - which shields itself, for `grace` seconds

    @enable_ki_protection
    async def aclose(self, grace: float = 1.0, *, reason: str = "the connection was closed") -> None:
        """End the connection: calls are reset, GOAWAY is sent, the socket is closed. Idempotent.

        A request that still waited for its turn is not sent: its call is interrupted as unprocessed.

        Args:
            grace: the seconds that a peer which does not read can make this take. Cancellation is
                put off until it is done.
            reason: what open calls are told.
        """
        ending = Ending(EndCause.CLOSED_BY_US, reason)
        with trio.CancelScope(shield=True):
            if not self.lost:
                self._say_goodbye(ending)
            with trio.move_on_after(grace):
                await self._writer.wait_written()
            self.abort(ending.detail)
            await self._ended.wait()

    def _enter(self, state: State) -> None:
        """Go on to a state, unless the connection has come further already."""
        if state > self.state:
            self.state = state
            self.accepts_calls = state <= State.OPEN

    def _retire(self, ending: Ending, state: State = State.RETIRING) -> None:
        self.loss = self.loss or ending
        self._enter(state)
        self._retired.set()
        if self.on_retired is not None:
            self.on_retired()

    def _say_goodbye(self, ending: Ending) -> None:
        """Take no new calls, reset the open ones, and tell the server."""
        self._retire(ending, State.CLOSING)
        self._http2.refuse_streams()  # or a reset would make room for a request that waits, and send it
        self._interrupt_calls(ending)
        self._http2.close()
        self._writer.finish()
        self._writer.flush()

    def _lose(self, ending: Ending, *, last_words: bool = False) -> None:
        """Note that the connection is gone, and tell everybody who waits on it. The first time counts.

        With `last_words`, there is something to be written yet.
        """
        if self.lost:
            return
        if ending.cause is EndCause.TOO_MUCH_WORK:
            self.loss = ending  # who says GOAWAY first and then sends too much has not retired in peace
        self._retire(ending, State.LOST)
        if not last_words:
            self._writer.close()
        assert self.loss is not None
        self._interrupt_calls(self.loss)
        self._ready.set()
        self._keepalive.give_up()

    def _send_ping(self, payload: bytes, beside: Callable[[], None]) -> None:
        self._http2.ping(payload)
        beside()
        self._writer.flush()
        if self.lost:
            self._keepalive.give_up()

    def _interrupt_calls(self, ending: Ending) -> None:
        for stream in self._http2.streams:
            self._cut_off(stream, ending)
        self._progress.send()
        self._fell_idle.send()

    def _cut_off(self, stream: Http2Stream, ending: Ending) -> None:
        receiver, unprocessed = stream.receiver, not stream.id
        stream.receiver = None
        self._http2.reset_stream(stream)
        if receiver is not None:
            receiver.interrupted(CallInterrupted(ending, unprocessed=unprocessed))
