"""Rounds: the same call on many models at once, and one result from each by the deadline.

A round takes its members and their places in the queues before its first checkpoint. So a model that has just
joined is either in it or not, and never half; that is what makes a catch-up in `on_join` exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from ..model.call import Call
from ..model.fan_out import fan_out
from ..model.requests import Requests
from ..model.round_spec import RoundSpec
from ..values.prediction_round import PredictionRound
from ..values.results import PredictResult

if TYPE_CHECKING:
    from ..model.actor import ModelActor

__all__ = ["Round"]


class Round:
    """One round. Making it takes the members and their places, without a checkpoint.

    After that comes `prepare`, and if that raised nothing, `play`.

    Args:
        round_id: the round's id.
        spec: what is asked.
        requests: what is sent.
        members: whom, each once.
        missing: ids that were asked for and never announced.
        scope_margin: seconds before the deadline of an enclosing scope at which the round ends.
        call_type: what makes the calls.
        on_result: told each result, as it comes.
        may_be_joining: a model that `on_join` is catching up is called, too.
    """

    def __init__(
        self,
        round_id: str,
        spec: RoundSpec,
        requests: Requests,
        members: Sequence[ModelActor],
        missing: Sequence[str] = (),
        *,
        scope_margin: float,
        call_type: type[Call] = Call,
        on_result: Callable[[PredictResult[Any]], None] | None = None,
        may_be_joining: bool = False,
    ) -> None:
        self._id = round_id
        self._spec = spec
        self._requests = requests
        self._members = members
        self._missing = missing
        self._started_at = time.time()
        self._began = trio.current_time()
        # An enclosing deadline that is nearer would turn the answers into a `Cancelled`.
        enclosing = trio.current_effective_deadline() - scope_margin
        self._cutoff = trio.CancelScope(deadline=min(spec.deadline, enclosing))
        self._preparation = trio.CancelScope(deadline=self._cutoff.deadline)
        self._calls = [
            call_type(actor, spec, requests, on_result=on_result, may_be_joining=may_be_joining)
            for actor in members
        ]

    def end_by(self, deadline: float) -> None:
        """Cut the round off at this time on Trio's clock, in seconds, if that is sooner."""
        for scope in (self._preparation, self._cutoff):
            scope.deadline = min(scope.deadline, deadline)

    async def prepare(self) -> None:
        """Encode what is the same for all models, before anything is sent. No checkpoint if that is little.

        Raises:
            TypeError: an argument has no encoding, or the service can't carry it.
            ValueError: an argument is out of range, or the request is too large.
        """
        try:
            with self._preparation:
                await self._requests.prepare()
        except BaseException:
            for call in self._calls:
                call.leave()
            raise

    async def play(self) -> PredictionRound[Any]:
        """Make the calls and return their results, by the deadline.

        Raises:
            RuntimeError: a result is missing, which is a bug.
        """
        if self._preparation.cancelled_caught:
            for call in self._calls:
                call.leave()
                call.expire(cut_short=True)
            await trio.lowlevel.checkpoint()
        else:
            await fan_out(self._calls, self._cutoff)
        results = {call.result.model: call.result for call in self._calls if call.result is not None}
        if len(results) != len(self._members):
            raise RuntimeError(f"round {self._id} has {len(results)} results of {len(self._members)} members")
        return PredictionRound(
            results,
            id=self._id,
            method=self._spec.method,
            started_at=self._started_at,
            elapsed=trio.current_time() - self._began,
            timeout=self._spec.timeout,
            missing=self._missing,
        )
