"""The results of a round, one after the other as they come, and at the end the round itself.

This module must not know how calls are made: `caller` plays the round and tells its results here.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Generic

import trio
from trio.lowlevel import enable_ki_protection
from typing_extensions import TypeVar

from ..values.prediction_round import PredictionRound
from ..values.results import PredictResult

__all__ = ["ResultsAsCompleted"]

T = TypeVar("T", default=Any)


class ResultsAsCompleted(Generic[T]):
    """An async iterator over the results of a round, in the order in which they come.

        async with cluster.as_completed("predict") as results:
            async for result in results:
                ...
        print(results.round)

    Several tasks may iterate; each result goes to one of them.

    Attributes:
        id: the round's id, for logs.
        missing: the ids in ``models=`` that have never been announced. They have no result.
    """

    def __init__(self) -> None:
        self.id = ""
        self.missing: tuple[str, ...] = ()
        self._round: PredictionRound[T] | None = None
        self._send, self._receive = trio.open_memory_channel[PredictResult[T]](math.inf)

    @property
    def round(self) -> PredictionRound[T]:
        """All results, once the iteration has come to its end.

        Raises:
            RuntimeError: results are still to come, or the block was left before they came.
        """
        if self._round is None:
            raise RuntimeError(f"round {self.id} has not ended: `round` is there when all results have come")
        return self._round

    if not TYPE_CHECKING:  # type checkers know by themselves that this is wrong

        def __iter__(self):
            raise RuntimeError("use `async for ... in results:`, not `for`")

    def __aiter__(self) -> ResultsAsCompleted[T]:
        return self

    @enable_ki_protection
    async def __anext__(self) -> PredictResult[T]:
        try:
            return await self._receive.__anext__()
        except trio.ClosedResourceError:
            raise trio.ClosedResourceError(
                f"round {self.id}: no more results are taken, since the block was left, or after `aclose`"
            ) from None

    async def aclose(self) -> None:
        """Take no more results, without leaving the block."""
        await self._receive.aclose()

    def deliver(self, result: PredictResult[T]) -> None:
        """Take a result. Nobody waits for it any more if the block was left."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._send.send_nowait(result)

    def note_end(self, ended: PredictionRound[T] | None) -> None:
        """Take the round, if it came to its end: no more results will come."""
        self._round = ended
        self._send.close()

    def close(self) -> None:
        """The block was left: results that nobody has taken are dropped."""
        self._receive.close()
