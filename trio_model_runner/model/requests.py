"""What the models of a round are sent: one request for all, encoded once, or one that is made for each.

The coordinator's arguments meet the wire here. Those for all are encoded before anything is sent, so that a
refusal is the coordinator's, at once. A function that makes them for each model runs in that model's own
call, so that its exception is that model's result, and costs no other model anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..values.data import Arguments
from ..workers import run_in_worker
from .callbacks import call_interruptibly

if TYPE_CHECKING:
    from ..services.base import Request
    from .handle import ModelRunner

__all__ = ["Requests", "check_size"]


def check_size(request: Request, limit: int) -> None:
    """Refuse a request that no node would take.

    Raises:
        ValueError: it has more than `limit` bytes.
    """
    if request.size > limit:
        raise ValueError(f"arguments: {request.size} bytes, more than limits.max_message_bytes, {limit}")


class Requests:
    """The requests of one round.

    Args:
        make: makes the request that carries these arguments; raises TypeError or ValueError for some.
        arguments: for all models, or a function that makes them for each.
        max_message_bytes: the largest request that is sent, bytes.

    Attributes:
        same: the request where it is the same for all models, once `prepare` has made it.

    Raises:
        TypeError: `arguments` is neither.
    """

    __slots__ = ("_arguments", "_make", "_max_message_bytes", "same")

    def __init__(
        self,
        make: Callable[[Arguments], Request],
        arguments: Arguments | Callable[[ModelRunner], Any],
        max_message_bytes: int,
    ) -> None:
        if not (isinstance(arguments, Arguments) or callable(arguments)):
            raise TypeError(
                "arguments: must be Arguments, or a function that takes a ModelRunner and returns them, "
                f"got {type(arguments).__name__}"
            )
        if inspect.iscoroutinefunction(arguments):
            raise TypeError("arguments: must be a plain function, not an async one")
        self._make = make
        self._arguments = arguments
        self._max_message_bytes = max_message_bytes
        self.same: Request | None = None

    async def prepare(self) -> None:
        """Make the request that is the same for all, if it is. No checkpoint where the values are small.

        Raises:
            TypeError: an argument has no encoding, or the service can't carry it.
            ValueError: an argument is out of range, or the request is too large.
        """
        if self.same is None and isinstance(self._arguments, Arguments):
            self.same = await self._encode(self._arguments)

    async def for_model(self, model: ModelRunner) -> Request:
        """The request for one model, where there is none for all. No checkpoint where the values are small.

        Raises:
            Exception: whatever the coordinator's function raises, or what it made can't be sent.
        """
        assert callable(self._arguments)
        arguments = call_interruptibly(self._arguments, model)
        if not isinstance(arguments, Arguments):
            raise TypeError(f"arguments: must return Arguments, got {type(arguments).__name__}")
        return await self._encode(arguments)

    async def _encode(self, arguments: Arguments) -> Request:
        if arguments.takes_long_to_encode:
            await run_in_worker(arguments.encode)
        request = self._make(arguments)
        check_size(request, self._max_message_bytes)
        return request
