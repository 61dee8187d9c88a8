"""What a shard has to say, in order, and the one task that sends it.

Nobody waits to say something. Results are kept until the way takes them, since they are there already, and
rounds end. A renewal goes before all that waits: a lease must not end because answers are long. The log comes
last, and is bounded: a shard that logs more than the way takes loses records, and says how many.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

from ..signal import Signal
from ..text import named_error
from .engine import ShardLost
from .messages import FromShard, Logged
from .wire import encode

__all__ = ["ForwardedLog", "Outbox"]

_MOST_RECORDS: Final = 1000
_LONGEST_RECORD: Final = 1 << 16
"""Characters. A traceback is shorter."""


class Outbox:
    """Sends what a shard has to say.

    Args:
        send: sends the bytes of one message.

    Attributes:
        closed: nothing more can be sent.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._urgent: deque[FromShard] = deque()
        self._messages: deque[FromShard] = deque()
        self._log: deque[Logged] = deque()
        self._dropped = 0
        self._sending = False
        self.closed = False
        self._changed = Signal()
        self._emptied = Signal()

    def put(self, message: FromShard) -> None:
        """Say something, after all that was said by this before."""
        if self.closed:
            return
        self._messages.append(message)
        self._changed.send()

    def put_first(self, message: FromShard) -> None:
        """Say something before all that waits."""
        if self.closed:
            return
        self._urgent.append(message)
        self._changed.send()

    def put_log(self, record: Logged) -> None:
        """Say what was logged, once there is nothing else to say. Any thread may call this, then `wake`."""
        if len(self._log) < _MOST_RECORDS:
            self._log.append(record)
        else:
            self._dropped += 1

    def wake(self) -> None:
        """Send what was logged."""
        self._changed.send()

    def close(self) -> None:
        """Nothing more can be sent. What waits is dropped, since the way may have only half gone."""
        self.closed = True
        for waiting in (self._urgent, self._messages):
            waiting.clear()
        self._emptied.send()

    async def flush(self) -> None:
        """Wait until everything is sent, or nothing more can be."""
        await self._emptied.wait_until(lambda: self.closed or not (self._sending or self._has_work()))
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def run(self) -> None:
        """Send, until cancelled.

        Raises:
            ShardLost: `send` has raised.
            WireError: a message could not be sent, and is left out. It is a bug. This may be run again.
        """
        while True:
            await self._changed.wait_until(self._has_work)
            message = encode(self._next())
            self._sending = True
            try:
                await self._send(message)
            except Exception as error:
                raise ShardLost(named_error(error)) from error
            finally:
                self._sending = False
                self._emptied.send()

    def _has_work(self) -> bool:
        return bool(self._urgent or self._messages or self._log or self._dropped)

    def _next(self) -> FromShard:
        for waiting in (self._urgent, self._messages):
            if waiting:
                return waiting.popleft()
        if self._log:
            return self._log.popleft()
        dropped, self._dropped = self._dropped, 0
        text = f"{dropped} more records were not sent, since there were too many"
        return Logged(logging.WARNING, "trio_model_runner.sharding", text)


_shard: ContextVar[object] = ContextVar("_shard", default=None)


class ForwardedLog(logging.Handler):
    """Sends what is logged in one shard's tasks and threads to the driver.

    Several shards of a test may be tasks of one process. So a record is a shard's if it was logged in the
    context of that shard.

    Args:
        outbox: sends it.
    """

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox
        self._token = trio.lowlevel.current_trio_token()
        _shard.set(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if _shard.get() is not self:
            return
        try:
            text = self.format(record)[:_LONGEST_RECORD]
            self._outbox.put_log(Logged(record.levelno, record.name, text))
            self._token.run_sync_soon(self._outbox.wake, idempotent=True)
        except trio.RunFinishedError:
            pass
        except Exception:
            self.handleError(record)
